// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device thread: owns the VMBus server and the GPU-PV host and feeds them what arrives.
//!
//! Everything arrives through the [`Inbox`] or as an acknowledgement of the SynIC; the thread
//! sleeps on those events and never blocks elsewhere. It ends when the inbox says so and then
//! returns the exit status the guest set.

mod functions;
mod offers;
mod packets;
mod requests;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use gpupv_host::Host;
use vmbus_server::Server;
use vmm::SerialInput;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::faults::FaultBook;
use crate::hot_add::GpuSlots;
use crate::inbox::Inbox;
use crate::results::Sink;
use crate::scenario::Scenario;
use crate::world::{HostWorld, Purpose, Wiring, World};

/// Events taken from the kernel at a time.
const EVENTS: usize = 16;
/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds after which an offer is tried again that the guest was not ready for.
const OFFER_RETRY: u64 = 10 * MILLISECOND;
/// Nanoseconds for which it is tried.
const OFFER_PATIENCE: u64 = 30_000 * MILLISECOND;
/// Token of the inbox; acknowledgements have the number of their processor.
const INBOX: u64 = u64::MAX;

/// The state of the device thread.
pub struct Device {
    /// The VMBus server.
    pub server: Server,
    /// The GPU-PV host.
    pub host: Host,
    /// What connects them.
    pub world: World,
    /// Where virtual GPUs can be added.
    pub slots: GpuSlots,
    /// What arrives.
    pub inbox: Arc<Inbox>,
    /// Where answers of the control channel go.
    pub answers: SerialInput,
    /// Where results go.
    pub results: Sink,
    /// The rules of misbehaviour.
    pub faults: FaultBook,
    /// Offers that the guest is not ready for, and until when they are tried.
    pub late_offers: Vec<(Purpose, u64)>,
    /// Exit status the guest set.
    pub exit: Option<u8>,
}

impl Device {
    /// Does what a scenario says, with this seed if it is given. Before anything is offered.
    ///
    /// # Errors
    ///
    /// Fails if an operation or a rule is refused.
    pub fn begin(&mut self, scenario: &Scenario, seed: Option<u64>) -> Result<()> {
        let seed = seed.unwrap_or(scenario.seed);
        tracing::info!(seed, rules = scenario.rules.len(), "misbehaviour");
        self.host.set_fault_seed(seed);
        for (number, operation) in (1..).zip(&scenario.operations) {
            let answer = self.carry_out(operation.clone())?;
            if let Some(reason) = answer.get("error") {
                bail!("scenario: operation {number}: {reason}");
            }
        }
        for (number, rule) in (1..).zip(&scenario.rules) {
            let armed = self.faults.arm(rule.clone(), &mut self.host);
            armed.with_context(|| format!("scenario: rule {number}"))?;
        }
        Ok(())
    }

