// SPDX-License-Identifier: GPL-2.0-only

//! Monitored fences that leave their vm: file descriptors that stand for them.
//!
//! A shareable fence has a number by which every process of the VM can open it as long as anybody has
//! it. What keeps it for a file descriptor is a name (protocol 4.8), which the driver asks for once, when
//! the fence gets its first descriptor, and gives back with the last of its descriptors and fences. So a
//! descriptor outlives the vm and the open file that the fence was made in.
//!
//! What is opened is a fence of its own, of the opener's device, with the same page. It works as long as
//! that device does, but it is the failure of the device that *made* the fence that sets its value to the
//! highest there is. So descriptors also keep listening to what the host says of that one, which may fail
//! after its file was closed: with a job that never ends.

use kernel::fs::file::{
    flags::O_CLOEXEC,
    FileDescriptorReservation, //
};
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::anon_file;
use crate::bindings::uapi;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::events::DeviceEntry;
use crate::fence::{
    self,
    Fence, //
};
use crate::gpupv::{
    self,
    Handle,
    Request, //
};
use crate::host_error::HostResult;
use crate::reaper::Owned;
use crate::release::What;
use crate::transport::Transport;

/// A fence as it is known outside of its vm.
pub(crate) struct Shared {
    /// Keeps the fence on the host.
    _name: Owned,
    /// The number by which it is opened.
    global: Handle,
    /// The way to the virtual GPU that it is of, which is also what tells that one from others.
    transport: Arc<Transport>,
    /// What the host says of the device that made it.
    origin: Arc<DeviceEntry>,
}

impl Shared {
    /// What `fence` is outside of its vm.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not shareable; those of [`Process::create`](crate::process::Process::create).
    fn of(fence: &Fence) -> HostResult<Arc<Self>> {
        if let Some(shared) = fence.shared.as_ref() {
            return Ok(shared.clone());
        }
        if fence.global.is_none() {
            return Err(EINVAL.into());
        }
        let request = Request::from(gpupv::CreateNtSharedObject {
            object: fence.handle(),
            _pad: 0,
        });
        let process = &fence.device.process;
        let what = What::SharedName(Handle::NONE);
        let (name, ()) = process.create(&request, what, |_| Ok(()))?;
        let shared = Arc::new(
            Self {
                _name: name,
                global: fence.global,
                transport: process.adapter.transport.clone(),
                origin: fence.device.notice(),
            },
            GFP_KERNEL,
        )?;
        // Somebody else may have been faster: either name will do, and one is kept.
        if fence.shared.populate(shared.clone()) {
            return Ok(shared);
        }
        Ok(fence.shared.as_ref().ok_or(EIO)?.clone())
    }

    /// The number by which it is opened.
    pub(crate) fn global(&self) -> Handle {
        self.global
    }

    /// Whether the device that made it still works, as far as the host has said.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not.
    pub(crate) fn check_origin(&self) -> Result {
        match self.origin.changes() {
            0 => Ok(()),
            _ => Err(EIO),
        }
    }

    /// Whether the device named by `cookie` made it.
    pub(crate) fn is_from(&self, cookie: u64) -> bool {
        self.origin.cookie() == cookie
    }
}

/// What a file descriptor stands for.
struct Descriptor {
    shared: Arc<Shared>,
    wait_only: bool,
}

impl anon_file::Content for Descriptor {
    const NAME: &'static CStr = c"vaccel_fence";
}

/// `DRM_IOCTL_VACCEL_FENCE_TO_FD`.
pub(crate) fn to_fd(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_fd,
    file: &DrmFile,
) -> HostResult {
    if args.flags & !uapi::VACCEL_FENCE_WAIT_ONLY != 0 || args.vm != 0 || args.pad != 0 {
        return Err(EINVAL.into());
    }
    let wait_only = args.flags & uapi::VACCEL_FENCE_WAIT_ONLY != 0;
    let entry = file.inner().fence(args.fence)?;
    if entry.wait_only && !wait_only {
        return Err(EACCES.into());
    }
    let reservation = FileDescriptorReservation::get_unused_fd_flags(O_CLOEXEC)?;
    let shared = Shared::of(&entry.fence)?;
    let content = Arc::new(Descriptor { shared, wait_only }, GFP_KERNEL)?;
    let file = anon_file::create(content)?;
    // CAST: a descriptor is no larger than that.
    args.fd = reservation.reserved_fd() as i32;
    reservation.fd_install(file);
    Ok(())
}

/// `DRM_IOCTL_VACCEL_FENCE_FROM_FD`.
pub(crate) fn from_fd(
    dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_fence_fd,
    file: &DrmFile,
) -> HostResult {
    if args.flags != 0 || args.pad != 0 {
        return Err(EINVAL.into());
    }
    let content = anon_file::from_fd::<Descriptor>(args.fd)?;
    let client = file.inner();
    let vm = client.vm(args.vm)?;
    let transport = &vm.device.process.adapter.transport;
    if !Arc::ptr_eq(&content.shared.transport, transport) {
        return Err(EXDEV.into());
    }
    let fence = Fence::open(vm.device.clone(), content.shared.clone(), content.wait_only)?;
    let mut entry = fence::publish(dev, file, fence, true, false)?;
    entry.wait_only = content.wait_only;
    args.gpu_va = entry.fence.gpu_va();
    args.mmap_offset = entry.mmap_offset;
    args.fence = fence::insert(&client, file, entry)?;
    Ok(())
}
