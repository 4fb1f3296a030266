// SPDX-License-Identifier: GPL-2.0-only

//! Finding virtual GPUs: three devices that have to come together.
//!
//! A virtual GPU is a PCI function and a VMBus channel, tied by a LUID, and needs the global channel
//! of the VM. They come and go in any order. Each bus driver only reports here; whenever a virtual
//! GPU is complete it is started, whenever a part goes it is stopped, and a part that comes back
//! starts it again.
//!
//! # Locks
//!
//! [`ROOM`](static@ROOM) is a mutex, taken in probe and unbind of the three devices, below the
//! device locks of the driver core. It is held while the host is asked during bring-up; no answer
//! needs it.
//!
//! # Lifetime
//!
//! While an entry names a device, that device is bound to us: probe enters it, unbind removes it,
//! both under the lock.
//!
//! Stopping goes: wake all waiters and fail further calls; unregister the DRM device, which waits
//! for its ioctls and removes user mappings; close the channel. Files may stay open after that, and
//! keep objects whose host side is gone.

use kernel::device::Bound;
use kernel::pci;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::{
    global_lock,
    Arc, //
};

use crate::adapter::{
    Adapter,
    Function, //
};
use crate::background::Background;
use crate::bound;
use crate::driver::VaccelDrm;
use crate::drm;
use crate::global::Global;
use crate::gpupv::{
    Luid,
    Version, //
};
use crate::vmbus;

global_lock! {
    // SAFETY: `init` below is called once, before the first bus driver is registered.
    pub(crate) unsafe(uninit) static ROOM: Mutex<Room> = Room::new();
}

/// The global channel.
enum GlobalPart {
    /// Not offered.
    Absent,
    /// Offered; not opened as long as nobody needs it.
    Waiting(ARef<vmbus::Device>),
    /// Open.
    Open(Arc<Global>),
    /// It could not be opened: not tried again before it is offered again.
    Failed,
}

/// A running virtual GPU.
struct Running {
    registration: drm::Registration<VaccelDrm>,
    adapter: Arc<Adapter>,
}

/// A virtual GPU, or parts of one.
struct Entry {
    luid: Luid,
    function: Option<(ARef<pci::Device>, Function)>,
    channel: Option<ARef<vmbus::Device>>,
    running: Option<Running>,
    starts: u64,
}

/// Where the parts meet.
pub(crate) struct Room {
    global: GlobalPart,
    entries: KVec<Entry>,
    /// Negotiated with the first function, kept for the others (protocol 1.1).
    version: Option<Version>,
    /// Who works in the background; there while bus drivers are registered.
    background: Option<Background>,
}

impl Room {
    const fn new() -> Self {
        Self {
            global: GlobalPart::Absent,
            entries: KVec::new(),
            version: None,
            background: None,
        }
    }

    /// Opens the room, before the first bus driver is registered.
    pub(crate) fn open(&mut self, background: Background) {
        self.background = Some(background);
    }

    /// Closes it, after the last bus driver is gone.
    pub(crate) fn close(&mut self) {
        self.entries = KVec::new();
        self.background = None;
    }

    /// The version negotiated by an earlier function.
    pub(crate) fn version(&self) -> Option<Version> {
        self.version
    }

    /// A PCI function was bound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EEXIST` if there is a function with this LUID. That the virtual GPU could not be
    /// started is no error: another part of it may come again.
    pub(crate) fn add_function(
        &mut self,
        device: &pci::Device<Bound>,
        function: Function,
    ) -> Result {
        self.version = Some(function.version);
        let entry = self.entry(function.luid)?;
        if entry.function.is_some() {
            return Err(EEXIST);
        }
        entry.function = Some((ARef::from(&**device), function));
        self.start(function.luid);
        Ok(())
    }

    /// A PCI function is about to be unbound.
    pub(crate) fn remove_function(&mut self, luid: Luid) {
        if let Some(entry) = self.find(luid) {
            entry.stop(true);
            entry.function = None;
        }
        self.tidy();
    }

    /// The channel of a virtual GPU was bound.
    ///
    /// # Errors
    ///
    /// As [`Room::add_function`].
    pub(crate) fn add_channel(&mut self, device: &vmbus::Device<Bound>, luid: Luid) -> Result {
        let entry = self.entry(luid)?;
        if entry.channel.is_some() {
            return Err(EEXIST);
        }
        entry.channel = Some(ARef::from(&**device));
        self.start(luid);
        Ok(())
    }

    /// The channel of a virtual GPU is about to be unbound.
    pub(crate) fn remove_channel(&mut self, device: &vmbus::Device<Bound>, luid: Luid) {
        if let Some(entry) = self.find(luid) {
            entry.stop(!device.rescinded());
            entry.channel = None;
        }
        self.tidy();
    }

