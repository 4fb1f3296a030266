// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the device to work on.

use libvaccel::enumerate::{candidates, Candidate, Selector};
use libvaccel::{Device, ErrorKind};

use crate::environment::System;
use crate::failure::{Exit, Stop};

/// A node of some accelerator, opened if it is ours.
#[derive(Debug)]
pub struct Found {
    /// As sysfs has it.
    pub candidate: Candidate,
    /// The device, or why it is none.
    pub device: libvaccel::Result<Device>,
}

/// All nodes that are, or may be, ours: those of other drivers are left out.
pub fn all(system: &System) -> Result<Vec<Found>, Stop> {
    Ok(candidates(&system.roots())?
        .into_iter()
        .map(|candidate| Found {
            device: candidate.open(),
            candidate,
        })
        .filter(|found| match &found.device {
            Ok(_) => true,
            // Another driver answered, or answers nothing.
            Err(error) => error.kind() != ErrorKind::Unsupported,
        })
        .collect())
}

/// The device the user means; the only one, if none is named.
pub fn one(wanted: Option<&str>, system: &System) -> Result<Device, Stop> {
    match wanted {
        Some(text) => named(text, system),
        None => only(system),
    }
}

fn named(text: &str, system: &System) -> Result<Device, Stop> {
    let selector = Selector::parse(text)?;
    let error = match selector.open(&system.roots()) {
        Ok(device) => return Ok(device),
        Err(error) => error,
    };
    match (error.kind(), &selector) {
        (ErrorKind::Permission, Selector::Node(path)) => Err(system.no_permission(path)),
        (ErrorKind::NotFound | ErrorKind::Ambiguous | ErrorKind::Unsupported, _) => {
            let choices = choices(&all(system)?);
            if choices.is_empty() {
                return Err(system.no_device());
            }
            Err(Stop {
                exit: Exit::Usage,
                message: error.to_string(),
                advice: choices,
            })
        }
        _ => Err(Stop::new(Exit::Environment, error.to_string())),
    }
}

fn only(system: &System) -> Result<Device, Stop> {
    let mut found = all(system)?;
    if found.len() > 1 {
        return Err(Stop {
            exit: Exit::Usage,
            message: "several accelerators: choose one with --device".into(),
            advice: choices(&found),
        });
    }
    let Some(Found { candidate, device }) = found.pop() else {
        return Err(system.no_device());
    };
    device.map_err(|error| match error.kind() {
        ErrorKind::Permission => system.no_permission(&candidate.node),
        ErrorKind::NotFound => system.no_device(),
        _ => Stop::new(Exit::Environment, error.to_string()),
    })
}

fn choices(found: &[Found]) -> Vec<String> {
    found
        .iter()
        .map(|found| {
            let pci = found.candidate.pci.as_deref().unwrap_or("no PCI address");
            format!("--device {}  ({pci})", found.candidate.name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> System {
        System {
            sys: "/nonexistent/sys".into(),
            dev: "/nonexistent/dev".into(),
        }
    }

    /// Proves that no device is status 77 whether or not one was named, and that a name that can be
    /// none is a usage error.
    #[test]
    fn without_devices() {
        let exit = |wanted| one(wanted, &empty()).unwrap_err().exit;
        assert_eq!(exit(None), Exit::NoDevice);
        assert_eq!(exit(Some("accel7777")), Exit::NoDevice);
        assert_eq!(exit(Some("0000:00:02.0")), Exit::NoDevice);
        assert_eq!(exit(Some("00000000deadbeef")), Exit::NoDevice);
        assert_eq!(exit(Some("first")), Exit::Usage);
    }
}
