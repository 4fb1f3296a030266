// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who counts memory: fdinfo, the limit of pinned memory, the dmem cgroup.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use libvaccel::{
    sys, BindFlags, Bo, BoOptions, Device, ErrorKind, Features, OfferPriority, VmFlags,
};

use super::Case;
use crate::foreign::udmabuf;
use crate::rig::{
    check_device_works, ensure, eventually, failed, open_with, soon, Problem, Result,
};
use crate::system::{self, memfd};

pub const CASES: &[Case] = &[
    Case {
        name: "fdinfo-memory",
        proves: "fdinfo counts objects as local or non-local memory and moves by exactly what is \
                 made, made resident, offered and closed",
        run: fdinfo,
    },
    Case {
        name: "pin-limit",
        proves:
            "guest objects beyond what a file may pin are refused with ENOSPC and no host status, \
                 and fit again once another is closed; imports count too",
        run: pin_limit,
    },
    Case {
        name: "pin-new-vm",
        proves:
            "what was pinned for a vm that is gone is not paid for any more when its object is \
                 bound in the next one, however often",
        run: pin_new_vm,
    },
    Case {
        name: "cgroup-dmem",
        proves:
            "a cgroup's dmem.max below an object's size makes RESIDENT fail with ENOSPC and no \
                 host status; raised it passes, and the usage goes back to 0",
        run: dmem,
    },
];

const MEGABYTE: u64 = 1 << 20;

/// The sizes in the fdinfo of a file, in bytes.
fn sizes(device: &Device) -> Result<BTreeMap<String, u64>> {
    let path = format!("/proc/self/fdinfo/{}", device.as_fd().as_raw_fd());
    Ok(parse(&fs::read_to_string(path)?))
}

/// The lines of an fdinfo that are sizes.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let size = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let mut words = value.split_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        let unit = match words.next() {
            None => 1,
            Some("KiB") => 1 << 10,
            Some("MiB") => 1 << 20,
            Some(_) => return None,
        };
        Some((key.to_owned(), number * unit))
    };
    text.lines()
        .filter(|line| line.starts_with("drm-"))
        .filter_map(size)
        .collect()
}

/// `drm-KIND-REGION`, which must be there.
fn size(sizes: &BTreeMap<String, u64>, kind: &str, region: &str) -> Result<u64> {
    let key = format!("drm-{kind}-{region}");
    match sizes.get(&key) {
        Some(size) => Ok(*size),
        None => failed(format!("fdinfo has no {key}: {:?}", sizes.keys())),
    }
}

fn fdinfo(node: &Path) -> Result {
    let device = open_with(node, Features::OFFER | Features::MANUAL_RESIDENCY)?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let mut all = vec![("nonlocal", BoOptions::new(5 * MEGABYTE))];
    if device.features()?.contains(Features::HOST_MEMORY) {
        all.push(("local", BoOptions::host(5 * MEGABYTE)));
    }
    for (region, options) in all {
        let before = sizes(&device)?;
        let moved = |what: &str, total: u64, resident: Option<u64>, purgeable: u64| -> Result {
            let now = sizes(&device)?;
            for other in ["local", "nonlocal"] {
                let expected = |bytes| if other == region { bytes } else { 0 };
                for (kind, bytes) in [("total", total), ("purgeable", purgeable)] {
                    let grown = size(&now, kind, other)? - size(&before, kind, other)?;
                    ensure(
                        grown == expected(bytes),
                        format!("{region} {what}: {kind}-{other} grew by {grown}"),
                    )?;
                }
                let grown = size(&now, "resident", other)? - size(&before, "resident", other)?;
                ensure(
                    resident.is_none_or(|bytes| grown == expected(bytes)),
                    format!("{region} {what}: resident-{other} grew by {grown}"),
                )?;
            }
            Ok(())
        };
        let bytes = 5 * MEGABYTE;
        let bo = vm.create_bo(&options)?;
        moved("made", bytes, Some(0), 0)?;
        vm.make_resident(&[&bo])?.wait(soon())?;
        moved("resident", bytes, Some(bytes), 0)?;
        vm.evict(&[&bo])?;
        moved("evicted", bytes, Some(0), 0)?;
        // Offered memory may count as resident until the host takes it.
        vm.offer(&[&bo], OfferPriority::Normal, false)?;
        moved("offered", bytes, None, bytes)?;
        vm.reclaim(&[&bo])?;
        moved("reclaimed", bytes, Some(0), 0)?;
        // What a vm keeps resident by itself is so from BIND to UNBIND. Memory of the host that can
        // be offered is seen by one vm.
        if region == "nonlocal" {
            let auto = device.create_vm(VmFlags::empty())?;
            let binding = auto.bind(&bo, &libvaccel::BindOptions::new(BindFlags::empty()))?;
            moved("bound", bytes, Some(bytes), 0)?;
            binding.close()?;
            drop(auto);
            eventually("resident after UNBIND", || {
                Ok(moved("", bytes, Some(0), 0).is_ok())
            })?;
        }
        bo.close()?;
        eventually("counted after its close", || {
            Ok(moved("", 0, Some(0), 0).is_ok())
        })?;
    }
    Ok(())
}

