// SPDX-License-Identifier: GPL-2.0-only

//! The DRM driver: its types, its ioctls, its fdinfo.

use kernel::device::DeviceContext;
use kernel::sync::Arc;

use crate::adapter::Adapter;
use crate::bo::Bo;
use crate::client::Client;
use crate::drm;
use crate::drm::ioctl::declare_ioctls;
use crate::ioctl;
use crate::{
    bind,
    bo,
    budget,
    escape,
    fence,
    fence_share,
    fence_wait,
    query,
    queue,
    reservation,
    residency,
    submit,
    sync_export,
    sync_import,
    uring,
    uring_cmd,
    vm, //
};

/// A DRM device of this driver.
pub(crate) type DrmDevice = drm::Device<VaccelDrm>;

/// An open file of it.
pub(crate) type DrmFile = drm::File<Client>;

/// The DRM driver.
pub(crate) struct VaccelDrm;

/// A handler whose argument has a `host_status` field.
macro_rules! host {
    ($handler:path) => {
        |dev, args, file| {
            let result = $handler(dev, args, file);
            ioctl::report(args, result)
        }
    };
}

/// A handler whose argument has none.
macro_rules! local {
    ($handler:path) => {
        |dev, args, file| ioctl::finish($handler(dev, args, file))
    };
}

impl drm::Driver for VaccelDrm {
    type Data = Arc<Adapter>;
    type File = Client;
    type Object = Bo;
    type ParentDevice<Ctx: DeviceContext> = kernel::pci::Device<Ctx>;
    type OwnerModule = crate::LocalModule;

    const INFO: drm::DriverInfo = drm::DriverInfo {
        major: 1,
        minor: 0,
        patchlevel: 0,
        name: c"vaccel",
        desc: c"Compute on a paravirtualised GPU",
    };

    declare_ioctls! {
        (DRM_IOCTL_VACCEL_GET_PARAM, drm_vaccel_get_param, 0, local!(query::get_param)),
        (DRM_IOCTL_VACCEL_ADAPTER_QUERY, drm_vaccel_adapter_query, 0, host!(query::adapter)),
        (DRM_IOCTL_VACCEL_VM_CREATE, drm_vaccel_vm_create, 0, host!(vm::create)),
        (DRM_IOCTL_VACCEL_VM_DESTROY, drm_vaccel_destroy, 0, local!(vm::destroy)),
        (DRM_IOCTL_VACCEL_VM_QUERY, drm_vaccel_vm_query, 0, host!(vm::query)),
        (DRM_IOCTL_VACCEL_QUEUE_CREATE, drm_vaccel_queue_create, 0, host!(queue::create)),
        (DRM_IOCTL_VACCEL_QUEUE_DESTROY, drm_vaccel_destroy, 0, local!(queue::destroy)),
        (DRM_IOCTL_VACCEL_QUEUE_QUERY, drm_vaccel_queue_query, 0, local!(queue::query)),
        (DRM_IOCTL_VACCEL_BO_CREATE, drm_vaccel_bo_create, 0, host!(bo::create)),
        (DRM_IOCTL_VACCEL_BO_INFO, drm_vaccel_bo_info, 0, local!(bo::info)),
        (DRM_IOCTL_VACCEL_BO_SYNC, drm_vaccel_bo_sync, 0, host!(bo::sync)),
        (DRM_IOCTL_VACCEL_VA_RESERVE, drm_vaccel_va_range, 0, host!(reservation::reserve)),
        (DRM_IOCTL_VACCEL_VA_RELEASE, drm_vaccel_va_range, 0, host!(reservation::release)),
        (DRM_IOCTL_VACCEL_BIND, drm_vaccel_bind, 0, host!(bind::bind)),
        (DRM_IOCTL_VACCEL_UNBIND, drm_vaccel_bind, 0, host!(bind::unbind)),
        (DRM_IOCTL_VACCEL_RESIDENCY, drm_vaccel_residency, 0, host!(residency::change)),
        (DRM_IOCTL_VACCEL_FENCE_CREATE, drm_vaccel_fence_create, 0, host!(fence::create)),
        (DRM_IOCTL_VACCEL_FENCE_DESTROY, drm_vaccel_destroy, 0, local!(fence::destroy)),
        (DRM_IOCTL_VACCEL_FENCE_SIGNAL, drm_vaccel_fence_signal, 0, host!(fence::signal)),
        (DRM_IOCTL_VACCEL_FENCE_QUERY, drm_vaccel_fence_query, 0, local!(fence::query)),
        (DRM_IOCTL_VACCEL_FENCE_WAIT, drm_vaccel_fence_wait, 0, host!(fence_wait::wait)),
        (DRM_IOCTL_VACCEL_FENCE_WAIT_MANY, drm_vaccel_fence_wait_many, 0, host!(fence_wait::wait_many)),
        (DRM_IOCTL_VACCEL_FENCE_EVENTFD, drm_vaccel_fence_eventfd, 0, host!(fence_wait::eventfd)),
        (DRM_IOCTL_VACCEL_FENCE_TO_FD, drm_vaccel_fence_fd, 0, host!(fence_share::to_fd)),
        (DRM_IOCTL_VACCEL_FENCE_FROM_FD, drm_vaccel_fence_fd, 0, host!(fence_share::from_fd)),
        (DRM_IOCTL_VACCEL_SYNC_EXPORT, drm_vaccel_sync, 0, local!(sync_export::export)),
        (DRM_IOCTL_VACCEL_SYNC_IMPORT, drm_vaccel_sync, 0, local!(sync_import::sync_import)),
        (DRM_IOCTL_VACCEL_SUBMIT, drm_vaccel_submit, 0, host!(submit::submit)),
        (DRM_IOCTL_VACCEL_BUDGET, drm_vaccel_budget, 0, host!(budget::query)),
        (DRM_IOCTL_VACCEL_EVENTS, drm_vaccel_events, 0, local!(budget::subscribe)),
        (DRM_IOCTL_VACCEL_ESCAPE, drm_vaccel_escape, 0, host!(escape::escape)),
    }

    fn uring_cmd(dev: &DrmDevice, file: &DrmFile, issue: uring::Issue<'_>) -> uring::Answer {
        uring_cmd::issue(dev, file, issue)
    }

    fn show_fdinfo(dev: &DrmDevice, file: &DrmFile, p: &mut drm::Printer<'_>) {
        drm::print::drm_print!(p, "vaccel-luid:\t{:#018x}\n", dev.function.luid.as_u64());
        let pinned = file.inner().process.pinned.bytes();
        drm::print::drm_print!(p, "vaccel-pinned:\t{} KiB\n", pinned / 1024);
        p.memory_regions(file, &[c"local", c"nonlocal"], |object| {
            let memory = object.memory().ok()?;
            let usage = memory.usage();
            Some(drm::print::ObjectStat {
                region: if memory.is_host() { 0 } else { 1 },
                // What is offered has its memory until the host takes it.
                resident: usage.is_resident() || usage.is_offered(),
                purgeable: usage.is_offered(),
            })
        });
    }
}
