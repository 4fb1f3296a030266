// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread, its inbox and the futures, over an engine without a kernel.

use std::sync::mpsc::{channel, Receiver, Sender};
use std::time::Duration;

use super::*;
use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::ring::pending::Pending;
use crate::ring::slot::Slot;
use crate::sys;

/// Ends each operation when it is told to, with the value it waits for; value 0 at once.
struct Fake {
    heard: Sender<(u64, bool)>,
    told: Receiver<u64>,
    event: Arc<EventFd>,
    running: Vec<(u64, u64)>,
    ended: Vec<(u64, Outcome)>,
}

/// The other end of it.
struct Control {
    heard: Receiver<(u64, bool)>,
    told: Sender<u64>,
    event: Arc<EventFd>,
}

impl Control {
    /// Ends what waits for `value`; `u64::MAX` breaks the engine.
    fn tell(&self, value: u64) {
        self.told.send(value).unwrap();
        eventfd::signal(self.event.as_fd()).unwrap();
    }

    fn heard(&self) -> (u64, bool) {
        self.heard.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    fn quiet(&self) {
        assert!(self.heard.try_recv().is_err());
    }
}

impl Engine for Fake {
    fn start(&mut self, id: u64, command: Command) {
        let Command::FenceWait(arg) = command else {
            panic!("only waits");
        };
        self.heard.send((arg.value, true)).unwrap();
        match arg.value {
            0 => self.ended.push((id, Outcome::ok(0))),
            value => self.running.push((id, value)),
        }
    }

    fn cancel(&mut self, id: u64) {
        let place = self.running.iter().position(|running| running.0 == id);
        let (id, value) = self.running.remove(place.unwrap());
        self.heard.send((value, false)).unwrap();
        self.ended.push((id, Outcome::CANCELLED));
    }

    fn wait(&mut self, bell: &EventFd, ended: &mut Vec<(u64, Outcome)>) -> io::Result<()> {
        if self.ended.is_empty() {
            let fds = [bell.as_fd(), self.event.as_fd()];
            crate::ioctl::readiness::wait_either(fds, Deadline::NEVER).unwrap();
        }
        bell.take().unwrap();
        self.event.take().unwrap();
        while let Ok(told) = self.told.try_recv() {
            if told == u64::MAX {
                return Err(io::Error::from_raw_os_error(libc::ENXIO));
            }
            let (done, running) = self.running.iter().partition(|running| running.1 == told);
            self.running = running;
            self.ended
                .extend(done.iter().map(|(id, value)| (*id, Outcome::ok(*value))));
        }
        ended.append(&mut self.ended);
        Ok(())
    }
}

fn driver() -> (Arc<Driver>, Control) {
    let event = Arc::new(EventFd::new().unwrap());
    let (heard_in, heard) = channel();
    let (told, told_out) = channel();
    let engine = Fake {
        heard: heard_in,
        told: told_out,
        event: event.clone(),
        running: Vec::new(),
        ended: Vec::new(),
    };
    let control = Control { heard, told, event };
    (Arc::new(Driver::start(|| Ok(engine)).unwrap()), control)
}

fn wait_for(driver: &Arc<Driver>, value: u64) -> Pending<u64> {
    let slot = Arc::new(Slot::new(Box::new(|outcome: Outcome| {
        Ok(outcome.of::<crate::ioctl::FenceWait>()?.extra)
    })));
    let id = next_id();
    let arg = sys::FenceWait {
        value,
        ..Default::default()
    };
    driver.collect(Job {
        id,
        command: Command::FenceWait(arg),
        slot: slot.clone(),
    });
    Pending::sent(id, slot, driver.clone())
}

/// Proves that operations are collected until one of them is waited for, and sent in order.
#[test]
fn collected_and_sent_in_order() {
    let (driver, control) = driver();
    let pending: Vec<_> = (1..=100).map(|value| wait_for(&driver, value)).collect();
    control.quiet();
    let last = wait_for(&driver, 0);
    assert_eq!(last.wait(Deadline::NEVER).unwrap(), 0);
    for value in (1..=100).chain([0]) {
        assert_eq!(control.heard(), (value, true));
    }
    for value in (1..=100).rev() {
        control.tell(value);
    }
    for (value, pending) in (1..).zip(pending) {
        assert_eq!(pending.wait(Deadline::NEVER).unwrap(), value);
    }
}

/// Proves that what is dropped before it is sent never begins, and that what runs is cancelled.
#[test]
fn dropped() {
    let (driver, control) = driver();
    drop(wait_for(&driver, 1));
    driver.flush();
    let running = wait_for(&driver, 2);
    driver.flush();
    assert_eq!(control.heard(), (2, true));
    drop(running);
    assert_eq!(control.heard(), (2, false));
    let mut late = wait_for(&driver, 3);
    assert!(late
        .wait_for(Deadline::after(Duration::from_millis(2)))
        .is_none());
    assert!(!late.is_ended());
    let error = late.wait(Deadline::NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(control.heard(), (3, true));
    assert_eq!(control.heard(), (3, false));
}

/// Proves that the thread ends with its last user, when nothing is pending any more.
#[test]
fn the_thread_ends() {
    let (driver, control) = driver();
    let pending = wait_for(&driver, 7);
    driver.flush();
    drop(driver);
    assert_eq!(control.heard(), (7, true));
    drop(pending);
    assert_eq!(control.heard(), (7, false));
    let gone = control.heard.recv_timeout(Duration::from_secs(10));
    assert!(gone.is_err(), "the engine is gone");
}

/// Proves that the thread ends too when all that it still finds was dropped meanwhile.
#[test]
fn the_thread_ends_over_what_was_dropped() {
    for _ in 0..1000 {
        let (driver, control) = driver();
        let pending = wait_for(&driver, 7);
        driver.flush();
        drop((pending, driver));
        let heard = |(value, _)| assert_eq!(value, 7);
        control.heard.iter().for_each(heard);
    }
}

/// Proves that when the kernel takes no more, what is pending and what comes fails.
#[test]
fn a_broken_engine_fails_everything() {
    let (driver, control) = driver();
    let pending = wait_for(&driver, 7);
    driver.flush();
    control.tell(u64::MAX);
    let error = pending.wait(Deadline::NEVER).unwrap_err();
    assert_eq!(error.errno(), Some(Errno(libc::ENXIO)));
    let error = wait_for(&driver, 0).wait(Deadline::NEVER).unwrap_err();
    assert_eq!(error.errno(), Some(Errno(libc::ENXIO)));
}

/// Proves that why there is no engine is what the caller learns.
#[test]
fn no_engine() {
    let refused = Error::local(ErrorKind::Unsupported, "io_uring", "none");
    let expected = refused.clone();
    let started = Driver::start(move || Err::<Fake, _>(refused));
    assert_eq!(started.err(), Some(expected));
}

/// Proves that numbers differ and are not the engine's own.
#[test]
fn numbers() {
    let (first, second) = (next_id(), next_id());
    assert_ne!(first, second);
    assert!(first > u64::from(u32::MAX));
    assert_eq!(first >> 40, second >> 40);
}
