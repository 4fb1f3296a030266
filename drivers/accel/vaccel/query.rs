// SPDX-License-Identifier: GPL-2.0-only

//! What user space can ask about the adapter: parameters, information blocks.

use kernel::prelude::*;

use crate::adapter::Adapter;
use crate::bindings::uapi;
use crate::bo::{
    self,
    ArgRef, //
};
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    AdapterCaps,
    AdapterTypeFlags,
    QueryType,
    Request, //
};
use crate::host_error::HostResult;
use crate::pinned;
use crate::uring;
use crate::watchdog;

/// What this driver does of the interface, whatever the host.
const FEATURES: u64 = uapi::VACCEL_FEATURE_ARG_SUBMIT as u64
    | uapi::VACCEL_FEATURE_FENCE_MMAP as u64
    | uapi::VACCEL_FEATURE_FENCE_SHARING as u64
    | uapi::VACCEL_FEATURE_HOST_MEMORY as u64
    | uapi::VACCEL_FEATURE_MANUAL_RESIDENCY as u64
    | uapi::VACCEL_FEATURE_EVENTS as u64
    | uapi::VACCEL_FEATURE_VA_RESERVE as u64
    | uapi::VACCEL_FEATURE_OFFER as u64
    | uapi::VACCEL_FEATURE_QUEUED_BIND as u64
    | uapi::VACCEL_FEATURE_ESCAPE as u64
    | uapi::VACCEL_FEATURE_SYNC_BRIDGE as u64;

/// `DRM_IOCTL_VACCEL_GET_PARAM`.
pub(crate) fn get_param(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_get_param,
    _file: &DrmFile,
) -> HostResult {
    if args.index != 0 && args.param != uapi::VACCEL_PARAM_SEGMENT_SIZE {
        return Err(EINVAL.into());
    }
    let adapter: &Adapter = dev;
    args.value = match args.param {
        uapi::VACCEL_PARAM_FEATURES => features(adapter),
        uapi::VACCEL_PARAM_INTERFACE_VERSION => adapter.function.version.raw().into(),
        uapi::VACCEL_PARAM_ADAPTER_LUID => adapter.function.luid.as_u64(),
        uapi::VACCEL_PARAM_HOST_ADAPTER_LUID => adapter.info.host_luid.as_u64(),
        uapi::VACCEL_PARAM_HOST_VGPU_LUID => adapter.info.vgpu_luid.as_u64(),
        uapi::VACCEL_PARAM_COMPUTE_ONLY => adapter.function.compute_only.into(),
        uapi::VACCEL_PARAM_HOST_CAPS => host_caps(adapter),
        uapi::VACCEL_PARAM_IO_SPACE_SIZE => adapter.io.size(),
        uapi::VACCEL_PARAM_BO_SIZE_MAX => bo::size_max(adapter),
        uapi::VACCEL_PARAM_RESETS => adapter.resets,
        uapi::VACCEL_PARAM_SEGMENT_SIZE => match args.index {
            uapi::VACCEL_SEGMENT_LOCAL => adapter.info.segments.0,
            uapi::VACCEL_SEGMENT_NON_LOCAL => adapter.info.segments.1,
            _ => return Err(EINVAL.into()),
        },
        uapi::VACCEL_PARAM_PIN_LIMIT => pinned::limit(),
        uapi::VACCEL_PARAM_WATCHDOG_MS => watchdog::timeout_ms().into(),
        _ => return Err(EINVAL.into()),
    };
    Ok(())
}

fn features(adapter: &Adapter) -> u64 {
    // A GPADL is of one mapping into the kernel, which dma-bufs need not have.
    let import = if adapter.takes_page_lists() {
        uapi::VACCEL_FEATURE_IMPORT.into()
    } else {
        0
    };
    let uring = if uring::AVAILABLE {
        uapi::VACCEL_FEATURE_URING.into()
    } else {
        0
    };
    FEATURES | import | uring
}