    /// Works until the inbox says stop; returns the exit status the guest set.
    ///
    /// # Errors
    ///
    /// Fails if the events cannot be waited for or a result cannot be written.
    pub fn run(mut self) -> Result<Option<u8>> {
        let epoll = Epoll::new().context("cannot wait for events")?;
        let watch = |fd, token| {
            let event = EpollEvent::new(EventSet::IN, token);
            epoll.ctl(ControlOperation::Add, fd, event)
        };
        watch(self.inbox.wake().as_raw_fd(), INBOX)?;
        let synic = Arc::clone(&self.world.synic);
        let acknowledged: Vec<_> = synic.acknowledged().collect();
        for (vp, event) in (0..).zip(&acknowledged) {
            watch(event.as_raw_fd(), vp)?;
        }
        let mut events = [EpollEvent::default(); EVENTS];
        loop {
            let count = match epoll.wait(self.patience(), &mut events) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.context("cannot wait for events")?,
            };
            let mut retry = false;
            for event in events.iter().take(count) {
                // An event that fired before it was read once more is no error.
                let _ = match usize::try_from(event.data()) {
                    Ok(vp) if event.data() != INBOX => {
                        retry = true;
                        acknowledged.get(vp).map(|event| event.read())
                    }
                    _ => Some(self.inbox.wake().read()),
                };
            }
            if retry {
                self.with_server(|server, wiring| server.retry_messages(wiring));
            }
            if self.take_all()? {
                return Ok(self.exit);
            }
        }
    }

    /// How long to sleep at most, as epoll takes it: until there is something to do.
    fn patience(&self) -> i32 {
        let now = self.world.now_ns();
        let late = (!self.late_offers.is_empty()).then(|| now.saturating_add(OFFER_RETRY));
        let times = [self.host.deadline(), self.world.pci.deadline(), late];
        let next = times.into_iter().flatten().min();
        next.map_or(-1, |at| {
            // Not a moment too early, or it would be asked again and again.
            let left = at.saturating_sub(now).div_ceil(MILLISECOND);
            i32::try_from(left).unwrap_or(i32::MAX)
        })
    }

    /// Tells the host that time has passed.
    fn tick(&mut self) {
        let mut env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        self.host.tick(&mut env);
        self.settle();
    }

    /// Handles everything that waits; returns whether the thread is to end. While the host is mute
    /// packets stay in their rings.
    fn take_all(&mut self) -> Result<bool> {
        loop {
            self.tick();
            let (message, signals, line, done, stop) = {
                let mut waiting = self.inbox.lock();
                let message = if self.server.can_accept() {
                    waiting.messages.pop_front()
                } else {
                    None
                };
                let signals = if self.host.is_mute() {
                    BTreeSet::new()
                } else {
                    std::mem::take(&mut waiting.signals)
                };
                (
                    message,
                    signals,
                    waiting.control.pop_front(),
                    std::mem::take(&mut waiting.done),
                    waiting.stop,
                )
            };
            let idle = message.is_none() && signals.is_empty() && line.is_none() && done.is_empty();
            if idle {
                return Ok(stop);
            }
            for (job, outcome) in done {
                let mut env = HostWorld {
                    server: Some(&self.server),
                    world: &mut self.world,
                };
                self.host.engine_done(job, outcome, &mut env);
            }
            if let Some(message) = message {
                let now = self.world.now_ns();
                if let Some(trace) = &mut self.world.trace {
                    trace.vmbus(now, "guest", &message.payload);
                }
                self.with_server(|server, wiring| {
                    let result = server.post_message(
                        message.connection,
                        message.message_type,
                        &message.payload,
                        wiring,
                    );
                    if let Err(error) = result {
                        tracing::debug!(%error, "message of the guest dropped");
                    }
                });
            }
            for connection in signals {
                if let Ok(Some(channel)) = self.server.signal_event(connection, 0) {
                    self.poll(channel);
                }
            }
            self.settle();
            if let Some(line) = line {
                let answer = self.answer(&line)?;
                if !self.answers.send(format!("{answer}\n").as_bytes()) {
                    tracing::debug!("the guest does not read the control channel: answer dropped");
                }
                self.settle();
            }
        }
    }

    /// Raises the interrupts that are wanted and rescinds the channels that failed.
    fn settle(&mut self) {
        self.obey_rules();
        self.settle_functions();
        self.offer_late_ones();
        while let Some((id, reason)) = self.world.failed.pop() {
            self.with_server(|server, wiring| server.fail_channel(id, &reason, wiring));
        }
        for id in std::mem::take(&mut self.world.interrupts) {
            self.with_server(|server, wiring| server.signal_guest(id, wiring));
        }
    }

    fn with_server<R>(&mut self, call: impl FnOnce(&mut Server, &mut Wiring<'_>) -> R) -> R {
        let mut wiring = Wiring {
            host: &mut self.host,
            world: &mut self.world,
        };
        call(&mut self.server, &mut wiring)
    }
}
