// SPDX-License-Identifier: GPL-2.0-only

//! The watchdog of bounded queues: their dma_fences signal, whatever the work does.
//!
//! While a queue has dma_fences that have not signalled, an alarm has it looked at several times within
//! its timeout. The clock of the first one runs from when it became the first, and starts anew with all
//! progress. It stands still while nobody looks for longer than that, as when the whole VM is paused, and
//! while the work waits for dma_fences, which are somebody else's to bound: other drivers', or other
//! queues' with clocks of their own.
//!
//! When the time is over the host is asked for the state of the device, a last time:
//!
//! - It does not answer: the host is dead. All of the adapter ends with `ENODEV`.
//! - It answers, and there was progress meanwhile: all is well.
//! - It answers that the device failed, or it does not move: the device is given up. The first fence
//!   gets `ETIME`, those behind it `ECANCELED`, those of other queues of the device too; the host is
//!   told (MARKDEVICEASERROR) so that it stops the work; user space gets a dump and an event.
//!
//! A queue that is destroyed keeps its fences from signalling until the host has acknowledged that, and with
//! it that the work has stopped, but no longer than a host may take to say that it is alive.
//!
//! All of this is on the way to dma_fences: nothing here waits for memory, and the host's answer is
//! waited for for a limited time only. What allocates as usual comes when all have signalled.

use core::fmt::Write;
use core::sync::atomic::Ordering;

use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{
    delay::fsleep,
    msecs_to_jiffies,
    Delta, //
};
use kernel::workqueue::WorkItem;

use crate::alarm::now_ns;
use crate::bindings::uapi;
use crate::coredump;
use crate::dma_fence::Signalling;
use crate::mm::NoReclaim;
use crate::out_fence::{
    OutFences,
    LOOK_WORK,
    REPORT_WORK, //
};
use crate::sync::Wait;

/// How often a queue is looked at within its timeout.
const LOOKS: u32 = 8;
/// How often at least.
const LOOK_MAX_MS: u32 = 1_000;
/// Pause before an alarm is set again for which there was no memory.
const RETRY_US: i64 = 10_000;
/// How long the host may take to say that it is alive.
const ALIVE_MS: u32 = 10_000;

/// Bounds of the module parameter.
const TIMEOUT_MS: core::ops::RangeInclusive<u32> = 100..=120_000;

/// How long work whose end a dma_fence stands for may make no progress, unless the queue was made with a
/// shorter time.
pub(crate) fn timeout_ms() -> u32 {
    let wanted = crate::module_parameters::watchdog_ms.value();
    wanted.clamp(*TIMEOUT_MS.start(), *TIMEOUT_MS.end())
}

/// How long the end of a queue is waited for before somebody looks whether the adapter is still there.
const GONE_SLICE_MS: u32 = 100;

/// What became of a queue that was looked at.
enum Verdict {
    /// Nothing, or it is to be looked at again.
    Fine,
    /// The device was given up, or failed in this state.
    Failed(u32),
    /// The host does not answer.
    HostDead,
}

impl OutFences {
    fn look_every_ms(&self) -> u32 {
        (self.timeout_ms / LOOKS).clamp(1, LOOK_MAX_MS)
    }

    /// Has it looked at again after a while.
    pub(crate) fn set_alarm(self: &Arc<Self>) {
        let _signalling = Signalling::begin();
        let _allocates = NoReclaim::begin();
        let every_ns = u64::from(self.look_every_ms()) * 1_000_000;
        let alarms = &self.device.process.adapter.background.alarms;
        let alarm = loop {
            match alarms.set(now_ns() + every_ns, self.clone()) {
                Ok(alarm) => break alarm,
                Err(_) => fsleep(Delta::from_micros(RETRY_US)),
            }
        };
        let before = {
            let mut pending = self.pending.lock();
            if pending.is_empty() {
                // It was closed meanwhile: nobody would call the alarm off.
                Some(alarm)
            } else {
                pending.alarm.replace(alarm)
            }
        };
        drop(before);
    }

    /// Lets time pass for the first fence; whether its time is over.
    fn is_late(&self) -> bool {
        let waits = self.waits();
        let now = now_ns();
        let most = 2 * u64::from(self.look_every_ms()) * 1_000_000;
        let mut pending = self.pending.lock();
        let passed = now.saturating_sub(pending.looked_ns).min(most);
        pending.looked_ns = now;
        if waits {
            pending.age_ns = 0;
        } else {
            pending.age_ns += passed;
        }
        pending.age_ns >= u64::from(self.timeout_ms) * 1_000_000
    }

    /// Looks, and says what became of it. Signals what has to be signalled.
    fn judge(&self) -> Verdict {
        let _signalling = Signalling::begin();
        let _allocates = NoReclaim::begin();
        let disturbed = self.disturbed.swap(false, Ordering::AcqRel);
        self.signal_reached();
        if self.device.process.adapter.is_stopping() {
            self.fail(ENODEV, ENODEV);
            return Verdict::Fine;
        }
        if !self.is_busy() {
            return Verdict::Fine;
        }
        if let Some(state) = self.device.failure() {
            return self.failed(state);
        }
        // Whatever the host says of the device, and how often: its clock runs.
        if disturbed {
            match self.ask() {
                Verdict::Fine => {}
                verdict => return verdict,
            }
        }
        if !self.is_late() {
            return Verdict::Fine;
        }
        match self.ask() {
            Verdict::Fine => {}
            verdict => return verdict,
        }
        // Progress meanwhile, whoever saw it, has the clock start anew.
        self.signal_reached();
        if self.is_busy() && self.is_late() {
            self.give_up()
        } else {
            Verdict::Fine
        }
    }

