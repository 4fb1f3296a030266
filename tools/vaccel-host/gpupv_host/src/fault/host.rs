// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the rules meet the host.

use gpupv::{ChannelType, CommandId, Message};

use super::armed::Armed;
use super::waiting::{Due, Kept};
use super::{OperationId, Plan, Rule, RuleCounts, RuleError, Seen, MAX_RULES};
use crate::env::{Channel, Env, MessageIn};
use crate::host::Host;

impl Host {
    /// Arms a rule and returns its number.
    ///
    /// # Errors
    ///
    /// Fails if the rule makes no sense, or if there are [`MAX_RULES`].
    pub fn arm(&mut self, rule: Rule) -> Result<u64, RuleError> {
        rule.check(self.vgpus.len())?;
        let faults = &mut self.out.faults;
        if faults.rules.len() >= MAX_RULES {
            return Err(RuleError::TooMany);
        }
        faults.next_id = faults.next_id.saturating_add(1);
        let id = faults.next_id;
        faults.rules.push(Armed::new(id, rule, faults.seed));
        Ok(id)
    }

    /// How often each rule matched and fired, in the order they were armed.
    pub fn rule_counts(&self) -> Vec<RuleCounts> {
        self.out.faults.rules.iter().map(Armed::counts).collect()
    }

    /// Disarms all rules. What is late because of one still comes.
    pub fn clear_rules(&mut self) {
        self.out.faults.rules.clear();
    }

    /// Sets the seed of rules that have none of their own and are armed from now on.
    pub fn set_fault_seed(&mut self, seed: u64) {
        self.out.faults.seed = seed;
    }

    /// The next operation that a rule asks the caller for. The caller asks for it after each call that
    /// can handle a message or send an event, carries all out, and then calls [`Host::resume`].
    pub fn take_operation(&mut self) -> Option<OperationId> {
        self.out.faults.operations.pop_front()
    }

    /// Goes on with messages that waited for operations.
    pub fn resume(&mut self, env: &mut dyn Env) {
        while self.out.faults.operations.is_empty() && !self.is_mute() {
            let Some(mut kept) = self.out.faults.kept.pop_front() else {
                return;
            };
            let plan = match kept.plan.take() {
                Some(plan) => plan,
                None => self.judge(kept.channel, &kept.message()),
            };
            if !self.wait_for_operations(kept.channel, kept.message(), plan, env) {
                return;
            }
        }
    }

    /// Takes a message as the rules say.
    pub(crate) fn message_by_rules(
        &mut self,
        channel: Channel,
        message: MessageIn<'_>,
        env: &mut dyn Env,
    ) {
        if !self.out.faults.kept.is_empty() {
            let kept = Kept::new(channel, message, None);
            return self.out.faults.kept.push_back(kept);
        }
        let plan = self.judge(channel, &message);
        self.wait_for_operations(channel, message, plan, env);
    }

    /// Carries a message out, unless operations have to be carried out before. Whether it did.
    fn wait_for_operations(
        &mut self,
        channel: Channel,
        message: MessageIn<'_>,
        mut plan: Plan,
        env: &mut dyn Env,
    ) -> bool {
        if plan.before.is_empty() {
            self.carry_out(channel, message, plan, env);
            return true;
        }
        let faults = &mut self.out.faults;
        faults.operations.extend(plan.before.drain(..));
        faults
            .kept
            .push_front(Kept::new(channel, message, Some(plan)));
        false
    }

    fn judge(&mut self, channel: Channel, message: &MessageIn<'_>) -> Plan {
        let seen = self.look_at(channel, message);
        self.out.faults.judge(&seen)
    }

    fn look_at(&self, channel: Channel, message: &MessageIn<'_>) -> Seen {
        let decoded = Message::decode(self.negotiation.version(), message.payload).ok();
        let command = decoded.as_ref().and_then(|message| message.id().ok());
        let is_adapter = |id: &CommandId| id.channel() == ChannelType::Adapter;
        let vgpu = match (channel, &decoded) {
            (Channel::Vgpu(vgpu), _) => Some(vgpu),
            (Channel::Global, Some(message)) if command.as_ref().is_some_and(is_adapter) => {
                self.vgpu_of(message).ok()
            }
            _ => None,
        };
        Seen {
            channel,
            number: decoded
                .as_ref()
                .map(|message| message.header().command_type),
            command,
            vgpu,
            answered: message.completion_requested,
        }
    }

    fn carry_out(
        &mut self,
        channel: Channel,
        message: MessageIn<'_>,
        plan: Plan,
        env: &mut dyn Env,
    ) {
        let now = env.now_ns();
        self.out.faults.schedule(now, &plan.later);
        if plan.drop {
            self.messages.taken = self.messages.taken.saturating_add(1);
        } else if plan.delay != 0 {
            let kept = Kept::new(channel, message, None);
            let faults = &mut self.out.faults;
            faults.late.add(now, plan.delay, Due::Message(kept));
        } else {
            for bytes in &plan.early {
                env.complete(channel, message.transaction_id, &vec![0; *bytes]);
            }
            if !plan.answer.is_empty() {
                let key = (channel, message.transaction_id);
                self.out.faults.answers.insert(key, plan.answer);
            }
            self.handle(channel, message, plan.forced, env);
        }
        self.out.faults.operations.extend(plan.after);
    }

    /// Does what is due.
    pub(crate) fn end_delays(&mut self, now: u64, env: &mut dyn Env) {
        while let Some(due) = self.out.faults.late.take(now) {
            match due {
                Due::Packet(packet) => packet.send(env),
                Due::Message(kept) => self.handle(kept.channel, kept.message(), None, env),
                Due::Operation(id) => self.out.faults.operations.push_back(id),
            }
        }
    }
}