/// What a file may pin, if that is not too much for the machine to try.
fn low_limit(device: &Device) -> Result<u64> {
    /// Most that the machine is asked for.
    const MOST: u64 = 192 << 20;
    let limit = device.param(sys::PARAM_PIN_LIMIT)?;
    if limit > MOST {
        return Err(Problem::Skipped(format!(
            "a file may pin {} MiB, too many to try",
            limit >> 20
        )));
    }
    Ok(limit)
}

fn pin_new_vm(node: &Path) -> Result {
    let device = Device::open(node)?;
    // More than half.
    let size = (low_limit(&device)? / 8 * 5).next_multiple_of(4096);
    let vm = device.create_vm(VmFlags::empty())?;
    let bo = vm.create_bo(&BoOptions::new(size))?;
    // The object keeps its vm; what another file sees of it does not.
    let dma_buf = bo.export()?;
    drop((bo, vm));
    let device = Device::open(node)?;
    let bo = device.import(dma_buf.as_fd())?;
    let options = libvaccel::BindOptions::new(BindFlags::empty());
    for _ in 0..4 {
        let vm = device.create_vm(VmFlags::empty())?;
        vm.bind(&bo, &options)?.close()?;
        vm.close()?;
    }
    check_device_works(&device)
}

fn pin_limit(node: &Path) -> Result {
    let device = Device::open(node)?;
    let limit = low_limit(&device)?;
    let vm = device.create_vm(VmFlags::empty())?;
    let step = (limit / 16).next_multiple_of(4096);
    let mut objects: Vec<Bo> = Vec::new();
    let full = loop {
        match vm.create_bo(&BoOptions::new(step)) {
            Ok(bo) => objects.push(bo),
            Err(error) => break error,
        }
        ensure(
            objects.len() <= 16,
            format!(
                "{} objects of {step} bytes are above {limit}",
                objects.len()
            ),
        )?;
    };
    let reached = |error: &libvaccel::Error| {
        error.kind() == ErrorKind::OutOfDeviceMemory && error.host_status().is_none()
    };
    ensure(
        reached(&full),
        format!("beyond the limit: {full}, expected ENOSPC without a host status"),
    )?;
    ensure(
        objects.len() >= 14,
        format!(
            "only {} objects of a sixteenth of the limit fit",
            objects.len()
        ),
    )?;
    if device.features()?.contains(Features::IMPORT) {
        let memory = memfd(step)?;
        match udmabuf(&memory, step) {
            Ok(dma_buf) => match device.import(dma_buf.as_fd()) {
                Err(error) => ensure(reached(&error), format!("an import: {error}"))?,
                Ok(bo) => {
                    // Pinned when it is bound, at the latest.
                    let options = libvaccel::BindOptions::new(BindFlags::empty());
                    match vm.bind(&bo, &options) {
                        Err(error) => ensure(reached(&error), format!("an import: {error}"))?,
                        Ok(_) => return failed("an import beyond the limit was bound"),
                    }
                }
            },
            Err(Problem::Skipped(_)) => {}
            Err(problem) => return Err(problem),
        }
    }
    // Another file has a limit of its own.
    let other = Device::open(node)?;
    let elsewhere = other
        .create_vm(VmFlags::empty())?
        .create_bo(&BoOptions::new(step))?;
    elsewhere.close()?;
    objects.pop();
    eventually("a closed object still counts", || {
        match vm.create_bo(&BoOptions::new(step)) {
            Ok(bo) => {
                objects.push(bo);
                Ok(true)
            }
            Err(error) if reached(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    })?;
    drop(objects);
    check_device_works(&device)
}

/// A cgroup of our own, in which this process is until it is dropped.
#[derive(Debug)]
struct Cgroup {
    root: PathBuf,
    group: PathBuf,
    mounted: bool,
}

impl Cgroup {
    fn enter() -> Result<Self> {
        let skip = |what: &str, error: std::io::Error| Problem::Skipped(format!("{what}: {error}"));
        let there = PathBuf::from("/sys/fs/cgroup");
        let (root, mounted) = if there.join("cgroup.controllers").exists() {
            (there, false)
        } else {
            let own = PathBuf::from("/tmp/vaccel-cgroup");
            fs::create_dir_all(&own).map_err(|error| skip("a folder", error))?;
            system::mount("cgroup2", "/tmp/vaccel-cgroup")
                .map_err(|error| skip("mount of cgroup2", error))?;
            (own, true)
        };
        let mut cgroup = Self {
            group: root.clone(),
            root,
            mounted,
        };
        let controllers = fs::read_to_string(cgroup.root.join("cgroup.controllers"))?;
        if !controllers.split_whitespace().any(|name| name == "dmem") {
            return Err(Problem::Skipped("there is no dmem controller".into()));
        }
        fs::write(cgroup.root.join("cgroup.subtree_control"), "+dmem")
            .map_err(|error| skip("cgroup.subtree_control", error))?;
        let group = cgroup.root.join(format!("vaccel-{}", std::process::id()));
        fs::create_dir(&group).map_err(|error| skip("a cgroup", error))?;
        cgroup.group = group;
        cgroup.write("cgroup.procs", "0")?;
        Ok(cgroup)
    }

    fn write(&self, file: &str, text: &str) -> Result {
        fs::write(self.group.join(file), text)
            .map_err(|error| Problem::Failed(format!("{file} = {text}: {error}")))
    }

    /// The number of a region in a file of the cgroup.
    fn read(&self, file: &str, region: &str) -> Result<Option<u64>> {
        let text = fs::read_to_string(self.group.join(file))?;
        Ok(text.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == region).then(|| value.parse().ok())?
        }))
    }

    /// The name of the region of local memory of a node's device.
    fn local_region(&self, node: &Path) -> Result<String> {
        let class = Path::new("/sys/class/accel").join(node.file_name().unwrap_or_default());
        let device = fs::read_link(class.join("device"))?;
        let unique = device.file_name().unwrap_or_default().to_string_lossy();
        let region = format!("drm/{unique}/local");
        let capacity = fs::read_to_string(self.root.join("dmem.capacity"))?;
        let names = capacity.lines().filter_map(|line| line.rsplit_once(' '));
        ensure(
            names.into_iter().any(|(name, _)| name == region),
            format!("no region {region} in dmem.capacity: {capacity}"),
        )?;
        Ok(region)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What cannot be taken apart again is in nobody's way.
        if self.group != self.root {
            let _ = fs::write(self.root.join("cgroup.procs"), "0");
            let _ = fs::remove_dir(&self.group);
        }
        if self.mounted {
            let _ = system::unmount("/tmp/vaccel-cgroup");
        }
    }
}

