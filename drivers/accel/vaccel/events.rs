// SPDX-License-Identifier: GPL-2.0-only

//! What the host tells on its own: guest events and changes of device state (protocol 5).
//!
//! A guest event is a number from a counter of the VM, never 0 and never reused, that the driver
//! hands to the host with a wait. The host sends it back when the wait is over. Late and unknown
//! numbers are dropped: their waiter has gone.
//!
//! A device announces itself with a cookie, a number from the same counter. When the host says that
//! the state of the device with that cookie changed, the device is marked for a query and everybody
//! who waits for its fences wakes up to look.
//!
//! # Locks
//!
//! `Events::tables` is taken in softirq and nests in nothing.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNode, //
};
use kernel::sync::{
    new_spinlock_irq,
    Arc,
    SpinLockIrq, //
};

use crate::gpupv;
use crate::link::Listener;
use crate::sync::Completion;

/// First event number (protocol 5).
const FIRST_ID: u64 = 2;

/// Somebody who waits for the host.
#[pin_data]
pub(crate) struct Waiter {
    /// Signalled when the wait is over, or should be looked at again.
    #[pin]
    pub(crate) done: Completion,
    /// The device whose fence is waited for.
    cookie: u64,
}

/// What the host says of one device.
pub(crate) struct DeviceNotice {
    cookie: u64,
    /// How often the host said that the state changed.
    changes: AtomicU64,
}

impl DeviceNotice {
    /// The number that names the device to the host.
    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// How often the host has said that the state changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

struct Tables {
    waiters: RBTree<u64, Arc<Waiter>>,
    devices: RBTree<u64, Arc<DeviceNotice>>,
}

/// The events and devices of a VM that the host may speak of.
#[pin_data]
pub(crate) struct Events {
    #[pin]
    tables: SpinLockIrq<Tables>,
    next: AtomicU64,
}

impl Events {
    /// No events yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            tables <- new_spinlock_irq!(Tables {
                waiters: RBTree::new(),
                devices: RBTree::new(),
            }),
            next: AtomicU64::new(FIRST_ID),
        })
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a waiter for the device named by `cookie`, before the host is told of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn wait(self: &Arc<Self>, cookie: u64) -> Result<Waiting> {
        let waiter = Arc::pin_init(
            pin_init!(Waiter {
                done <- Completion::new(),
                cookie,
            }),
            GFP_KERNEL,
        )?;
        let id = self.next_id();
        let node = RBTreeNode::new(id, waiter.clone(), GFP_KERNEL)?;
        self.tables.lock().waiters.insert(node);
        Ok(Waiting {
            events: self.clone(),
            id,
            waiter,
        })
    }

    /// Registers a device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn device(self: &Arc<Self>) -> Result<DeviceEntry> {
        let cookie = self.next_id();
        let notice = Arc::new(
            DeviceNotice {
                cookie,
                changes: AtomicU64::new(0),
            },
            GFP_KERNEL,
        )?;
        let node = RBTreeNode::new(cookie, notice.clone(), GFP_KERNEL)?;
        self.tables.lock().devices.insert(node);
        Ok(DeviceEntry {
            events: self.clone(),
            notice,
        })
    }

    /// Wakes every waiter: the host is gone.
    pub(crate) fn wake_all(&self) {
        for waiter in self.tables.lock().waiters.values() {
            waiter.done.complete_all();
        }
    }

    fn fired(&self, id: u64) {
        let waiter = self.tables.lock().waiters.remove(&id);
        if let Some(waiter) = waiter {
            waiter.done.complete_all();
        }
    }

    fn device_changed(&self, cookie: u64) {
        let tables = self.tables.lock();
        if let Some(notice) = tables.devices.get(&cookie) {
            notice.changes.fetch_add(1, Ordering::Release);
            for waiter in tables
                .waiters
                .values()
                .filter(|waiter| waiter.cookie == cookie)
            {
                waiter.done.complete_all();
            }
        }
    }
}

impl Listener for Events {
    fn message(&self, payload: &[u8]) {
        match gpupv::Event::decode(payload) {
            Ok(gpupv::Event::Signal(event)) | Ok(gpupv::Event::SignalPassive(event)) => {
                self.fired(event.event)
            }
            Ok(gpupv::Event::SetGuestData(data)) => {
                self.device_changed(data.guest_pointer);
            }
            // Of no interest, or malformed: the host is not worth a log line per packet.
            _ => {}
        }
    }
}

/// A registered waiter; dropping it makes the host's signal, if it still comes, a late one.
pub(crate) struct Waiting {
    events: Arc<Events>,
    id: u64,
    waiter: Arc<Waiter>,
}

impl Waiting {
    /// The event number for the host.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What the host's signal completes.
    pub(crate) fn done(&self) -> &Completion {
        &self.waiter.done
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let node = self.events.tables.lock().waiters.remove(&self.id);
        drop(node);
    }
}

/// A registered device.
pub(crate) struct DeviceEntry {
    events: Arc<Events>,
    notice: Arc<DeviceNotice>,
}

impl core::ops::Deref for DeviceEntry {
    type Target = DeviceNotice;

    fn deref(&self) -> &DeviceNotice {
        &self.notice
    }
}

impl Drop for DeviceEntry {
    fn drop(&mut self) {
        let node = self
            .events
            .tables
            .lock()
            .devices
            .remove(&self.notice.cookie);
        drop(node);
    }
}
