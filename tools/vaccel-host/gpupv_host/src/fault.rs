// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host that misbehaves as it is told: rules say on which messages, and what then.
//!
//! Rules act where messages enter the host and where answers and events leave it; no handler knows
//! of them. Without a rule that can still fire, and nothing waiting because of one, a message passes
//! after one check.
//!
//! What is counted: a rule counts the messages that match it from when it was armed, when the host
//! takes them (not while it is mute). It fires on the `nth` of them and on those that follow, `count`
//! altogether. A rule about answers does not match messages that get none. Events count when they are
//! sent.
//!
//! Several rules: each that matches counts, each that is due fires, and what they do happens in the
//! order in which they were armed. If one says that the message is not carried out, it is not,
//! whatever the others say, and there is no answer; if two name a status, the first one holds.
//!
//! Resources: a command whose answer is lost, cut or spoilt has been carried out, and what it made
//! lives until the process ends or the channel closes, as if the guest had the answer. A message that
//! is dropped, or refused with a status instead of being carried out, leaves nothing behind. What is
//! delayed is forgotten when its channel closes.
//!
//! Operations are carried out by the caller, who knows the machine: before the message is handled
//! (messages behind it wait), or after, or after a time.
//!
//! Random bytes come from one generator for each rule. Its seed is the rule's own, or made of the
//! host's seed and the rule's number, so that the same rules, seed and messages give the same bytes.

mod armed;
mod host;
mod outgoing;
mod rule;
mod select;
mod stray;
mod waiting;

pub use armed::RuleCounts;
pub use rule::{Action, Garbage, Rule, RuleError, Status, MAX_RULES};
pub use select::{ChannelMatch, CommandMatch, EventMatch, On};

use std::collections::{BTreeMap, VecDeque};

use gpupv::CommandId;

use crate::call::{Completion, Forced};
use crate::env::{Channel, Env, VgpuId};
use armed::Armed;
use outgoing::{Effect, Packet};
use waiting::{Due, Kept, Waiting};

/// An operation of the caller's that a rule names, by a number of the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// What a rule looks at in a message of the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The channel it came on.
    pub channel: Channel,
    /// The number of the command, if there is a header.
    pub number: Option<u32>,
    /// The command, if there is such a one.
    pub command: Option<CommandId>,
    /// The GPU it is for.
    pub vgpu: Option<VgpuId>,
    /// Whether it will be answered.
    pub answered: bool,
}

/// What the rules that fire say about one message.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// It is not carried out.
    drop: bool,
    /// It is carried out so many milliseconds later.
    delay: u64,
    /// The answer it gets, whatever its handler says.
    forced: Option<Forced>,
    /// Lengths of completions that come before it is handled.
    early: Vec<usize>,
    /// What is done to its answer.
    answer: Vec<Effect>,
    /// What is done before and after it is handled.
    before: Vec<OperationId>,
    after: Vec<OperationId>,
    /// What is done after so many milliseconds.
    later: Vec<(u64, OperationId)>,
}

/// The rules, and what waits because of them.
#[derive(Debug, Default)]
pub struct Faults {
    seed: u64,
    next_id: u64,
    rules: Vec<Armed>,
    /// What is to be done to answers that have not been given.
    answers: BTreeMap<(Channel, u64), Vec<Effect>>,
    /// Answers, events, messages and operations that are late.
    late: Waiting,
    /// Messages that wait for operations, oldest first.
    kept: VecDeque<Kept>,
    /// Operations that the caller has to carry out.
    operations: VecDeque<OperationId>,
}

impl Faults {
    /// Whether everything passes as it is.
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty()
            && self.answers.is_empty()
            && self.late.is_empty()
            && self.kept.is_empty()
    }

    /// What the rules say about a message; counts it.
    pub(crate) fn judge(&mut self, seen: &Seen) -> Plan {
        let mut plan = Plan::default();
        for armed in &mut self.rules {
            if armed.fires(|rule| rule.is_about(seen)) {
                tracing::info!(rule = armed.id, channel = ?seen.channel, command = ?seen.command,
                    action = ?armed.rule.action, "fault");
                armed.add_to(&mut plan, seen.answered);
            }
        }
        plan
    }

    /// Gives an answer, or what the rules make of it.
    pub fn answer(&mut self, to: Completion, payload: &[u8], env: &mut dyn Env) {
        let effects = self.answers.remove(&(to.channel, to.transaction_id));
        let Some(effects) = effects else {
            return env.complete(to.channel, to.transaction_id, payload);
        };
        let packet = Packet::answer(to, payload);
        self.emit(packet, effects, env);
    }

    /// Sends an event, or what the rules make of it.
    pub fn event(&mut self, number: u32, payload: &[u8], env: &mut dyn Env) {
        let mut effects = Vec::new();
        let mut plan = Plan::default();
        for armed in &mut self.rules {
            if armed.fires(|rule| rule.on.matches_event(number)) {
                tracing::info!(rule = armed.id, event = number, action = ?armed.rule.action,
                    "fault");
                effects.extend(armed.effect_on_event());
                armed.add_operation_to(&mut plan);
            }
        }
        self.emit(Packet::event(payload), effects, env);
        let now = env.now_ns();
        self.operations.extend(plan.before.drain(..));
        self.operations.extend(plan.after.drain(..));
        self.schedule(now, &plan.later);
    }

    fn emit(&mut self, packet: Packet, effects: Vec<Effect>, env: &mut dyn Env) {
        for packet in outgoing::apply(packet, effects) {
            if packet.delay == 0 {
                packet.send(env);
            } else {
                self.late
                    .add(env.now_ns(), packet.delay, Due::Packet(packet));
            }
        }
    }

    fn schedule(&mut self, now: u64, operations: &[(u64, OperationId)]) {
        for (milliseconds, id) in operations {
            self.late.add(now, *milliseconds, Due::Operation(*id));
        }
    }

    /// When something that waits is due, by the host's clock.
    pub fn deadline(&self) -> Option<u64> {
        self.late.deadline()
    }

    /// Forgets what waits for a channel that is closed.
    pub fn forget(&mut self, closed: Channel) {
        self.answers.retain(|(channel, _), _| *channel != closed);
        self.late.forget(closed);
        self.kept.retain(|kept| kept.channel != closed);
    }
}