    /// The device failed in this state.
    fn failed(&self, state: u32) -> Verdict {
        self.signal_reached();
        let first = match state {
            uapi::VACCEL_STATE_HUNG => ETIME,
            _ => EIO,
        };
        self.fail(first, ECANCELED);
        Verdict::Failed(state)
    }

    /// Asks the host for the state of the device.
    fn ask(&self) -> Verdict {
        match self.device.ask_within(ALIVE_MS) {
            Ok(uapi::VACCEL_STATE_ACTIVE) => Verdict::Fine,
            Ok(state) => self.failed(state),
            Err(error) if error.errno == ENODEV => {
                self.fail(ENODEV, ENODEV);
                Verdict::Fine
            }
            Err(error) if [ETIMEDOUT, EAGAIN].contains(&error.errno) => {
                self.fail(ENODEV, ENODEV);
                Verdict::HostDead
            }
            // It is not known: there will be another look.
            Err(_) => {
                self.disturbed.store(true, Ordering::Release);
                Verdict::Fine
            }
        }
    }

    /// Gives the device up.
    fn give_up(&self) -> Verdict {
        self.device.give_up();
        self.fail(ETIME, ECANCELED);
        self.device
            .process
            .adapter
            .out_queues
            .for_each_of(&self.device, |out| {
                // What is done is done.
                out.signal_reached();
                out.fail(ECANCELED, ECANCELED);
            });
        Verdict::Failed(uapi::VACCEL_STATE_HUNG)
    }

    /// Ends the fences of a queue that is being destroyed, `last` being the last value of one.
    fn end(&self, last: u64) {
        let signalling = Signalling::begin();
        let slice = msecs_to_jiffies(GONE_SLICE_MS);
        for _ in 0..ALIVE_MS / GONE_SLICE_MS {
            let stopping = self.device.process.adapter.is_stopping();
            if stopping || self.gone.wait_timeout(slice) == Wait::Done {
                break;
            }
        }
        // What is done is done.
        self.signal_reached();
        self.fail(ECANCELED, ECANCELED);
        drop(signalling);
        // Queues of other vms may wait on the GPU for what will not come.
        self.progress.raise(last);
        self.tidy();
    }

    /// Leaves what is left to do about a device that failed to somebody who may take his time.
    fn report_later(self: &Arc<Self>, failure: Failure) {
        if !self.device.take_report() {
            return;
        }
        *self.failure.lock() = Some(failure);
        let watchers = &self.device.process.adapter.background.watchers;
        let _ = watchers.enqueue::<_, { REPORT_WORK }>(self.clone());
    }

    fn report(&self, failure: &Failure) {
        if failure.state == uapi::VACCEL_STATE_HUNG {
            // A host that found out by itself does not mind.
            let _ = self.device.mark_as_error(ALIVE_MS);
        }
        let Some(drm) = self.drm() else {
            return;
        };
        if let Ok(dump) = self.dump(failure) {
            let function: &kernel::pci::Device = (*drm).as_ref();
            coredump::emit(function.as_ref(), dump);
        }
        drm.report_wedged(Some((self.maker, &self.maker_name)));
    }

    fn dump(&self, failure: &Failure) -> Result<VVec<u8>> {
        let adapter = &self.device.process.adapter;
        let mut text = Text(VVec::new());
        let mut line =
            |arguments: core::fmt::Arguments<'_>| text.write_fmt(arguments).map_err(|_| ENOMEM);
        line(format_args!("vaccel: a vm was given up\n"))?;
        line(format_args!(
            "adapter-luid: {:#018x}\n",
            adapter.function.luid.as_u64()
        ))?;
        line(format_args!(
            "interface-version: {}\n",
            adapter.function.version.raw()
        ))?;
        line(format_args!("vm: {}\n", self.device.cookie()))?;
        line(format_args!("vm-state: {}\n", failure.state))?;
        line(format_args!("maker-pid: {}\n", self.maker))?;
        line(format_args!("timeout-ms: {}\n", self.timeout_ms))?;
        line(format_args!("progress: {}\n", self.progress.reached()))?;
        line(format_args!(
            "pending: {}, from {} to {}\n",
            failure.count, failure.first, failure.last
        ))?;
        Ok(text.0)
    }
}

/// How a device failed.
pub(crate) struct Failure {
    state: u32,
    /// Values of the first and the last fence that were pending.
    first: u64,
    last: u64,
    count: usize,
}

/// Text in memory.
struct Text(VVec<u8>);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let added = self.0.extend_from_slice(text.as_bytes(), GFP_KERNEL);
        added.map_err(|_| core::fmt::Error)
    }
}

impl WorkItem<{ LOOK_WORK }> for OutFences {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        if let Some(last) = this.closed_at() {
            this.end(last);
            return;
        }
        let (first, last, count) = this.summary();
        match this.judge() {
            Verdict::Fine => {}
            Verdict::Failed(state) => {
                // Everybody else who waits for the device has to look.
                let events = &this.device.process.adapter.events;
                events.disturb(this.device.cookie());
                this.report_later(Failure {
                    state,
                    first,
                    last,
                    count,
                });
            }
            Verdict::HostDead => {
                if let Some(drm) = this.drm() {
                    let function: &kernel::pci::Device = (*drm).as_ref();
                    dev_err!(
                        AsRef::<kernel::device::Device>::as_ref(function),
                        "the host does not answer: all work ends\n"
                    );
                }
                this.device.process.adapter.fail();
            }
        }
        this.tidy();
        if this.is_busy() {
            this.set_alarm();
        }
    }
}

impl WorkItem<{ REPORT_WORK }> for OutFences {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let failure = this.failure.lock().take();
        if let Some(failure) = failure {
            this.report(&failure);
        }
    }
}
