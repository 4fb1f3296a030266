// SPDX-License-Identifier: GPL-2.0-only

//! How ioctl handlers end: an errno as the result, and the host's NTSTATUS in the argument.

use kernel::prelude::*;

use crate::bindings::uapi;
use crate::gpupv::NtStatus;
use crate::host_error::{
    HostError,
    HostResult, //
};

/// An ioctl argument with a `host_status` field.
pub(crate) trait HostStatus {
    /// Sets the field.
    fn set_host_status(&mut self, status: NtStatus);
}

macro_rules! host_status {
    ($($name:ident),* $(,)?) => {$(
        impl HostStatus for uapi::$name {
            fn set_host_status(&mut self, status: NtStatus) {
                self.host_status = status.bits();
            }
        }
    )*};
}

host_status! {
    drm_vaccel_adapter_query,
    drm_vaccel_vm_create,
    drm_vaccel_vm_query,
    drm_vaccel_queue_create,
    drm_vaccel_bo_create,
    drm_vaccel_bind,
    drm_vaccel_residency,
    drm_vaccel_fence_create,
    drm_vaccel_fence_signal,
    drm_vaccel_fence_wait,
    drm_vaccel_submit,
    drm_vaccel_budget,
    drm_vaccel_bo_sync,
    drm_vaccel_va_range,
    drm_vaccel_fence_wait_many,
    drm_vaccel_fence_eventfd,
    drm_vaccel_fence_fd,
    drm_vaccel_escape,
}

/// Ends a handler whose argument has a `host_status` field.
pub(crate) fn report(args: &mut impl HostStatus, result: HostResult) -> Result<u32> {
    args.set_host_status(result.map_or_else(|error| error.status, |()| NtStatus::SUCCESS));
    finish(result)
}

/// Ends a handler whose argument has none.
pub(crate) fn finish(result: HostResult) -> Result<u32> {
    result.map(|()| 0).map_err(|error| errno(&error))
}

/// The errno of an error as user space sees it.
pub(crate) fn errno(error: &HostError) -> Error {
    match error.errno {
        // The ring stayed full: to user space a host that does not listen is one that does not answer.
        EAGAIN => ETIMEDOUT,
        errno => errno,
    }
}
