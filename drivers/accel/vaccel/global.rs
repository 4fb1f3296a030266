// SPDX-License-Identifier: GPL-2.0-only

//! What a VM has once, whatever its number of virtual GPUs: the global channel, the I/O space, and
//! the events that come over the channel.

use core::sync::atomic::{
    AtomicBool,
    AtomicUsize,
    Ordering, //
};

use kernel::device::Bound;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::background::Background;
use crate::events::Events;
use crate::gpupv::{
    self,
    Luid,
    Request,
    Version, //
};
use crate::io_space::IoSpace;
use crate::link::Link;
use crate::transport::{
    Transport,
    Wait, //
};
use crate::vmbus;

/// The host of a VM.
pub(crate) struct Global {
    pub(crate) link: Arc<Link>,
    pub(crate) events: Arc<Events>,
    pub(crate) io: Arc<IoSpace>,
    /// Set for the whole VM by the last adapter that was opened (protocol 2.5).
    asynchronous: AtomicBool,
}

impl Global {
    /// Opens the global channel and tells the host where the I/O space is.
    ///
    /// # Errors
    ///
    /// Those of the channel, of the MMIO window, and of the host.
    pub(crate) fn open(
        device: &vmbus::Device<Bound>,
        version: Version,
        background: &Background,
    ) -> Result<Arc<Self>> {
        let events = Arc::pin_init(Events::new(background.alarms.clone()), GFP_KERNEL)?;
        let link = Link::open(device, Some(events.clone()))?;
        // From here on the channel must be closed, also if what follows fails.
        let opened = Self::announce(device, version, &link);
        let io = opened.inspect_err(|_| link.close())?;
        Ok(Arc::new(
            Self {
                link,
                events,
                io,
                asynchronous: AtomicBool::new(false),
            },
            GFP_KERNEL,
        )?)
    }

    fn announce(
        device: &vmbus::Device<Bound>,
        version: Version,
        link: &Arc<Link>,
    ) -> Result<Arc<IoSpace>> {
        let io = IoSpace::allocate(device, device.mmio_megabytes())?;
        let transport = Transport {
            version,
            global: link.clone(),
            vgpu: link.clone(),
            luid: Luid::ZERO,
            asynchronous: false,
            releases: AtomicUsize::new(0),
        };
        let request = Request::from(gpupv::SetIoSpaceRegion::new(io.start(), io.size()));
        transport.call(gpupv::Handle::NONE, &request, Wait::Bounded, |_| Ok(()))?;
        Ok(io)
    }

    /// Whether adapter commands travel on the global channel.
    pub(crate) fn asynchronous(&self) -> bool {
        self.asynchronous.load(Ordering::Relaxed)
    }

    /// Switches the VM between synchronous and asynchronous messages.
    pub(crate) fn set_asynchronous(&self, on: bool) {
        self.asynchronous.store(on, Ordering::Relaxed);
    }

    /// Closes the channel. Sleeps.
    pub(crate) fn close(&self) {
        self.fail();
        self.link.close();
        self.io.close();
        self.events.close();
    }

    /// Ends every wait for the host; what is left fails with `ENODEV`.
    pub(crate) fn fail(&self) {
        self.link.fail();
        self.events.disturb_all();
    }
}
