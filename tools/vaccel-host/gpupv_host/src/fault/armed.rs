// SPDX-License-Identifier: MIT OR Apache-2.0
//! An armed rule: counts, and turns what it says into what is done.

use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::outgoing::Effect;
use super::rule::{Action, Rule};
use super::Plan;
use crate::call::Forced;

/// How often a rule matched and fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// The number it got when it was armed.
    pub id: u64,
    /// Messages that matched since then.
    pub matched: u64,
    /// Those of them that it fired on.
    pub fired: u64,
}

/// An armed rule.
#[derive(Debug)]
pub(super) struct Armed {
    pub id: u64,
    pub rule: Rule,
    matched: u64,
    fired: u64,
    /// The seed of each firing.
    seeds: ChaCha8Rng,
}

impl Armed {
    pub fn new(id: u64, rule: Rule, host_seed: u64) -> Self {
        let seed = rule.seed.unwrap_or_else(|| derived(host_seed, id));
        Self {
            id,
            rule,
            matched: 0,
            fired: 0,
            seeds: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub fn counts(&self) -> RuleCounts {
        RuleCounts {
            id: self.id,
            matched: self.matched,
            fired: self.fired,
        }
    }

    /// Counts a message if it matches; whether the rule is due on it.
    pub fn fires(&mut self, matches: impl FnOnce(&Rule) -> bool) -> bool {
        if !matches(&self.rule) {
            return false;
        }
        self.matched = self.matched.saturating_add(1);
        let on = &self.rule.on;
        let due = self.matched >= on.nth && (on.count == 0 || self.fired < on.count);
        if due {
            self.fired = self.fired.saturating_add(1);
        }
        due
    }

    /// Adds what it does to a message of the guest.
    pub fn add_to(&mut self, plan: &mut Plan, answered: bool) {
        match self.rule.action {
            Action::DropMessage {} => plan.drop = true,
            Action::Delay { milliseconds } if !answered => {
                plan.delay = plan.delay.saturating_add(milliseconds);
            }
            Action::Status {
                status,
                after,
                bare,
            } => {
                plan.forced.get_or_insert(Forced {
                    status: status.0,
                    after,
                    bare,
                });
            }
            Action::Before { bytes } => plan.early.push(bytes),
            Action::Operation { .. } => self.add_operation_to(plan),
            _ => plan.answer.extend(self.effect()),
        }
    }

    /// Adds the operation it names, if it names one.
    pub fn add_operation_to(&self, plan: &mut Plan) {
        let Action::Operation {
            id,
            after,
            milliseconds,
        } = self.rule.action
        else {
            return;
        };
        match (milliseconds, after) {
            (0, false) => plan.before.push(id),
            (0, true) => plan.after.push(id),
            (milliseconds, _) => plan.later.push((milliseconds, id)),
        }
    }

    /// What it does to an event.
    pub fn effect_on_event(&mut self) -> Option<Effect> {
        match self.rule.action {
            Action::DropMessage {} => Some(Effect::Lose),
            _ => self.effect(),
        }
    }

    /// What it does to something on its way out.
    fn effect(&mut self) -> Option<Effect> {
        let mut noise = || ChaCha8Rng::from_rng(&mut self.seeds);
        Some(match self.rule.action {
            Action::Delay { milliseconds } => Effect::Delay(milliseconds),
            Action::DropAnswer {} => Effect::Lose,
            Action::Short { bytes } => Effect::Short(bytes),
            Action::Long { bytes } => Effect::Long(bytes, noise()),
            Action::Malformed { mode } => Effect::Spoil(mode, noise()),
            Action::Duplicate {} => Effect::Twice,
            Action::WrongId {} => Effect::WrongId(noise()),
            Action::Mutate { rate } => Effect::Mutate(rate, noise()),
            Action::DropMessage {}
            | Action::Status { .. }
            | Action::Before { .. }
            | Action::Operation { .. } => return None,
        })
    }
}

/// The seed of a rule that has none of its own.
fn derived(host_seed: u64, id: u64) -> u64 {
    // An odd constant keeps the rules of neighbouring seeds apart.
    host_seed.wrapping_add(id.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
