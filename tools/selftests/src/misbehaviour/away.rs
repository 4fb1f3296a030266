// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host takes a channel back just when a command comes.

use std::time::Duration;

use serde_json::json;

use super::bounded;
use super::commands::{Command, Role};
use super::faults::is_documented;
use super::figures::End;
use super::master::{node, Channel, Master};
use super::operations::Operation;
use crate::rig::{ensure, failed, Result};

/// How long a command may take to come that gives something back.
const SENT: Duration = Duration::from_secs(5);

/// Takes `channel` back when `command` comes, and offers it again.
///
/// # Errors
///
/// What was not as it must be. The virtual GPU may not work then.
pub fn try_one(master: &mut Master, command: &Command, channel: Channel) -> Result<End> {
    let on = json!({"command": command.name});
    let does = json!({"kind": "operation", "operation": channel.request("rescind")});
    if command.role == Role::StartsOrStops {
        master.take_back(Channel::Global)?;
        super::master::until("the node goes", || node().is_none())?;
    }
    let rule = master.arm(&on, &does)?;
    match command.role.operation() {
        Some(operation) => meet(operation)?,
        None => master.offer(Channel::Global)?,
    }
    let fired = master.fired_within(rule, SENT)?;
    ensure(fired == 1, format!("the command came {fired} times"))?;
    master.renew().map(|()| End::Renewed)
}

fn meet(operation: Operation) -> Result {
    let Some(node) = node() else {
        return failed("there is no node");
    };
    match bounded::run(bounded::LIMIT, move || operation.run(&node)) {
        Ok(Err(error)) if !is_documented(&error) => failed(format!("{operation:?}: {error}")),
        Ok(_) => Ok(()),
        Err(_) => failed(format!("{operation:?}: not back in time")),
    }
}
