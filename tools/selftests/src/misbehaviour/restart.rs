// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual GPU stops and starts, while the host misbehaves about it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::bounded;
use super::faults::Must;
use super::master::{node, until, Channel, Master};
use crate::rig::{ensure, failed, Problem, Result};

/// How long the node may take to come if nothing else is wrong.
const COMES: Duration = Duration::from_secs(20);
/// How long the driver may take to find out that it does not; nobody tells.
pub const GIVES_UP: Duration = Duration::from_secs(4);
/// The driver of the PCI function.
const DRIVER: &str = "/sys/bus/pci/drivers/vaccel";

/// Has the driver send `command`, whose answer is wrong. It must succeed if `must` says so; else it
/// ends, one way or the other.
pub fn meet(master: &mut Master, command: &str, must: Must) -> Result {
    if command == "CloseAdapter" {
        rebind()?;
    } else {
        master.take_back(Channel::Global)?;
        until("the node goes", || node().is_none())?;
        std::thread::sleep(Duration::from_millis(200));
        master.offer(Channel::Global)?;
    }
    let patience = if must == Must::Succeed {
        COMES
    } else {
        GIVES_UP
    };
    let came = comes_within(patience);
    ensure(
        must != Must::Succeed || came,
        "the virtual GPU does not start",
    )
}

/// Whether the node comes in this time.
pub fn comes_within(patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while node().is_none() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Takes the driver from the PCI function and gives it back.
fn rebind() -> Result {
    let function = function()?;
    for file in ["unbind", "bind"] {
        let (name, path) = (function.clone(), PathBuf::from(DRIVER).join(file));
        match bounded::run(bounded::LIMIT, move || std::fs::write(path, name)) {
            Ok(outcome) => outcome?,
            Err(_) => return failed(format!("{file} does not end")),
        }
    }
    Ok(())
}

/// The name of the PCI function that the driver has.
fn function() -> Result<String> {
    let entries = std::fs::read_dir(DRIVER)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .into_iter()
        .find(|name| {
            name.starts_with(|first: char| first.is_ascii_hexdigit()) && name.contains(':')
        })
        .ok_or_else(|| Problem::Failed("the driver has no PCI function".into()))
}
