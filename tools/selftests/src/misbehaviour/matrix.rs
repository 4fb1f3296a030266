// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every fault against every command: one at a time, each from a virtual GPU that works to one that works
//! again.

use std::time::Duration;

use libvaccel::Error;
use serde_json::json;

use super::bounded;
use super::commands::{Command, Role};
use super::faults::{is_documented, Fault, Must, NO_MEMORY};
use super::figures::End;
use super::master::{node, Master};
use super::operations::Operation;
use super::restart;
use crate::rig::{ensure, failed, Result};

/// How long a command may take to come that gives something back.
const SENT: Duration = Duration::from_secs(5);

/// Tries a fault on a command. How the virtual GPU got well again.
///
/// # Errors
///
/// What was not as it must be. The virtual GPU may not work then.
pub fn try_one(master: &mut Master, command: &Command, fault: &Fault, seed: u64) -> Result<End> {
    let on = json!({"command": command.name});
    let rule = master.arm(&on, &fault.does(seed))?;
    let outcome = meet(master, command, fault);
    let fired = master.fired_within(rule, SENT)?;
    master.clear()?;
    outcome?;
    ensure(fired == 1, format!("the command came {fired} times"))?;
    let dirty = fault.dirty || command.role.outlasts();
    match (dirty, master.is_well(dirty)) {
        (_, Ok(())) => Ok(End::AsItWas),
        (true, Err(_)) => master.renew().map(|()| End::Renewed),
        (false, Err(problem)) => Err(problem),
    }
}

fn meet(master: &mut Master, command: &Command, fault: &Fault) -> Result {
    let Some(operation) = command.role.operation() else {
        return restart::meet(master, command.name, fault.must);
    };
    let Some(node) = node() else {
        return failed("there is no node");
    };
    let outcome = match bounded::run(bounded::LIMIT, move || operation.run(&node)) {
        Ok(outcome) => outcome,
        Err(late) => {
            master.renew()?;
            let back = late.comes_within(bounded::LIMIT);
            return failed(format!("not back in time, after the channels went: {back}"));
        }
    };
    match (command.role, fault.must, outcome) {
        (_, Must::Succeed, Err(error)) => failed(format!("{operation:?}: {error}")),
        (Role::AsksForRoom(_), Must::Refuse { status, .. }, Ok(())) if status == NO_MEMORY => {
            Ok(())
        }
        (
            Role::Asks(_) | Role::AsksHandle(_) | Role::AsksForRoom(_),
            Must::Refuse { .. },
            Ok(()),
        ) => failed(format!("{operation:?}: nobody was told")),
        (Role::Asks(_) | Role::AsksForRoom(_), Must::Refuse { errno, status }, Err(error)) => {
            told(operation, &error, errno, Some(status))
        }
        (Role::AsksHandle(_), Must::Refuse { .. }, Err(error)) => {
            told(operation, &error, libc::EREMOTEIO, None)
        }
        (_, _, Err(error)) if !is_documented(&error) => failed(format!("{operation:?}: {error}")),
        _ => Ok(()),
    }
}

/// The error is this errno, with what the host said, if it said something.
fn told(operation: Operation, error: &Error, errno: i32, status: Option<u32>) -> Result {
    ensure(
        error.errno().map(|errno| errno.0) == Some(errno) && error.host_status() == status,
        format!("{operation:?}: {error}"),
    )
}