    /// The global channel was bound.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is one.
    pub(crate) fn add_global(&mut self, device: &vmbus::Device<Bound>) -> Result {
        match self.global {
            GlobalPart::Absent | GlobalPart::Failed => {}
            GlobalPart::Waiting(_) | GlobalPart::Open(_) => return Err(EEXIST),
        }
        self.global = GlobalPart::Waiting(ARef::from(&**device));
        for at in 0..self.entries.len() {
            if let Some(luid) = self.entries.get(at).map(|entry| entry.luid) {
                self.start(luid);
            }
        }
        Ok(())
    }

    /// The global channel is about to be unbound.
    pub(crate) fn remove_global(&mut self, device: &vmbus::Device<Bound>) {
        let gone = device.rescinded();
        if let GlobalPart::Open(global) = &self.global {
            if gone {
                global.fail();
            }
            for entry in &mut self.entries {
                entry.stop(!gone);
            }
            global.close();
        }
        self.global = GlobalPart::Absent;
    }

    fn find(&mut self, luid: Luid) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.luid == luid)
    }

    fn entry(&mut self, luid: Luid) -> Result<&mut Entry> {
        if self.find(luid).is_none() {
            let entry = Entry {
                luid,
                function: None,
                channel: None,
                running: None,
                starts: 0,
            };
            self.entries.push(entry, GFP_KERNEL)?;
        }
        self.find(luid).ok_or(ENOENT)
    }

    /// Forgets entries of which nothing is left.
    fn tidy(&mut self) {
        self.entries
            .retain(|entry| entry.function.is_some() || entry.channel.is_some());
    }

    /// Opens the global channel if it is there and was not opened yet.
    fn global(&mut self, version: Version, background: &Background) -> Option<Arc<Global>> {
        if let GlobalPart::Waiting(device) = &self.global {
            let device = device.clone();
            // SAFETY: The room names only bound devices, see the lifetime rules of this module.
            let bound = unsafe { bound::vmbus(&device) };
            self.global = match Global::open(bound, version, background) {
                Ok(global) => GlobalPart::Open(global),
                Err(error) => {
                    dev_err!(
                        AsRef::<kernel::device::Device>::as_ref(&*device),
                        "cannot open the global GPU channel: {:?} (is the MMIO window large enough?)\n",
                        error
                    );
                    GlobalPart::Failed
                }
            };
        }
        match &self.global {
            GlobalPart::Open(global) => Some(global.clone()),
            _ => None,
        }
    }

    /// Starts a virtual GPU if all parts are there.
    fn start(&mut self, luid: Luid) {
        let Some(entry) = self.find(luid) else {
            return;
        };
        let (Some((_, function)), Some(_), None) =
            (&entry.function, &entry.channel, &entry.running)
        else {
            return;
        };
        let version = function.version;
        let Some(background) = self.background.clone() else {
            return;
        };
        let Some(global) = self.global(version, &background) else {
            return;
        };
        if let Some(entry) = self.find(luid) {
            entry.start(&global, &background);
        }
    }
}

impl Entry {
    fn start(&mut self, global: &Global, background: &Background) {
        let (Some((pci, function)), Some(channel)) = (&self.function, &self.channel) else {
            return;
        };
        // SAFETY: The room names only bound devices, see the lifetime rules of this module.
        let bound = unsafe { bound::vmbus(channel) };
        // SAFETY: As above.
        let parent = unsafe { bound::pci(pci) };
        let opened = Adapter::open(bound, global, *function, self.starts, background);
        let started = opened.and_then(|adapter| {
            let registered = drm::UnregisteredDevice::<VaccelDrm>::new(parent, Ok(adapter.clone()))
                .and_then(|device| {
                    adapter.regions.open(&device, adapter.info.segments)?;
                    drm::Registration::new(device)
                });
            match registered {
                Ok(registration) => Ok(Running {
                    registration,
                    adapter,
                }),
                Err(error) => {
                    adapter.regions.close();
                    adapter.close();
                    adapter.fail();
                    adapter.transport.vgpu.close();
                    Err(error)
                }
            }
        });
        self.starts += 1;
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => dev_err!(
                AsRef::<kernel::device::Device>::as_ref(&**pci),
                "cannot start the virtual GPU {:#018x}: {:?}\n",
                self.luid.as_u64(),
                error
            ),
        }
    }

    /// Stops the virtual GPU; `reachable` says whether the host can still be told.
    fn stop(&mut self, reachable: bool) {
        let Some(Running {
            registration,
            adapter,
        }) = self.running.take()
        else {
            return;
        };
        if !reachable {
            adapter.fail();
        }
        adapter.stop();
        drop(registration);
        adapter.regions.close();
        if reachable {
            // What closed files left behind goes before the adapter does.
            adapter.settle();
            adapter.close();
        }
        adapter.fail();
        adapter.transport.vgpu.close();
    }
}