fn host_caps(adapter: &Adapter) -> u64 {
    let caps = adapter.info.caps;
    let mut bits = 0;
    for (set, bit) in [
        (
            adapter.takes_page_lists(),
            u64::from(uapi::VACCEL_HOST_CAP_PAGE_LISTS),
        ),
        (
            caps.contains(AdapterCaps::ASYNC_MSG_ENABLED),
            u64::from(uapi::VACCEL_HOST_CAP_ASYNC),
        ),
        (
            caps.contains(AdapterCaps::HW_SCH_ENABLED),
            u64::from(uapi::VACCEL_HOST_CAP_HW_QUEUES),
        ),
    ] {
        if set {
            bits |= bit;
        }
    }
    bits
}

/// `DRM_IOCTL_VACCEL_ADAPTER_QUERY`.
pub(crate) fn adapter(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_adapter_query,
    file: &DrmFile,
) -> HostResult {
    if args.pad != 0 || args.size == 0 {
        return Err(EINVAL.into());
    }
    if args.size > uapi::VACCEL_PRIV_SIZE_MAX {
        return Err(EFBIG.into());
    }
    // CAST: checked above.
    let place = ArgRef::new(file, args.arg_bo, args.arg_offset, args.size as usize)?;
    let text = match args.source {
        uapi::VACCEL_QUERY_HOST => {
            args.size = ask_host(args.type_, &place, file)?;
            return Ok(());
        }
        uapi::VACCEL_QUERY_DESCRIPTION => &dev.info.description,
        uapi::VACCEL_QUERY_INSTANCE_ID => &dev.info.instance_id,
        _ => return Err(EINVAL.into()),
    };
    if args.type_ != 0 {
        return Err(EINVAL.into());
    }
    let room = args.size as usize;
    // CAST: texts of the protocol have at most 260 characters.
    args.size = text.len() as u32;
    if text.len() > room {
        return Err(EMSGSIZE.into());
    }
    Ok(place.write(text)?)
}

/// Has the host answer; returns the number of bytes written.
fn ask_host(query_type: u32, place: &ArgRef, file: &DrmFile) -> HostResult<u32> {
    let block = place.read()?;
    let request = Request::new(
        gpupv::QueryAdapterInfo {
            query_type: QueryType::from_raw(query_type),
            ..Default::default()
        },
        &*block,
    )?;
    let client = file.inner();
    client.process.call(&request, |answer| {
        place.write(answer.tail)?;
        if let Some(flags) = adapter_type(query_type, answer.tail) {
            let compute_only = client.process.adapter.function.compute_only;
            place.write(&corrected(flags, compute_only).bits().to_le_bytes())?;
        }
        // CAST: no more than what was asked for.
        Ok(answer.tail.len() as u32)
    })
}

/// The adapter type flags, if that is what the block holds.
fn adapter_type(query_type: u32, block: &[u8]) -> Option<AdapterTypeFlags> {
    let (word, _) = block.split_first_chunk()?;
    [QueryType::ADAPTER_TYPE, QueryType::ADAPTER_TYPE_RENDER]
        .contains(&QueryType::from_raw(query_type))
        .then(|| AdapterTypeFlags::from_bits(u32::from_le_bytes(*word)))
}

/// The flags as they are for a guest: paravirtualised, and without any display (protocol 3.3).
fn corrected(flags: AdapterTypeFlags, compute_only: bool) -> AdapterTypeFlags {
    let display = AdapterTypeFlags::DISPLAY_SUPPORTED
        | AdapterTypeFlags::POST_DEVICE
        | AdapterTypeFlags::INDIRECT_DISPLAY_DEVICE
        | AdapterTypeFlags::ACG_SUPPORTED
        | AdapterTypeFlags::SUPPORT_SET_TIMINGS_FROM_VIDPN
        | AdapterTypeFlags::COMPUTE_ONLY;
    let kept = AdapterTypeFlags::from_bits(flags.bits() & !display.bits());
    let guest = kept | AdapterTypeFlags::PARAVIRTUALIZED;
    if compute_only {
        guest | AdapterTypeFlags::COMPUTE_ONLY
    } else {
        guest
    }
}
