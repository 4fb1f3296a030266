// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel: the guest asks, on its second serial port, one JSON line a request.
//!
//! | request | answer |
//! | --- | --- |
//! | `{"op":"census"}` | the object census of the GPU-PV host |
//! | `{"op":"messages"}` | `{"taken":n,"answered":n}`: messages of the guest so far, on all channels |
//! | `{"op":"time"}` | `{"busy_ns":n}`: processor time of the thread that does the host's work, so far |
//! | `{"op":"result","name":..,"data":..}` | `{"ok":true}`; the two members become a result line |
//! | `{"op":"engine-fault","job":"flip-one-element","vgpu":0}` | `{"ok":true}`; the next job that writes leaves one wrong element |
//! | `{"op":"engine-fault","job":"hang","vgpu":0}` | `{"ok":true}`; the next job does nothing and never ends by itself |
//! | `{"op":"stop-adapter","vgpu":0}` | `{"ok":true}`; the GPU loses everything and refuses everything until it is opened again |
//! | `{"op":"stray-events","seed":1,"count":1}` | `{"ok":true}`; so many messages that mean nothing come |
//! | `{"op":"remove-function","vgpu":0}` | `{"ok":true}`; the PCI function of a GPU goes. With `--pci vmbus` in the way that `"how"` says: `"eject"`, the usual one, `"relations"`, `"rescind"` |
//! | `{"op":"add-function","vgpu":0}` | `{"ok":true}`; it comes back |
//! | `{"op":"functions"}` | `{"functions":[{..}]}`; with `--pci vmbus`, of each GPU's function: its place, and the state of its bus |
//! | `{"op":"balloon","mib":64}` | `{"ok":true}`; the guest is asked to give so much of its memory in all, or gets back what it gave beyond that |
//! | `{"op":"balloon-state"}`, `{"op":"balloon-state","mib":64}` | `{"ok":true,"balloon":{..}}`; how much it has given, and what it says of its memory; an error unless it has given `mib` |
//! | `{"op":"rescind","channel":"global"}`, `{"op":"rescind","channel":"vgpu","vgpu":0}`, `{"op":"rescind","channel":"pci","vgpu":0}`, `{"op":"rescind","channel":"balloon"}` | `{"ok":true}` |
//! | `{"op":"offer",..}` as for rescind | `{"ok":true}`; offers the channel again |
//! | `{"op":"add-vgpu"}` | `{"ok":true,"vgpu":n}`; one more virtual GPU, as those that were there from the start: its channels are offered; with `--pci ports` its PCI function is there when the guest scans the bus |
//! | `{"op":"budget","vgpu":0,"segment":"local","bytes":4096}`, `"segment":"non-local"` | `{"ok":true}`; the budget from now on, or the configured one again without `bytes` |
//! | `{"op":"pressure","vgpu":0,"bytes":4096}` | `{"ok":true,"dropped":bytes}`; offered contents were dropped as if memory were short |
//! | `{"op":"mute","vgpu":0,"milliseconds":500}` | `{"ok":true}`; for so long the host of that GPU, which is that of all, answers nothing, takes nothing and says nothing; then it goes on with what has queued up |
//! | `{"op":"fail-device","vgpu":0,"state":"hung"}`, `"reset"`, `"page-fault"`, `"stopped"` | `{"ok":true}`; every device of that GPU that has not failed is in that state |
//! | `{"op":"drop-events","count":1}` | `{"ok":true}`; so many guest events from now on are lost |
//! | `{"op":"fault","on":{..},"do":{..}}` | `{"ok":true,"id":n}`; a rule of misbehaviour is armed ([`crate::faults`]) |
//! | `{"op":"faults"}` | `{"rules":[{"id":n,"rule":{..},"matched":n,"fired":n}]}`; the rules, in the order they were armed |
//! | `{"op":"clear-faults"}` | `{"ok":true}`; all rules are disarmed |
//! | `{"op":"exit","code":0}` | `{"ok":true}`; the exit status when the guest powers off |
//!
//! Anything else is answered `{"error":".."}`.

use std::sync::{Arc, OnceLock};

use gpupv::ExecutionState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vaccel_isa::Segment;
use vmm::SerialOutput;

use crate::faults::FaultRule;
use crate::inbox::Inbox;

/// Longest request; longer ones are cut, and then refused as malformed.
const MAX_LINE: usize = 4 << 20;

