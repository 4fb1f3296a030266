// SPDX-License-Identifier: GPL-2.0-only

//! Opaque exchanges between a user-mode driver and the host's driver: `DRM_IOCTL_VACCEL_ESCAPE`.
//!
//! The data goes to the host's driver and comes back unread. What is named beside it, a vm or a queue,
//! has to be the file's own. Escapes to the host's memory manager and scheduler, and those in whose data
//! a guest has to translate handles, have no place here.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::bindings::uapi;
use crate::bo::ArgRef;
use crate::client::Client;
use crate::driver::{
    DrmDevice,
    DrmFile, //
};
use crate::gpupv::{
    self,
    EscapeFlags,
    EscapeType,
    Handle,
    Request, //
};
use crate::host_error::HostResult;
use crate::queue::Queue;
use crate::vm::Vm;

/// What an escape is about, kept until the host has answered.
struct About {
    vm: Option<Arc<Vm>>,
    queue: Option<Arc<Queue>>,
}

impl About {
    /// The vm and the queue behind these handles, where they are not 0.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `EINVAL` for a queue without its vm.
    fn find(client: &Client, vm: u32, queue: u32) -> Result<Self> {
        let vm = match vm {
            0 => None,
            handle => Some(client.vm(handle)?),
        };
        let queue = match queue {
            0 => None,
            handle => Some(client.queue(handle)?),
        };
        if let Some(queue) = &queue {
            let is_of = |vm: &Arc<Vm>| Arc::ptr_eq(vm, &queue.vm);
            if !vm.as_ref().is_some_and(is_of) {
                return Err(EINVAL);
            }
        }
        Ok(Self { vm, queue })
    }

    fn device(&self) -> Handle {
        self.vm
            .as_ref()
            .map_or(Handle::NONE, |vm| vm.device.handle())
    }

    fn context(&self) -> Handle {
        let queue = self.queue.as_ref();
        queue.map_or(Handle::NONE, |queue| queue.progress.context())
    }
}

/// `DRM_IOCTL_VACCEL_ESCAPE`.
pub(crate) fn escape(
    _dev: &DrmDevice,
    args: &mut uapi::drm_vaccel_escape,
    file: &DrmFile,
) -> HostResult {
    let flags = EscapeFlags::from_bits(args.escape_flags);
    if args.pad != 0 || args.size == 0 || flags.unknown() != 0 {
        return Err(EINVAL.into());
    }
    let kind = EscapeType::from_raw(args.type_);
    if kind != EscapeType::DRIVER_PRIVATE || flags.contains(EscapeFlags::DRIVER_KNOWN_ESCAPE) {
        return Err(EOPNOTSUPP.into());
    }
    if args.size > uapi::VACCEL_PRIV_SIZE_MAX {
        return Err(EFBIG.into());
    }
    // CAST: checked above.
    let place = ArgRef::new(file, args.arg_bo, args.arg_offset, args.size as usize)?;
    let client = file.inner();
    let about = About::find(&client, args.vm, args.queue)?;
    let data = place.read()?;
    let request = Request::new(
        gpupv::Escape {
            adapter: client.process.adapter.handle,
            device: about.device(),
            kind,
            flags,
            priv_drv_data_size: 0,
            context: about.context(),
        },
        &*data,
    )?;
    client
        .process
        .call(&request, |answer| Ok(place.write(answer.tail)?))
}
