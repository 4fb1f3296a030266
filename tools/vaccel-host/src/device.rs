// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device thread: owns the VMBus server and the GPU-PV host and feeds them what arrives.
//!
//! Everything arrives through the [`Inbox`] or as an acknowledgement of the SynIC; the thread
//! sleeps on those events and never blocks elsewhere. It ends when the inbox says so and then
//! returns the exit status the guest set.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use gpupv_host::{Channel, Host, MessageIn, VgpuId};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{clock_gettime, ClockId};
use serde_json::Value;
use vmbus_ring::{PacketKind, PollState};
use vmbus_server::{ChannelId, Guid, Offer, Server};
use vmm::SerialInput;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::control::{self, EngineFault, FailedState, Request, ResultLine, Target};
use crate::faults::FaultBook;
use crate::hot_add::GpuSlots;
use crate::inbox::Inbox;
use crate::results::{self, Sink};
use crate::scenario::Scenario;
use crate::trace::Asks;
use crate::world::{HostWorld, Wiring, World};

/// Packets taken from one ring before others get their turn.
const RING_BUDGET: usize = 64;
/// Events taken from the kernel at a time.
const EVENTS: usize = 16;
/// Nanoseconds of a millisecond.
const MILLISECOND: u64 = 1_000_000;
/// Milliseconds after which an offer is tried again that the guest was not ready for.
const OFFER_RETRY_MS: i32 = 10;
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
    /// Offers that rules ask for and that the guest is not ready for, and until when they are tried.
    pub late_offers: Vec<(Channel, u64)>,
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

    /// Offers all channels.
    ///
    /// # Errors
    ///
    /// Fails if the server has no room for them.
    pub fn offer_all(&mut self) -> Result<()> {
        let vgpus: Vec<VgpuId> = self.host.vgpus().map(|(id, _)| id).collect();
        if vgpus.is_empty() {
            return Ok(());
        }
        self.offer(Channel::Global)?;
        for vgpu in vgpus {
            self.offer(Channel::Vgpu(vgpu))?;
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

    /// How long to sleep at most, as epoll takes it: until the host wants to be told the time.
    fn patience(&self) -> i32 {
        let wait = self.host.deadline().map(|at| {
            let left = at.saturating_sub(self.world.now_ns());
            // Not a moment too early, or it would be asked again and again.
            i32::try_from(left.div_ceil(MILLISECOND)).unwrap_or(i32::MAX)
        });
        match wait {
            _ if self.late_offers.is_empty() => wait.unwrap_or(-1),
            Some(wait) => wait.min(OFFER_RETRY_MS),
            None => OFFER_RETRY_MS,
        }
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

    /// Takes packets from a channel's rings and gives them to the host.
    fn poll(&mut self, id: ChannelId) {
        let Some(open) = self.world.open.get_mut(&id) else {
            return;
        };
        let channel = open.channel;
        let batch = match open.rings.receive(RING_BUDGET) {
            Ok(batch) => batch,
            Err(error) => {
                self.world.failed.push((id, error.to_string()));
                return;
            }
        };
        if batch.signal.is_needed() {
            self.world.interrupts.insert(id);
        }
        if batch.state == PollState::More {
            self.inbox.lock().signals.insert(id.event_connection());
        }
        for packet in batch.packets {
            if packet.head.kind != PacketKind::Data {
                tracing::debug!(%id, kind = ?packet.head.kind, "packet ignored");
                continue;
            }
            let message = MessageIn {
                transaction_id: packet.head.transaction_id,
                completion_requested: packet.head.completion_requested,
                payload: &packet.payload,
            };
            let now = self.world.now_ns();
            if let Some(trace) = &mut self.world.trace {
                let asks = Asks {
                    transaction: message.transaction_id,
                    answered: message.completion_requested,
                    payload: message.payload,
                };
                trace.command(now, self.host.version(), channel, asks);
            }
            let mut env = HostWorld {
                server: Some(&self.server),
                world: &mut self.world,
            };
            self.host.message(channel, message, &mut env);
            self.obey_rules();
            if !self.world.open.contains_key(&id) {
                // A rule had it rescinded.
                break;
            }
        }
    }

    /// Raises the interrupts that are wanted and rescinds the channels that failed.
    fn settle(&mut self) {
        self.obey_rules();
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

    pub(crate) fn offer(&mut self, channel: Channel) -> Result<()> {
        let (class, instance, mmio_megabytes) = match channel {
            Channel::Global => (
                gpupv::GLOBAL_CHANNEL,
                // Any instance will do: there is one global channel.
                gpupv::GLOBAL_CHANNEL,
                self.host.config().mmio_megabytes,
            ),
            Channel::Vgpu(vgpu) => {
                let instance = self
                    .host
                    .vgpus()
                    .find(|(id, _)| *id == vgpu)
                    .map(|(_, config)| config.channel_instance)
                    .context("no such virtual GPU")?;
                (gpupv::VGPU_CHANNEL, instance, 0)
            }
        };
        let offer = Offer {
            mmio_megabytes,
            ..Offer::new(Guid(class.to_bytes()), Guid(instance.to_bytes()))
        };
        let id = self.with_server(|server, wiring| server.offer(offer, wiring))?;
        self.world.offered.insert(id, channel);
        Ok(())
    }

    /// Carries a request of the control channel out and returns the answer.
    fn answer(&mut self, line: &str) -> Result<Value> {
        match control::parse(line) {
            Ok(request) => self.carry_out(request),
            Err(reason) => Ok(control::refused(&reason)),
        }
    }

    fn carry_out(&mut self, request: Request) -> Result<Value> {
        let answer = match request {
            Request::Census => serde_json::to_value(self.host.census())?,
            Request::Messages => serde_json::to_value(self.host.messages())?,
            Request::Time => serde_json::json!({ "busy_ns": busy_ns()? }),
            Request::Result { name, data } => {
                let name = name.as_str();
                let line = serde_json::to_string(&ResultLine { name, data: &data })?;
                results::write_line(&mut self.results, &line).context("cannot write a result")?;
                control::ok()
            }
            Request::EngineFault {
                job: EngineFault::FlipOneElement,
                vgpu,
            } => match self.vgpu(vgpu) {
                Some(vgpu) if self.host.arm_wrong_result(vgpu) => control::ok(),
                _ => control::refused("no such virtual GPU"),
            },
            Request::EngineFault {
                job: EngineFault::Hang,
                vgpu,
            } => match self.vgpu(vgpu) {
                Some(vgpu) if self.host.arm_hang(vgpu) => control::ok(),
                _ => control::refused("no such virtual GPU"),
            },
            Request::StopAdapter { vgpu } => self.stop_adapter(vgpu),
            Request::StrayEvents { seed, count } => {
                let mut env = HostWorld {
                    server: Some(&self.server),
                    world: &mut self.world,
                };
                self.host.send_strays(seed, count, &mut env);
                control::ok()
            }
            Request::RemoveFunction { vgpu } => self.plug(vgpu, false),
            Request::AddFunction { vgpu } => self.plug(vgpu, true),
            Request::Rescind(target) => self.rescind(target),
            Request::Offer(target) => match self.target(target).map(|to| self.offer(to)) {
                Some(Ok(())) => control::ok(),
                Some(Err(error)) => control::refused(&format!("{error:#}")),
                None => control::refused("no such virtual GPU"),
            },
            Request::AddVgpu => match self.add_vgpu() {
                Ok(vgpu) => serde_json::json!({ "ok": true, "vgpu": vgpu.index() }),
                Err(error) => control::refused(&format!("{error:#}")),
            },
            Request::Budget {
                vgpu,
                segment,
                bytes,
            } => match self.vgpu(vgpu) {
                Some(vgpu) if self.host.set_budget(vgpu, segment.into(), bytes) => control::ok(),
                _ => control::refused("no such virtual GPU"),
            },
            Request::Pressure { vgpu, bytes } => {
                let vgpu = self.vgpu(vgpu);
                match vgpu.and_then(|vgpu| self.host.pressure(vgpu, bytes)) {
                    Some(dropped) => serde_json::json!({ "ok": true, "dropped": dropped }),
                    None => control::refused("no such virtual GPU"),
                }
            }
            Request::Mute { vgpu, milliseconds } => self.mute(vgpu, milliseconds),
            Request::FailDevice { vgpu, state } => self.fail_devices(vgpu, state),
            Request::DropEvents { count } => {
                self.host.drop_events(count);
                control::ok()
            }
            Request::Fault(rule) => match self.faults.arm(rule, &mut self.host) {
                Ok(id) => serde_json::json!({ "ok": true, "id": id }),
                Err(error) => control::refused(&error.to_string()),
            },
            Request::Faults => self.faults.list(&self.host),
            Request::ClearFaults => {
                self.faults.clear(&mut self.host);
                control::ok()
            }
            Request::Exit { code } => {
                self.exit = Some(code);
                control::ok()
            }
        };
        Ok(answer)
    }

    /// Carries out what rules ask for, and goes on with the messages that waited for it.
    fn obey_rules(&mut self) {
        while let Some(id) = self.host.take_operation() {
            let Some(request) = self.faults.operation(id).cloned() else {
                continue;
            };
            tracing::info!(?request, "a rule's operation");
            match request {
                Request::Offer(target) => {
                    let end = self.world.now_ns().saturating_add(OFFER_PATIENCE);
                    let channel = self.target(target);
                    self.late_offers
                        .extend(channel.map(|channel| (channel, end)));
                    self.offer_late_ones();
                }
                request => match self.carry_out(request) {
                    Ok(answer) => tracing::debug!(%answer, "done"),
                    Err(error) => tracing::warn!(%error, "a rule's operation failed"),
                },
            }
            let mut env = HostWorld {
                server: Some(&self.server),
                world: &mut self.world,
            };
            self.host.resume(&mut env);
        }
    }

    /// Makes the offers that rules asked for, as soon as the guest has let go of the old channel.
    fn offer_late_ones(&mut self) {
        let now = self.world.now_ns();
        for (channel, end) in std::mem::take(&mut self.late_offers) {
            if let Err(error) = self.offer(channel) {
                if now < end {
                    self.late_offers.push((channel, end));
                } else {
                    tracing::warn!(?channel, %error, "a rule's offer failed");
                }
            }
        }
    }

    fn mute(&mut self, vgpu: usize, milliseconds: u64) -> Value {
        if self.vgpu(vgpu).is_none() {
            return control::refused("no such virtual GPU");
        }
        let env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        self.host.mute(milliseconds, &env);
        control::ok()
    }

    fn stop_adapter(&mut self, vgpu: usize) -> Value {
        let vgpu = self.vgpu(vgpu);
        let mut env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        match vgpu {
            Some(vgpu) if self.host.stop_adapter(vgpu, &mut env) => control::ok(),
            _ => control::refused("no such virtual GPU"),
        }
    }

    /// Puts the PCI function of a virtual GPU in or takes it out.
    fn plug(&self, vgpu: usize, present: bool) -> Value {
        match self.slots.function(vgpu) {
            Some(slot) => {
                slot.set_present(present);
                control::ok()
            }
            None => control::refused("no such virtual GPU"),
        }
    }

    fn fail_devices(&mut self, vgpu: usize, state: FailedState) -> Value {
        let vgpu = self.vgpu(vgpu);
        let mut env = HostWorld {
            server: Some(&self.server),
            world: &mut self.world,
        };
        match vgpu {
            Some(vgpu) if self.host.fail_devices(vgpu, state.into(), &mut env) => control::ok(),
            _ => control::refused("no such virtual GPU"),
        }
    }

    fn rescind(&mut self, target: Target) -> Value {
        let wanted = self.target(target);
        // The newest offer: older ones may wait for the guest to release them.
        let found = self
            .world
            .offered
            .iter()
            .rev()
            .find(|(_, channel)| Some(**channel) == wanted)
            .map(|(id, _)| *id);
        match found {
            Some(id) => match self.with_server(|server, wiring| server.rescind(id, wiring)) {
                Ok(()) => control::ok(),
                Err(error) => control::refused(&error.to_string()),
            },
            None => control::refused("no such channel is offered"),
        }
    }

    fn target(&self, target: Target) -> Option<Channel> {
        match target {
            Target::Global => Some(Channel::Global),
            Target::Vgpu { vgpu } => self.vgpu(vgpu).map(Channel::Vgpu),
        }
    }

    fn vgpu(&self, index: usize) -> Option<VgpuId> {
        self.host.vgpus().nth(index).map(|(id, _)| id)
    }
}

/// Processor time of this thread, in nanoseconds.
fn busy_ns() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(TimeSpec::num_nanoseconds(&time))
}