/// A request of the guest.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Count the objects.
    Census,
    /// Count the messages.
    Messages,
    /// Tell the processor time that the host's work took.
    Time,
    /// Keep a result.
    Result {
        /// What the result is of.
        name: String,
        /// The result.
        data: Value,
    },
    /// Arm a fault.
    EngineFault {
        /// Which.
        job: EngineFault,
        /// On which virtual GPU.
        #[serde(default)]
        vgpu: usize,
    },
    /// Take an offer back.
    Rescind(Target),
    /// Offer a channel again.
    Offer(Target),
    /// Add a virtual GPU.
    AddVgpu,
    /// Change the budget of processes.
    Budget {
        /// On which virtual GPU.
        #[serde(default)]
        vgpu: usize,
        /// Of which memory.
        segment: SegmentGroup,
        /// To how many bytes; to what was configured if not given.
        bytes: Option<u64>,
    },
    /// Drop offered contents.
    Pressure {
        /// On which virtual GPU.
        #[serde(default)]
        vgpu: usize,
        /// Until they are so many.
        bytes: u64,
    },
    /// Say nothing for a while.
    Mute {
        /// The host of which virtual GPU; all have the same one.
        #[serde(default)]
        vgpu: usize,
        /// For how long; 0 ends it.
        milliseconds: u64,
    },
    /// Fail devices.
    FailDevice {
        /// On which virtual GPU.
        #[serde(default)]
        vgpu: usize,
        /// In which way.
        state: FailedState,
    },
    /// Stop a virtual GPU.
    StopAdapter {
        /// Which.
        #[serde(default)]
        vgpu: usize,
    },
    /// Send messages that mean nothing.
    StrayEvents {
        /// Seed of their bytes.
        #[serde(default)]
        seed: u64,
        /// How many.
        count: u32,
    },
    /// Take a PCI function out of its slot.
    RemoveFunction {
        /// Of which virtual GPU.
        #[serde(default)]
        vgpu: usize,
        /// In which way, if it has a bus of its own.
        how: Option<Removal>,
    },
    /// Put a PCI function back.
    AddFunction {
        /// Of which virtual GPU.
        #[serde(default)]
        vgpu: usize,
    },
    /// Tell where PCI functions are.
    Functions,
    /// Take memory from the guest, or give it back.
    Balloon {
        /// How much it shall have given in all, in MiB.
        mib: u32,
    },
    /// Tell how much memory it has given.
    BalloonState {
        /// How much it has to be, in MiB.
        mib: Option<u32>,
    },
    /// Lose guest events.
    DropEvents {
        /// How many.
        count: u64,
    },
    /// Arm a rule of misbehaviour.
    Fault(FaultRule),
    /// List the rules.
    Faults,
    /// Disarm all rules.
    ClearFaults,
    /// Set the exit status.
    Exit {
        /// The status.
        code: u8,
    },
}

/// A fault that can be armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineFault {
    /// One element of the next result is wrong.
    FlipOneElement,
    /// The next job hangs.
    Hang,
}

/// How a PCI function goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// The guest is asked to let go, and the bus goes when it has, or after a minute.
    Eject,
    /// The bus is there, without the function.
    Relations,
    /// The bus goes.
    Rescind,
}

/// A group of memory segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentGroup {
    /// The GPU's own memory.
    Local,
    /// The host's memory.
    NonLocal,
}

impl From<SegmentGroup> for Segment {
    fn from(group: SegmentGroup) -> Self {
        match group {
            SegmentGroup::Local => Self::Local,
            SegmentGroup::NonLocal => Self::NonLocal,
        }
    }
}

/// How a device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailedState {
    /// A job did not end in time.
    Hung,
    /// The GPU was reset.
    Reset,
    /// A job touched memory that it must not.
    PageFault,
    /// The GPU was stopped.
    Stopped,
}

impl From<FailedState> for ExecutionState {
    fn from(state: FailedState) -> Self {
        match state {
            FailedState::Hung => Self::HUNG,
            FailedState::Reset => Self::RESET,
            FailedState::PageFault => Self::ERROR_DMA_PAGE_FAULT,
            FailedState::Stopped => Self::STOPPED,
        }
    }
}

/// A channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "channel", rename_all = "kebab-case")]
pub enum Target {
    /// The channel of the VM.
    Global,
    /// The channel of a virtual GPU.
    Vgpu {
        /// Which.
        #[serde(default)]
        vgpu: usize,
    },
    /// The channel of the balloon.
    Balloon,
    /// The channel of a virtual GPU's PCI function.
    Pci {
        /// Of which virtual GPU.
        #[serde(default)]
        vgpu: usize,
    },
}

/// One line of the results.
#[derive(Debug, Serialize)]
pub struct ResultLine<'a> {
    /// What the result is of.
    pub name: &'a str,
    /// The result.
    pub data: &'a Value,
}

/// Parses a request; the error is for the guest.
///
/// # Errors
///
/// Fails if the line is not a request.
pub fn parse(line: &str) -> Result<Request, String> {
    serde_json::from_str(line).map_err(|error| error.to_string())
}

/// The answer to a request that was carried out.
pub fn ok() -> Value {
    serde_json::json!({ "ok": true })
}

/// The answer to a request that was not.
pub fn refused(reason: &str) -> Value {
    serde_json::json!({ "error": reason })
}

/// Collects the lines the guest sends and puts them into the device thread's mailbox.
pub struct Lines {
    line: Vec<u8>,
    inbox: Arc<OnceLock<Arc<Inbox>>>,
}

impl Lines {
    /// Makes a collector; lines before `inbox` is set are lost.
    pub fn new(inbox: Arc<OnceLock<Arc<Inbox>>>) -> Self {
        Self {
            line: Vec::new(),
            inbox,
        }
    }
}

impl SerialOutput for Lines {
    fn byte(&mut self, byte: u8) {
        if byte != b'\n' {
            if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
            return;
        }
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        if let (false, Some(inbox)) = (line.is_empty(), self.inbox.get()) {
            inbox.control(line);
        }
    }
}

#[cfg(test)]
mod tests;
