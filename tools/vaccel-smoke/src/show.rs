// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that only look: `list`, `info`, `list-tests`.

use libvaccel::{Device, Segment};

use crate::environment::System;
use crate::failure::{Exit, Stop};
use crate::jobs;
use crate::model::{DeviceInfo, Entry, InfoDocument, List, SCHEMA};
use crate::print;
use crate::select;

fn luid(value: Option<u64>) -> Option<String> {
    value.map(|value| format!("{value:016x}"))
}

/// Everything that can be asked about a device. A question without an answer is null; a device
/// that is lost is an error.
pub fn describe(device: &Device) -> libvaccel::Result<DeviceInfo> {
    let info = device.info()?;
    let budget = device.budget(Segment::Local).ok();
    let isa = device.isa().ok().flatten();
    Ok(DeviceInfo {
        node: device.path().display().to_string(),
        name: device.description().ok(),
        instance_id: device.instance_id().ok(),
        luid: luid(info.luid),
        host_adapter_luid: luid(info.host_adapter_luid),
        host_vgpu_luid: luid(info.host_vgpu_luid),
        interface_version: info.interface_version,
        compute_only: info.compute_only,
        features: info.feature_names(),
        host_capabilities: info.host_cap_names(),
        io_space_bytes: info.io_space_size,
        object_bytes_max: info.bo_size_max,
        resets: info.resets,
        budget_bytes: budget.map(|budget| budget.budget),
        usage_bytes: budget.map(|budget| budget.usage),
        engine: isa.as_ref().map(|isa| isa.name().to_owned()),
        isa: isa.map(|isa| format!("{}.{}", isa.isa_version >> 16, isa.isa_version & 0xffff)),
    })
}

/// `list`.
pub fn list(json: bool) -> Result<Exit, Stop> {
    let system = System::default();
    let devices: Vec<Entry> = select::all(&system)?
        .into_iter()
        .map(|found| {
            let node = found.candidate.node.display().to_string();
            let pci = found.candidate.pci.clone();
            match found.device.and_then(|device| describe(&device)) {
                Ok(info) => Entry {
                    node,
                    luid: info.luid,
                    pci,
                    name: info.name,
                    interface_version: info.interface_version,
                    state: "ready".into(),
                },
                Err(error) => Entry {
                    node,
                    luid: None,
                    pci,
                    name: None,
                    interface_version: None,
                    state: error.to_string(),
                },
            }
        })
        .collect();
    let list = List {
        schema: SCHEMA,
        devices,
    };
    if json {
        print::json(&list)?;
    } else {
        print::line(&print::text::list(&list))?;
    }
    if list.devices.is_empty() {
        return Err(system.no_device());
    }
    Ok(Exit::Pass)
}

/// `info`.
pub fn info(wanted: Option<&str>, json: bool) -> Result<Exit, Stop> {
    let device = select::one(wanted, &System::default())?;
    let document = InfoDocument {
        schema: SCHEMA,
        device: describe(&device)?,
    };
    if json {
        print::json(&document)?;
    } else {
        print::line(&print::text::info(&document.device))?;
    }
    Ok(Exit::Pass)
}

/// `list-tests`.
pub fn tests() -> Result<Exit, Stop> {
    for job in jobs::ALL {
        print::line(&format!("{:<14}{}", job.name, job.what))?;
    }
    Ok(Exit::Pass)
}
