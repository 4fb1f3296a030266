// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host, told how to misbehave, and brought back to its senses.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use guest_init::census::{self, Counts};
use guest_init::control::{Control, ControlError};
use libvaccel::{Device, ErrorKind};
use serde_json::{json, Value};

use super::bounded;
use crate::rig::{check_device_works, failed, Problem, Result};

/// Where nodes are.
const NODES: &str = "/dev/accel";
/// How long a node may take to come or go, and a file to be given back.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the host may take to let go of what a program had, if nothing is wrong.
const SETTLE: Duration = Duration::from_secs(10);
/// The same after a fault, before everything is offered anew.
const SETTLE_DIRTY: Duration = Duration::from_millis(300);
/// How long it takes at most to give back what belonged to a virtual GPU that is gone.
const LET_GO: Duration = Duration::from_millis(200);
/// How long a node may be there before it can be opened.
const OPENS: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// A channel that the host can take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// That of the VM.
    Global,
    /// That of the virtual GPU.
    Vgpu,
}

impl Channel {
    /// A request about it.
    pub fn request(self, op: &str) -> Value {
        match self {
            Self::Global => json!({"op": op, "channel": "global"}),
            Self::Vgpu => json!({"op": op, "channel": "vgpu", "vgpu": 0}),
        }
    }
}

/// The control channel, and what the host holds for an idle driver.
pub struct Master {
    control: Control,
    idle: Counts,
}

impl Master {
    /// Opens the control channel, or skips.
    pub fn open() -> Result<Self> {
        let Some(mut control) = Control::open() else {
            return Err(Problem::Skipped("no control channel".into()));
        };
        let census = control.request(&json!({"op": "census"})).map_err(refused)?;
        let idle = census::counts(&census);
        Ok(Self { control, idle })
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        self.control.request(request).map_err(refused)
    }

    /// Arms a rule and tells its number.
    pub fn arm(&mut self, on: &Value, does: &Value) -> Result<u64> {
        let answer = self.ask(&json!({"op": "fault", "on": on, "do": does}))?;
        match answer.get("id").and_then(Value::as_u64) {
            Some(id) => Ok(id),
            None => failed(format!("fault: the host says {answer}")),
        }
    }

    /// How often a rule fired.
    pub fn fired(&mut self, id: u64) -> Result<u64> {
        let answer = self.ask(&json!({"op": "faults"}))?;
        let rules = answer.get("rules").and_then(Value::as_array);
        let rule = rules
            .into_iter()
            .flatten()
            .find(|rule| rule.get("id").and_then(Value::as_u64) == Some(id));
        match rule.and_then(|rule| rule.get("fired")?.as_u64()) {
            Some(fired) => Ok(fired),
            None => failed(format!("rule {id}: the host says {answer}")),
        }
    }

    /// As [`Master::fired`], giving it `patience` to fire.
    pub fn fired_within(&mut self, id: u64, patience: Duration) -> Result<u64> {
        let end = Instant::now() + patience;
        loop {
            let fired = self.fired(id)?;
            if fired > 0 || Instant::now() >= end {
                return Ok(fired);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Disarms all rules.
    pub fn clear(&mut self) -> Result {
        self.ask(&json!({"op": "clear-faults"})).map(drop)
    }

    /// Hands figures to whoever runs the machine.
    pub fn report(&mut self, name: &str, data: &Value) -> Result {
        self.ask(&json!({"op": "result", "name": name, "data": data}))
            .map(drop)
    }

    /// Takes a channel back; gone already is good.
    pub fn take_back(&mut self, channel: Channel) -> Result {
        match self.control.request(&channel.request("rescind")) {
            Ok(_) | Err(ControlError::Refused(_)) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    /// Offers a channel once the guest has let go of the old one.
    pub fn offer(&mut self, channel: Channel) -> Result {
        let request = channel.request("offer");
        let taken = self.control.request_until_taken(&request, PATIENCE);
        taken.map(drop).map_err(refused)
    }

    /// What the host holds beyond the idle state, after giving it time.
    fn leak(&mut self, patience: Duration) -> Result<Option<String>> {
        let end = Instant::now() + patience;
        loop {
            let census = self.ask(&json!({"op": "census"}))?;
            let excess = census::excess(&census, &self.idle);
            if excess.is_none() || Instant::now() >= end {
                return Ok(excess);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Everything works and nothing is left, `dirty` or not, without being offered anew.
    pub fn is_well(&mut self, dirty: bool) -> Result {
        works()?;
        let patience = if dirty { SETTLE_DIRTY } else { SETTLE };
        match self.leak(patience)? {
            None => Ok(()),
            Some(excess) => failed(format!("the host still holds {excess}")),
        }
    }

    /// Disarms all rules, takes everything back, offers it anew, and has it verified.
    pub fn renew(&mut self) -> Result {
        // An answer may have come too late for whoever asked.
        self.control.settle().map_err(refused)?;
        self.clear()?;
        self.take_back(Channel::Vgpu)?;
        self.take_back(Channel::Global)?;
        until("the node goes", || node().is_none())?;
        // What the files that were just closed had is given back in the background, and with the last
        // of it the number of the node.
        std::thread::sleep(LET_GO);
        self.offer(Channel::Global)?;
        self.offer(Channel::Vgpu)?;
        until("the node comes back", || node().is_some())?;
        self.is_well(false)
    }
}

fn refused(error: ControlError) -> Problem {
    Problem::Failed(error.to_string())
}

/// A job, verified, in bounded time.
fn works() -> Result {
    let Some(node) = node() else {
        return failed("there is no node");
    };
    let job = move || check_device_works(&open(&node)?);
    match bounded::run(bounded::LIMIT, job) {
        Ok(outcome) => outcome,
        Err(_) => failed("a job does not end"),
    }
}

/// Opens a node that may just have come: the DRM core makes it before it can be opened.
fn open(node: &Path) -> Result<Device> {
    let end = Instant::now() + OPENS;
    loop {
        match Device::open(node) {
            Err(error) if error.kind() == ErrorKind::DeviceLost && Instant::now() < end => {
                std::thread::sleep(PAUSE);
            }
            other => return Ok(other?),
        }
    }
}

/// The node, if there is one. It is not opened: that would send messages.
pub fn node() -> Option<PathBuf> {
    let entries = std::fs::read_dir(NODES).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).min()
}

/// Waits for something to come true.
pub fn until(what: &str, mut done: impl FnMut() -> bool) -> Result {
    let end = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() >= end {
            return failed(format!("{what}: not within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
