// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host whose every message is changed at random: whatever it says, the driver comes back, and works
//! when it is offered anew by a host that is well.

use std::time::Instant;

use serde_json::{json, Value};

use super::bounded;
use super::faults::is_documented;
use super::figures::{End, Figures};
use super::master::{node, until, Channel, Master};
use super::operations::Operation;
use super::restart;
use crate::rig::{failed, Numbers, Problem, Result};

/// Operations that meet one seed.
const OPERATIONS: u64 = 12;
/// Parts of bytes that are changed.
const RATES: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5];

/// What happens to messages, by a seed: mostly random changes, of events too.
fn rules(seed: u64, numbers: &mut Numbers) -> Vec<(Value, Value)> {
    let all = json!({"command": "any", "event": "any", "count": 0});
    let rate = RATES[numbers.below(RATES.len() as u64) as usize];
    let mutate = json!({"kind": "mutate", "rate": rate, "seed": seed});
    let mut rules = vec![(all, mutate)];
    let events = json!({"event": "any", "count": 0});
    let odd = match numbers.below(6) {
        0 => json!({"kind": "duplicate"}),
        1 => json!({"kind": "long", "bytes": 1 + numbers.below(256), "seed": seed}),
        2 => json!({"kind": "short", "bytes": 1 + numbers.below(32)}),
        3 => json!({"kind": "malformed", "seed": seed}),
        4 => json!({"kind": "delay", "milliseconds": numbers.below(200)}),
        _ => return rules,
    };
    rules.push((events, odd));
    rules
}

/// Has random changes meet operations in random order, until `end`, from `seed` on. Returns
/// what was not as it must be; the virtual GPU may not work after the last of it.
pub fn run(master: &mut Master, figures: &mut Figures, end: Instant, seed: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seed = seed;
    while Instant::now() < end {
        super::note(&format!("fuzz seed {seed}"));
        let outcome = one(master, figures, seed);
        let survived = outcome.is_ok().then_some(End::Renewed);
        figures.add("mutate", "any", survived);
        if let Err(Problem::Failed(reason) | Problem::Skipped(reason)) = outcome {
            problems.push(format!("seed {seed}: {reason}"));
            if let Err(problem) = master.renew() {
                problems.push(format!("it does not come back: {problem:?}"));
                return problems;
            }
        }
        seed += 1;
    }
    problems
}

fn one(master: &mut Master, figures: &mut Figures, seed: u64) -> Result {
    let mut numbers = Numbers(seed);
    let mut armed = Vec::new();
    for (on, does) in rules(seed, &mut numbers) {
        armed.push(master.arm(&on, &does)?);
    }
    let mut outcome = Ok(());
    // One in four starts under it.
    if numbers.below(4) == 0 {
        master.take_back(Channel::Global)?;
        until("the node goes", || node().is_none())?;
        master.offer(Channel::Global)?;
        restart::comes_within(restart::GIVES_UP);
    }
    for _ in 0..OPERATIONS {
        let operation = Operation::ALL[numbers.below(Operation::ALL.len() as u64) as usize];
        outcome = meet(operation);
        if outcome.is_err() || node().is_none() {
            break;
        }
    }
    for rule in armed {
        figures.add_messages(master.fired(rule)?);
    }
    master.renew()?;
    outcome
}

fn meet(operation: Operation) -> Result {
    let Some(node) = node() else {
        return Ok(());
    };
    match bounded::run(bounded::LIMIT, move || operation.run(&node)) {
        Ok(Err(error)) if !is_documented(&error) => failed(format!("{operation:?}: {error}")),
        Ok(_) => Ok(()),
        Err(_) => failed(format!("{operation:?}: not back in time")),
    }
}
