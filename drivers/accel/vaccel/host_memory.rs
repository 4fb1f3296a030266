// SPDX-License-Identifier: GPL-2.0-only

//! Allocations in memory of the host.
//!
//! What the memory is for stands in driver data that only the host's driver and its user-mode side
//! understand; the host says how large it became. The CPU sees it through a
//! [`View`](crate::view::View).
//!
//! # Sharing
//!
//! The vm that made a shareable object has a resource of the host with the allocation in it. Another
//! vm opens it by a name, which the driver asks for once and keeps as long as the object. The first
//! allocation, the *home*, stays as long as the object too: the CPU's view is of it.

use kernel::prelude::*;
use kernel::sync::{
    Arc,
    SetOnce, //
};

use crate::allocation::{
    Allocation,
    Usage, //
};
use crate::bindings::uapi;
use crate::device::Device;
use crate::gpupv::{
    self,
    AllocationFlags,
    AllocationInfo,
    CreateAllocationFlags,
    CreateAllocationTail,
    Handle,
    List,
    NtStatus,
    Request, //
};
use crate::host_error::{
    HostError,
    HostResult, //
};
use crate::io::CacheMode;
use crate::memory_charge::Segment;
use crate::reaper::Owned;
use crate::release::What;

/// The host's side of an object in its memory.
pub(crate) struct HostMemory {
    // Dropped first: the name of a resource goes before the resource.
    name: SetOnce<Owned>,
    pub(crate) home: Arc<Allocation>,
    /// The resource to share, or none.
    resource: Handle,
    pub(crate) size: u64,
    pub(crate) mode: CacheMode,
    pub(crate) shareable: bool,
    usage: Arc<Usage>,
}

/// What is asked of the host.
pub(crate) struct Wanted<'a> {
    /// Bytes.
    pub(crate) size: u64,
    /// `VACCEL_BO_*` flags.
    pub(crate) flags: u32,
    /// How the CPU wants to see it.
    pub(crate) mode: CacheMode,
    /// Opaque driver data.
    pub(crate) data: &'a [u8],
}

impl HostMemory {
    /// Has the host make memory; gives the host's driver data to `data`.
    ///
    /// # Errors
    ///
    /// `EREMOTEIO` if the host made less than wanted, or memory that the CPU cannot see in the way
    /// wanted; `EIO` if it made no resource for what is to be shared; others of the host.
    pub(crate) fn new(
        device: &Arc<Device>,
        wanted: &Wanted<'_>,
        data: impl FnOnce(&[u8]) -> Result,
        usage: &Arc<Usage>,
    ) -> HostResult<Self> {
        let shareable = wanted.flags & uapi::VACCEL_BO_SHAREABLE != 0;
        let info = [AllocationInfo {
            // CAST: at most VACCEL_PRIV_SIZE_MAX.
            priv_drv_data_size: wanted.data.len() as u32,
            ..Default::default()
        }];
        let request = Request::new(
            gpupv::CreateAllocation {
                device: device.handle(),
                flags: creation_flags(wanted, shareable),
                ..Default::default()
            },
            CreateAllocationTail {
                infos: List::new(&info),
                runtime_data: &[],
                resource_data: &[],
                allocation_data: wanted.data,
            },
        )?;
        let what = release_of(device, shareable);
        let (owned, (resource, size, mode)) = device.process.create(&request, what, |answer| {
            let entry = answer.tail.entries.first().ok_or(HostError::PROTOCOL)?;
            if shareable && answer.reply.resource.is_none() {
                return Err(HostError::PROTOCOL);
            }
            data(answer.tail.data)?;
            let mode = if entry.flags.contains(AllocationFlags::CACHED) {
                CacheMode::WriteBack
            } else {
                CacheMode::WriteCombined
            };
            Ok((answer.reply.resource, entry.size, mode))
        })?;
        let fits = size >= wanted.size && size % gpupv::PAGE_SIZE == 0 && mode == wanted.mode;
        if !fits {
            return Err(HostError {
                errno: EREMOTEIO,
                status: NtStatus::SUCCESS,
            });
        }
        let segment = Segment::Local;
        Ok(Self {
            name: SetOnce::new(),
            home: Allocation::new(device.clone(), owned, size, segment, usage.clone())?,
            resource,
            size,
            mode,
            shareable,
            usage: usage.clone(),
        })
    }

    /// Opens the memory for another device of the same adapter.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not shareable; those of the host.
    pub(crate) fn open(&self, device: &Arc<Device>) -> HostResult<Arc<Allocation>> {
        if !self.shareable {
            return Err(EINVAL.into());
        }
        let request = Request::from(gpupv::OpenResource {
            device: device.handle(),
            nt_security_sharing: true.into(),
            global_share: self.name()?,
            allocation_count: 1,
            ..Default::default()
        });
        let what = release_of(device, true);
        let (owned, ()) = device.process.create(&request, what, |_| Ok(()))?;
        Ok(Allocation::new(
            device.clone(),
            owned,
            self.size,
            Segment::Local,
            self.usage.clone(),
        )?)
    }

    /// The name of the resource in the VM.
    fn name(&self) -> HostResult<Handle> {
        if let Some(name) = self.name.as_ref() {
            return Ok(name.handle());
        }
        let request = Request::from(gpupv::CreateNtSharedObject {
            object: self.resource,
            _pad: 0,
        });
        let what = What::SharedName(Handle::NONE);
        let (name, ()) = self
            .home
            .device
            .process
            .create(&request, what, |_| Ok(()))?;
        let handle = name.handle();
        // Somebody else may have been faster: either name will do, and one is kept.
        if self.name.populate(name) {
            return Ok(handle);
        }
        Ok(self.name.as_ref().ok_or(EIO)?.handle())
    }
}

fn creation_flags(wanted: &Wanted<'_>, shareable: bool) -> CreateAllocationFlags {
    let mut flags = match wanted.mode {
        CacheMode::WriteBack => CreateAllocationFlags::CREATE_CACHED,
        CacheMode::WriteCombined => CreateAllocationFlags::CREATE_WRITE_COMBINED,
    };
    if wanted.flags & uapi::VACCEL_BO_READ_ONLY != 0 {
        flags = flags | CreateAllocationFlags::READ_ONLY;
    }
    if shareable {
        flags = flags
            | CreateAllocationFlags::CREATE_RESOURCE
            | CreateAllocationFlags::CREATE_SHARED
            | CreateAllocationFlags::NT_SECURITY_SHARING;
    }
    flags
}

/// How an allocation, alone or in a resource, is given back.
fn release_of(device: &Device, in_resource: bool) -> What {
    let device = device.handle();
    if in_resource {
        What::Resource {
            device,
            resource: Handle::NONE,
            allocation: Handle::NONE,
        }
    } else {
        What::Allocation {
            device,
            allocation: Handle::NONE,
        }
    }
}
