// SPDX-License-Identifier: GPL-2.0-only

//! DRM subsystem abstractions, for accel devices.
//!
//! The shape is that of the kernel crate's own `drm` module, which cannot serve here: it knows no
//! accel node, no syncobj feature and no fdinfo, and it is absent where DRM is a module. This one
//! works over the same C types and is meant to be replaced by it.
//!
//! C headers: [`include/drm/drm_drv.h`](srctree/include/drm/drm_drv.h) and the ones each submodule
//! names.

pub mod cgroup;
pub mod device;
pub mod driver;
pub mod event;
pub mod file;
pub mod gem;
pub mod ioctl;
pub mod point_wait;
pub mod print;
pub mod syncobj;

pub use self::{
    cgroup::{
        Charge,
        MemoryRegion, //
    },
    device::{
        Device,
        RegistrationGuard,
        UnregisteredDevice, //
    },
    driver::{
        Driver,
        DriverInfo,
        Registration, //
    },
    event::{
        Event,
        PendingEvent, //
    },
    file::{
        DriverFile,
        File,
        OpenFile, //
    },
    point_wait::{
        PointWait,
        PointWaiter, //
    },
    print::{
        ObjectStat,
        Printer, //
    },
    syncobj::{
        ChainNode,
        SyncObj, //
    },
};
