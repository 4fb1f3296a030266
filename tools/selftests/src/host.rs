// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a case asks the host to do, over the control channel.

use std::path::Path;
use std::time::Duration;

use guest_init::control::Control;
use libvaccel::Segment;
use serde_json::{json, Value};

use crate::rig::{failed, Problem, Result};

/// The host, which goes back to what was configured when this is dropped.
#[derive(Debug)]
pub struct Host {
    control: Control,
    vgpu: u32,
}

/// Messages of the guest since the host is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Messages {
    /// How many it took.
    pub taken: u64,
    /// How many it answered.
    pub answered: u64,
}

/// How long no message must come before none is taken to be on its way.
const QUIET: Duration = Duration::from_millis(50);

/// The virtual GPU behind a node: accelN is the N-th.
pub fn vgpu_of(node: &Path) -> u32 {
    let name = node.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(0)
}

impl Host {
    /// Opens the control channel, or skips.
    pub fn open(node: &Path) -> Result<Self> {
        match Control::open() {
            Some(control) => Ok(Self {
                control,
                vgpu: vgpu_of(node),
            }),
            None => Err(Problem::Skipped("no control channel".into())),
        }
    }

    /// The number of the virtual GPU.
    pub const fn vgpu(&self) -> u32 {
        self.vgpu
    }

    /// Sets the budget of a segment group.
    pub fn set_budget(&mut self, segment: Segment, bytes: u64) -> Result {
        let request = json!({
            "op": "budget", "vgpu": self.vgpu, "segment": name(segment), "bytes": bytes
        });
        self.ask(&request)
    }

    /// Has the host take the virtual GPU back.
    pub fn rescind(&mut self) -> Result {
        self.channel("rescind")
    }

    /// Has the host offer the virtual GPU again; offered already is good.
    pub fn offer(&mut self) -> Result {
        self.channel("offer")
    }

    /// Has the host take the channel of the VM back, and with it every virtual GPU.
    pub fn rescind_vm(&mut self) -> Result {
        self.ask(&json!({"op": "rescind", "channel": "global"}))
    }

    /// Has the host offer the channel of the VM again; offered already is good.
    pub fn offer_vm(&mut self) -> Result {
        self.ask(&json!({"op": "offer", "channel": "global"}))
    }

    fn channel(&mut self, op: &str) -> Result {
        self.ask(&json!({"op": op, "channel": "vgpu", "vgpu": self.vgpu}))
    }

    /// Has the host answer nothing, process no message and send no event for this long.
    pub fn mute(&mut self, time: Duration) -> Result {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.ask(&json!({"op": "mute", "vgpu": self.vgpu, "milliseconds": milliseconds}))
    }

    /// Has every device on the virtual GPU fail as if by its job: "hung", "reset", "page-fault" or
    /// "stopped".
    pub fn fail_devices(&mut self, state: &str) -> Result {
        self.ask(&json!({"op": "fail-device", "vgpu": self.vgpu, "state": state}))
    }

    /// Has the host lose the next `count` events.
    pub fn drop_events(&mut self, count: u32) -> Result {
        self.ask(&json!({"op": "drop-events", "count": count}))
    }

    /// Arms a rule of misbehaviour: on these messages (`{"command":..}`), do that (`{"kind":..}`). The
    /// rule's number; it is disarmed when this is dropped.
    pub fn fault(&mut self, on: Value, does: Value) -> Result<u64> {
        let request = json!({"op": "fault", "on": on, "do": does});
        let answer = self.control.request(&request).map_err(refused)?;
        match answer.get("id").and_then(Value::as_u64) {
            Some(id) => Ok(id),
            None => failed(format!("fault: the host says {answer}")),
        }
    }

    /// How often a rule fired.
    pub fn fired(&mut self, id: u64) -> Result<u64> {
        let answer = self
            .control
            .request(&json!({"op": "faults"}))
            .map_err(refused)?;
        let rules = answer.get("rules").and_then(Value::as_array);
        let rule = rules
            .into_iter()
            .flatten()
            .find(|rule| rule.get("id").and_then(Value::as_u64) == Some(id));
        match rule
            .and_then(|rule| rule.get("fired"))
            .and_then(Value::as_u64)
        {
            Some(fired) => Ok(fired),
            None => failed(format!("rule {id}: the host says {answer}")),
        }
    }

    /// Disarms all rules of misbehaviour.
    pub fn clear_faults(&mut self) -> Result {
        self.ask(&json!({"op": "clear-faults"}))
    }

    fn ask(&mut self, request: &Value) -> Result {
        self.control.request(request).map_err(refused)?;
        Ok(())
    }

    /// How many messages came and were answered.
    pub fn messages(&mut self) -> Result<Messages> {
        let answer = self
            .control
            .request(&json!({"op": "messages"}))
            .map_err(refused)?;
        let count = |key| answer.get(key).and_then(Value::as_u64);
        match (count("taken"), count("answered")) {
            (Some(taken), Some(answered)) => Ok(Messages { taken, answered }),
            _ => failed(format!("messages: the host says {answer}")),
        }
    }

    /// As [`Host::messages`], once nothing is on its way any more that was sent before.
    pub fn quiet_messages(&mut self) -> Result<Messages> {
        let mut before = self.messages()?;
        for _ in 0..200 {
            std::thread::sleep(QUIET);
            let now = self.messages()?;
            if now == before {
                return Ok(now);
            }
            before = now;
        }
        failed("messages come without end")
    }

    /// Has the host drop `bytes` of offered memory, the least important first; how much it dropped.
    pub fn pressure(&mut self, bytes: u64) -> Result<u64> {
        let request = json!({"op": "pressure", "vgpu": self.vgpu, "bytes": bytes});
        let answer = self.control.request(&request).map_err(refused)?;
        match answer.get("dropped").and_then(Value::as_u64) {
            Some(dropped) => Ok(dropped),
            None => failed(format!("pressure: the host says {answer}")),
        }
    }
}

fn refused(error: guest_init::control::ControlError) -> Problem {
    Problem::Failed(error.to_string())
}

const fn name(segment: Segment) -> &'static str {
    match segment {
        Segment::Local => "local",
        Segment::NonLocal => "non-local",
    }
}

/// Puts both budgets back, disarms rules, and has no more events lost.
pub fn restore(control: &mut Control, vgpu: u32) {
    // A host that knows no rules has none armed.
    let _ = control.request(&json!({"op": "clear-faults"}));
    // A host that knows no such thing loses none.
    let _ = control.request(&json!({"op": "drop-events", "count": 0}));
    for segment in [Segment::Local, Segment::NonLocal] {
        // A host that knows no budgets has none to put back.
        let _ = control.request(&json!({"op": "budget", "vgpu": vgpu, "segment": name(segment)}));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        restore(&mut self.control, self.vgpu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a node's number is the virtual GPU's.
    #[test]
    fn numbers() {
        assert_eq!(vgpu_of(Path::new("/dev/accel/accel0")), 0);
        assert_eq!(vgpu_of(Path::new("/dev/accel/accel12")), 12);
        assert_eq!(vgpu_of(Path::new("/dev/other")), 0);
    }
}
