// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a case asks the host to do, over the control channel.

use std::path::Path;

use guest_init::control::Control;
use libvaccel::Segment;
use serde_json::json;

use crate::rig::{failed, Problem, Result};

/// The host, whose budgets go back to what was configured when this is dropped.
#[derive(Debug)]
pub struct Host {
    control: Control,
    vgpu: u32,
}

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

    /// Sets the budget of a segment group.
    pub fn set_budget(&mut self, segment: Segment, bytes: u64) -> Result {
        let request = json!({
            "op": "budget", "vgpu": self.vgpu, "segment": name(segment), "bytes": bytes
        });
        self.control.request(&request).map_err(refused)?;
        Ok(())
    }

    /// Has the host take the virtual GPU back.
    pub fn rescind(&mut self) -> Result {
        self.channel("rescind")
    }

    /// Has the host offer the virtual GPU again; offered already is good.
    pub fn offer(&mut self) -> Result {
        self.channel("offer")
    }

    fn channel(&mut self, op: &str) -> Result {
        let request = json!({"op": op, "channel": "vgpu", "vgpu": self.vgpu});
        self.control.request(&request).map_err(refused)?;
        Ok(())
    }

    /// Has the host drop `bytes` of offered memory, the least important first; how much it dropped.
    pub fn pressure(&mut self, bytes: u64) -> Result<u64> {
        let request = json!({"op": "pressure", "vgpu": self.vgpu, "bytes": bytes});
        let answer = self.control.request(&request).map_err(refused)?;
        match answer.get("dropped").and_then(serde_json::Value::as_u64) {
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

/// Puts both budgets back.
pub fn restore(control: &mut Control, vgpu: u32) {
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
