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
//! An event may get lost on the way. So as long as anybody waits, all look by themselves now and then.
//!
//! # Locks
//!
//! `Events::tick` is held while an alarm is set. `Events::tables` is taken in softirq and nests in nothing. What a [`Sink`] locks nests in it.
//!
//! # Lifetime
//!
//! The table holds the sinks, and gives one up only where its [`Waiting`] is dropped, so that the last
//! reference is never dropped in softirq.

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
    new_mutex,
    new_spinlock_irq,
    Arc,
    Mutex,
    SpinLockIrq, //
};

use crate::alarm::{
    now_ns,
    Alarm,
    Alarms,
    Ring, //
};
use crate::gpupv;
use crate::link::Listener;

/// First event number (protocol 5).
const FIRST_ID: u64 = 2;

/// How often those who wait look by themselves.
const TICK_NS: u64 = 10_000_000_000;

/// Somebody who waits for the host.
///
/// Both functions are called in any context, with the table locked: they must not sleep, nor register
/// or drop a [`Waiting`].
pub(crate) trait Sink: Send + Sync {
    /// The wait with this number is over.
    fn fired(&self, id: u64);

    /// Whether the wait will ever be over has to be looked at: its device or the adapter failed, or
    /// the host may have forgotten it.
    fn disturbed(&self);
}

struct Entry {
    sink: Arc<dyn Sink>,
    /// The device whose work is waited for.
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
    waiters: RBTree<u64, Entry>,
    devices: RBTree<u64, Arc<DeviceNotice>>,
}

/// The events and devices of a VM that the host may speak of.
#[pin_data]
pub(crate) struct Events {
    #[pin]
    tables: SpinLockIrq<Tables>,
    next: AtomicU64,
    alarms: Arc<Alarms>,
    #[pin]
    tick: Mutex<Tick>,
}

/// When everybody looks next.
struct Tick {
    alarm: Option<Alarm>,
    /// Whether nobody does any more.
    closed: bool,
}

/// The events, as their alarm knows them.
struct Ticking(Arc<Events>);

impl Ring for Ticking {
    fn ring(&self) {
        let rung = self.0.tick.lock().alarm.take();
        drop(rung);
        self.0.disturb_all();
        if !self.0.tables.lock().waiters.is_empty() {
            self.0.set_tick();
        }
    }
}

impl Events {
    /// No events yet.
    pub(crate) fn new(alarms: Arc<Alarms>) -> impl PinInit<Self> {
        pin_init!(Self {
            alarms,
            tick <- new_mutex!(
                Tick {
                    alarm: None,
                    closed: false,
                },
                "Events::tick"
            ),
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
    pub(crate) fn wait(self: &Arc<Self>, cookie: u64, sink: Arc<dyn Sink>) -> Result<Waiting> {
        let id = self.next_id();
        let node = RBTreeNode::new(id, Entry { sink, cookie }, GFP_KERNEL)?;
        self.tables.lock().waiters.insert(node);
        self.set_tick();
        Ok(Waiting {
            events: self.clone(),
            id,
        })
    }

    /// Has everybody look after a while. Without memory for that the next one who waits does it.
    fn set_tick(self: &Arc<Self>) {
        let mut tick = self.tick.lock();
        if tick.alarm.is_some() || tick.closed {
            return;
        }
        if let Ok(ticking) = Arc::new(Ticking(self.clone()), GFP_KERNEL) {
            tick.alarm = self.alarms.set(now_ns() + TICK_NS, ticking).ok();
        }
    }

    /// Ends what works by itself: the channel is gone.
    pub(crate) fn close(&self) {
        let alarm = {
            let mut tick = self.tick.lock();
            tick.closed = true;
            tick.alarm.take()
        };
        drop(alarm);
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

    /// Has everybody look who waits.
    pub(crate) fn disturb_all(&self) {
        for entry in self.tables.lock().waiters.values() {
            entry.sink.disturbed();
        }
    }

    /// Has everybody look who waits for the device named by `cookie`.
    pub(crate) fn disturb(&self, cookie: u64) {
        self.tables.lock().disturb(cookie);
    }

    fn fired(&self, id: u64) {
        if let Some(entry) = self.tables.lock().waiters.get(&id) {
            entry.sink.fired(id);
        }
    }

    fn device_changed(&self, cookie: u64) {
        let tables = self.tables.lock();
        if let Some(notice) = tables.devices.get(&cookie) {
            notice.changes.fetch_add(1, Ordering::Release);
            tables.disturb(cookie);
        }
    }
}

impl Tables {
    fn disturb(&self, cookie: u64) {
        for entry in self.waiters.values().filter(|entry| entry.cookie == cookie) {
            entry.sink.disturbed();
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

/// A registered waiter; dropping it makes the host's signal, if it still comes, a late one. To be
/// dropped where one can sleep.
pub(crate) struct Waiting {
    events: Arc<Events>,
    id: u64,
}

impl Waiting {
    /// The event number for the host.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let node = self.events.tables.lock().waiters.remove(&self.id);
        drop(node);
    }
}

/// A registered device, of which the host may speak as long as this exists.
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
