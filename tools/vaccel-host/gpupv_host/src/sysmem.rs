// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which guest pages an allocation on an existing heap has: as a GPADL or as page lists. Before
//! that, guests ask for driver data that such an allocation does not need.

use gpupv::{
    DriverStandardAllocationType, GetStandardAllocationDriverData, NtStatus, Request,
    SetExistingSysmemPages, SetExistingSysmemStore, StandardAllocationData,
    StandardAllocationDriverData,
};

use crate::call::{Call, Verdict};
use crate::env::Env;
use crate::host::{whole_pages, Host};
use crate::va::PAGE;

/// Bytes of the private data of a standard allocation.
const DATA_BYTES: usize = 16;
/// Bytes of the private data of its resource.
const RESOURCE_BYTES: usize = 8;
/// What that data starts with.
const DATA_MAGIC: [u8; 8] = *b"vaccelSA";

impl Host {
    /// The data carries nothing; a guest that insists on having some gets it.
    pub(crate) fn standard_allocation_data(
        &mut self,
        call: &Call,
        request: &Request<'_, GetStandardAllocationDriverData>,
        _env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        if body.alloc_type != DriverStandardAllocationType::GDI_SURFACE {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
        let sizes = (size(DATA_BYTES), size(RESOURCE_BYTES));
        let mut data = [0; DATA_BYTES];
        for (to, from) in data.iter_mut().zip(DATA_MAGIC) {
            *to = from;
        }
        let tail = match (body.priv_driver_data_size, body.priv_driver_resource_size) {
            (0, 0) => StandardAllocationData::default(),
            asked if asked == sizes => StandardAllocationData {
                allocation: &data,
                resource: &DATA_MAGIC,
            },
            _ => return Err(NtStatus::BUFFER_TOO_SMALL),
        };
        let reply = StandardAllocationDriverData {
            status: NtStatus::SUCCESS,
            priv_driver_data_size: sizes.0,
            priv_driver_resource_size: sizes.1,
            surface: body.surface,
        };
        call.answer(request, &reply, tail)
    }

    pub(crate) fn set_existing_sysmem_store(
        &mut self,
        call: &Call,
        request: &Request<'_, SetExistingSysmemStore>,
        env: &mut dyn Env,
    ) -> Verdict {
        let body = request.body();
        let process = self.process_mut(call.process)?;
        let allocation = process.allocation_of(call.vgpu, body.device, body.allocation)?;
        let pages = allocation.backing.pages();
        let ranges = env.gpadl(body.gpadl).ok_or(NtStatus::INVALID_HANDLE)?;
        let mut frames = Vec::new();
        for range in ranges {
            let first = range
                .gpa
                .checked_div(PAGE)
                .filter(|_| range.gpa % PAGE == 0);
            let first = first.ok_or(NtStatus::INVALID_PARAMETER)?;
            let count = whole_pages(range.len).ok_or(NtStatus::INVALID_PARAMETER)?;
            let have = u64::try_from(frames.len()).unwrap_or(u64::MAX);
            let take = count.min(pages.saturating_sub(have));
            let end = first.checked_add(take).ok_or(NtStatus::INVALID_PARAMETER)?;
            frames.extend(first..end);
        }
        if u64::try_from(frames.len()) != Ok(pages) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        allocation
            .backing
            .fill(0, frames.into_iter())
            .map_err(|_| NtStatus::INVALID_PARAMETER)?;
        let allocation = process.allocation_mut(call.vgpu, body.allocation)?;
        allocation.gpadl = Some(body.gpadl);
        let key = (body.gpadl, call.process.raw(), body.allocation.raw());
        self.by_gpadl.insert(key);
        call.done(request)
    }

    pub(crate) fn set_existing_sysmem_pages(
        &mut self,
        call: &Call,
        request: &Request<'_, SetExistingSysmemPages>,
        _env: &mut dyn Env,
    ) -> Verdict {
        if !self.config.map_guest_memory {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        let (body, frames) = (request.body(), request.tail());
        let process = self.process(call.process)?;
        let allocation = process.allocation_of(call.vgpu, body.device, body.allocation)?;
        if frames.is_empty() || frames.len() > gpupv::MAX_PAGES_PER_MESSAGE {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let first = u64::from(body.alloc_offset_in_pages);
        allocation
            .backing
            .fill(first, frames.iter())
            .map_err(|_| NtStatus::INVALID_PARAMETER)?;
        call.done(request)
    }
}
