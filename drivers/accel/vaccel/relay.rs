// SPDX-License-Identifier: GPL-2.0-only

//! Relays: queues of the driver's own, which raise a monitored fence behind dma_fences of the same
//! adapter, without the CPU having a part in it.
//!
//! A queue does one thing after the other, so a relay takes one at a time: were a second one to wait
//! behind a first that waits for it, neither would end. There are few; who finds none free is left to
//! the CPU.

use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::device::Device;
use crate::dma_fence::DmaFence;
use crate::fence::Fence;
use crate::gpupv::{
    self,
    CreateContextFlags,
    Handle,
    Request, //
};
use crate::host_error::HostResult;
use crate::inputs::Progressed;
use crate::reaper::Owned;
use crate::release::What;

/// Most relays of a device.
const RELAYS_MAX: usize = 4;

struct Relay {
    context: Arc<Owned>,
    /// What it waits for; free when that has signalled.
    busy: Option<DmaFence>,
}

/// The relays of a device.
#[pin_data]
pub(crate) struct Relays {
    #[pin]
    all: Mutex<KVec<Relay>>,
}

impl Relays {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            all <- new_mutex!(KVec::new(), "Relays::all"),
        })
    }

    /// A relay that waits for `source` from now on, if one is free.
    fn take_free(&self, source: &DmaFence) -> Option<Arc<Owned>> {
        let mut all = self.all.lock();
        let free = |relay: &&mut Relay| relay.busy.as_ref().is_none_or(DmaFence::is_signaled);
        let relay = all.iter_mut().find(free)?;
        let before = relay.busy.replace(source.clone());
        let context = relay.context.clone();
        drop(all);
        drop(before);
        Some(context)
    }

    /// A new relay, which waits for `source`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there are enough, `ENOMEM`; those of the host.
    fn add(&self, device: &Arc<Device>, source: &DmaFence) -> HostResult<Arc<Owned>> {
        if self.all.lock().len() >= RELAYS_MAX {
            return Err(EBUSY.into());
        }
        let request = Request::new(
            gpupv::CreateContextVirtual {
                device: device.handle(),
                flags: CreateContextFlags::SYNCHRONIZATION_ONLY
                    | CreateContextFlags::DISABLE_GPU_TIMEOUT,
                ..Default::default()
            },
            &[][..],
        )?;
        let what = What::Context(Handle::NONE);
        let (owned, ()) = device.process.create(&request, what, |_| Ok(()))?;
        let context = Arc::new(owned, GFP_KERNEL)?;
        let relay = Relay {
            context: context.clone(),
            busy: Some(source.clone()),
        };
        let mut all = self.all.lock();
        all.push(relay, GFP_KERNEL)?;
        Ok(context)
    }
}

/// Has the GPU raise `target` to `value` behind `own`, values of the progress of queues, all of which
/// are behind `source`.
///
/// # Errors
///
/// `EBUSY` if no relay is free; those of the host.
pub(crate) fn relay(
    target: &Fence,
    value: u64,
    own: &[Progressed],
    source: &DmaFence,
) -> HostResult {
    let device = &target.device;
    let relay = match device.relays.take_free(source) {
        Some(relay) => relay,
        None => device.relays.add(device, source)?,
    };
    for (out, value) in own {
        if Arc::ptr_eq(&out.device, device) {
            out.progress.wait_in(relay.handle(), *value)?;
        } else {
            // The host keeps the wait when the fence is closed (protocol 4.9).
            out.progress
                .open_in(device)?
                .wait_in(relay.handle(), *value)?;
        }
    }
    target.signal_in(relay.handle(), value)
}
