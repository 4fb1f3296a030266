// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host, by the control channel of the test machine: what it holds, and what it is asked to do.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use guest_init::census::{self, Counts};
use guest_init::control::Control;
use serde_json::{json, Value};

/// How long the host may take to let go of what a process had.
const SETTLE: Duration = Duration::from_secs(20);
/// How long the guest may take to let go of a channel that was taken back.
const RELEASE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// A channel that the host can take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The virtual GPU's.
    Vgpu,
    /// The VM's.
    Global,
}

/// The host, and what it holds for an idle guest.
#[derive(Debug)]
pub struct Host {
    control: Control,
    idle: Counts,
}

impl Host {
    /// Opens the control channel. No program may have the device open.
    ///
    /// # Errors
    ///
    /// There is no channel, or no answer.
    pub fn open() -> Result<Self> {
        let mut control = Control::open().context("there is no control channel to the host")?;
        let census = control.request(&json!({"op": "census"}))?;
        Ok(Self {
            control,
            idle: census::counts(&census),
        })
    }

    /// What the host holds beyond the idle state, after it was given time.
    pub fn leak(&mut self) -> Option<String> {
        let end = Instant::now() + SETTLE;
        loop {
            let census = match self.ask(&json!({"op": "census"})) {
                Ok(census) => census,
                Err(error) => return Some(format!("{error:#}")),
            };
            let excess = census::excess(&census, &self.idle)?;
            if Instant::now() >= end {
                // What is lost stays lost: what comes next is not to be blamed for it.
                self.idle = census::counts(&census);
                return Some(format!("the host still holds {excess}"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Has the host answer nothing and take nothing for this long; no time ends it.
    ///
    /// # Errors
    ///
    /// As of the control channel, also below.
    pub fn mute(&mut self, time: Duration) -> Result<()> {
        let milliseconds = u64::try_from(time.as_millis())?;
        self.ask(&json!({"op": "mute", "vgpu": 0, "milliseconds": milliseconds}))?;
        Ok(())
    }

    /// Has the host take a channel back.
    ///
    /// # Errors
    ///
    /// The host refuses.
    pub fn rescind(&mut self, channel: Channel) -> Result<()> {
        self.ask(&request("rescind", channel))?;
        Ok(())
    }

    /// Has the host offer a channel again, once the guest has let go of it.
    ///
    /// # Errors
    ///
    /// The guest does not let go of it, or the host refuses for another reason.
    pub fn offer(&mut self, channel: Channel) -> Result<()> {
        let request = request("offer", channel);
        self.control.request_until_taken(&request, RELEASE)?;
        Ok(())
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        Ok(self.control.request(request)?)
    }
}

fn request(op: &str, channel: Channel) -> Value {
    match channel {
        Channel::Vgpu => json!({"op": op, "channel": "vgpu", "vgpu": 0}),
        Channel::Global => json!({"op": op, "channel": "global"}),
    }
}