fn dmem(node: &Path) -> Result {
    let device = open_with(node, Features::HOST_MEMORY | Features::MANUAL_RESIDENCY)?;
    let cgroup = Cgroup::enter()?;
    let region = cgroup.local_region(node)?;
    cgroup.write("dmem.max", &format!("{region} {}", 2 * MEGABYTE))?;
    let vm = device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let small = vm.create_bo(&BoOptions::host(MEGABYTE))?;
    let large = vm.create_bo(&BoOptions::host(4 * MEGABYTE))?;
    vm.make_resident(&[&small])?.wait(soon())?;
    let used = || -> Result<u64> { Ok(cgroup.read("dmem.current", &region)?.unwrap_or(0)) };
    ensure(
        used()? == MEGABYTE,
        format!("1 MiB resident counts {} bytes", used()?),
    )?;
    match vm.make_resident(&[&large]) {
        Err(error) if error.kind() == ErrorKind::OutOfDeviceMemory => ensure(
            error.host_status().is_none(),
            format!("the cgroup's limit: {error}, although the host was not asked"),
        )?,
        other => return failed(format!("4 MiB above a limit of 2: {other:?}")),
    }
    ensure(
        used()? == MEGABYTE,
        format!("{} bytes are counted after a refusal", used()?),
    )?;
    // A vm that keeps its objects resident meets the same limit.
    let auto = device.create_vm(VmFlags::empty())?;
    let own = auto.create_bo(&BoOptions::host(4 * MEGABYTE))?;
    match own.bind(BindFlags::empty()) {
        Err(error) if error.kind() == ErrorKind::OutOfDeviceMemory => {}
        other => return failed(format!("a binding above the limit: {other:?}")),
    }
    cgroup.write("dmem.max", &format!("{region} max"))?;
    vm.make_resident(&[&large])?.wait(soon())?;
    ensure(
        used()? == 5 * MEGABYTE,
        format!("5 MiB resident count {} bytes", used()?),
    )?;
    vm.evict(&[&large])?;
    ensure(
        used()? == MEGABYTE,
        format!("{} bytes are counted after EVICT", used()?),
    )?;
    // Closed while resident.
    drop((small, large, own, auto, vm, device));
    eventually("memory is counted after its file is closed", || {
        Ok(used()? == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that units are understood and that other lines are left out.
    #[test]
    fn fdinfo_lines() {
        let sizes = parse(
            "pos:\t0\ndrm-driver:\tvaccel\ndrm-total-local:\t5 MiB\ndrm-resident-local:\t0\n\
             drm-total-nonlocal:\t12 KiB\ndrm-engine-0:\t7 ns\n",
        );
        assert_eq!(size(&sizes, "total", "local").unwrap(), 5 << 20);
        assert_eq!(size(&sizes, "resident", "local").unwrap(), 0);
        assert_eq!(size(&sizes, "total", "nonlocal").unwrap(), 12 << 10);
        assert!(size(&sizes, "purgeable", "local").is_err());
        assert!(!sizes.contains_key("drm-engine-0"));
    }
}
