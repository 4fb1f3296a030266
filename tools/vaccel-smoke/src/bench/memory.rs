// SPDX-License-Identifier: MIT OR Apache-2.0
//! Much guest memory for the device at once, against what the kernel itself needs to pin as much.
//!
//! The kernel's way to memory that a device can reach is a memfd, touched, sealed and made a dma-buf
//! by udmabuf, which pins it. Ours is an object, bound and resident: the host has its pages and the
//! GPU its addresses. Both are timed in turns, from nothing to there, and back.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant};

use libvaccel::{Access, BindFlags, BoOptions, Mapping, Segment, Vm, VmFlags};

use super::machine::{meminfo, pinned};
use super::statistics::{Ratio, Samples, Target};
use super::{bytes, system, Benchmark, Context, Findings, Unfinished, PAGE, PAUSE};

/// The benchmark.
pub const BENCHMARK: Benchmark = Benchmark {
    name: "memory-1g",
    what: "1 GiB of guest memory made, bound and resident, against udmabuf",
    run,
};

/// Size unless the machine is too small.
const SIZE: u64 = 1 << 30;
/// Rounds, after one that does not count.
const ROUNDS: u32 = 7;
/// Longest wait until memory is given back.
const RELEASE: Duration = Duration::from_secs(60);

/// Times of the driver's way.
#[derive(Default)]
struct Ours {
    create: Samples,
    bind: Samples,
    wait: Samples,
    ready: Samples,
    touched: Samples,
    end: Samples,
    released: Samples,
    huge: u64,
}

/// Times of the kernel's way.
#[derive(Default)]
struct Theirs {
    touch: Samples,
    pin: Samples,
    ready: Samples,
    end: Samples,
    huge: u64,
}

/// Writes one word of each page.
fn touch(mapping: &Mapping) -> Result<(), Unfinished> {
    for offset in (0..mapping.len()).step_by(PAGE) {
        mapping.write(offset, &[1; 8])?;
    }
    Ok(())
}

impl Ours {
    /// One object of `size` bytes, from nothing and back.
    fn round(&mut self, context: &Context, vm: &Vm, size: u64) -> Result<(), Unfinished> {
        let descriptor = context.device.as_fd().as_raw_fd();
        let huge = meminfo("ShmemHugePages");
        let begin = Instant::now();
        let bo = vm.create_bo(&BoOptions::new(size))?;
        let created = Instant::now();
        let binding = bo.bind(BindFlags::WRITE)?;
        let bound = Instant::now();
        binding.wait(context.deadline())?;
        let ready = Instant::now();
        self.huge = self
            .huge
            .max(meminfo("ShmemHugePages").saturating_sub(huge));
        let mapped = Instant::now();
        let mapping = bo.map()?;
        touch(&mapping)?;
        let touching = mapped.elapsed();
        drop(mapping);

        let ending = Instant::now();
        binding.close()?;
        bo.close()?;
        let ended = ending.elapsed();
        while pinned(descriptor).is_some_and(|left| left >= size) {
            if ending.elapsed() > RELEASE {
                return Err(Unfinished::Failed(format!(
                    "the memory of a closed object is still pinned after {} s",
                    RELEASE.as_secs()
                )));
            }
            std::thread::sleep(PAUSE);
        }
        self.create.time(created - begin);
        self.bind.time(bound - created);
        self.wait.time(ready - bound);
        self.ready.time(ready - begin);
        self.touched.time(ready - begin + touching);
        self.end.time(ended);
        self.released.time(ending.elapsed());
        Ok(())
    }
}

impl Theirs {
    /// One dma-buf of `size` bytes, from nothing and back; with `touched` through a mapping first.
    fn round(&mut self, device: &File, size: u64, touched: bool) -> Result<(), Unfinished> {
        let huge = meminfo("ShmemHugePages");
        let begin = Instant::now();
        let memory = system::memfd(size)?;
        let mapping = if touched {
            let mapping = Mapping::new(memory.as_fd(), 0, size, Access::ReadWrite)?;
            touch(&mapping)?;
            Some(mapping)
        } else {
            None
        };
        let there = Instant::now();
        system::seal(&memory)?;
        let buffer = system::udmabuf(device, &memory, size)?;
        let ready = Instant::now();
        self.huge = self
            .huge
            .max(meminfo("ShmemHugePages").saturating_sub(huge));

        let ending = Instant::now();
        drop(mapping);
        drop(buffer);
        drop(memory);
        self.end.time(ending.elapsed());
        self.touch.time(there - begin);
        self.pin.time(ready - there);
        self.ready.time(ready - begin);
        Ok(())
    }
}

/// The size to measure: what was asked for, or what the machine, the driver and the host allow.
fn size(context: &Context, findings: &mut Findings) -> Result<u64, Unfinished> {
    let wanted = context.size.unwrap_or(SIZE).next_multiple_of(PAGE as u64);
    let info = context.device.info()?;
    let budget = context.device.budget(Segment::NonLocal)?;
    // A quarter stays for everything else.
    let free = meminfo("MemAvailable") / 4 * 3;
    let most = free
        .min(info.pin_limit.unwrap_or(u64::MAX))
        .min(budget.budget.saturating_sub(budget.usage));
    if wanted <= most {
        return Ok(wanted);
    }
    let size = (1_u64 << most.max(1).ilog2()).min(wanted);
    if size < PAGE as u64 {
        return Err(Unfinished::NotHere("there is no memory to measure".into()));
    }
    findings.note(format!(
        "{} instead of {}: memory available {}, the driver pins at most {}, the host's budget is {}",
        bytes(size),
        bytes(wanted),
        bytes(free),
        info.pin_limit.map_or("unknown".into(), bytes),
        bytes(budget.budget)
    ));
    Ok(size)
}

/// Opens udmabuf and sees to it that it takes `size` bytes.
fn udmabuf(size: u64) -> Result<File, Unfinished> {
    let device = File::options()
        .read(true)
        .write(true)
        .open(system::UDMABUF)
        .map_err(|error| Unfinished::NotHere(format!("{}: {error}", system::UDMABUF)))?;
    if Path::new(system::UDMABUF_LIMIT).exists() {
        let text = fs::read_to_string(system::UDMABUF_LIMIT)?;
        let needed = size.div_ceil(1 << 20);
        if text.trim().parse::<u64>().is_ok_and(|limit| limit < needed) {
            fs::write(system::UDMABUF_LIMIT, needed.to_string()).map_err(|error| {
                Unfinished::NotHere(format!(
                    "udmabuf takes at most {} MiB, and {} cannot be written: {error}",
                    text.trim(),
                    system::UDMABUF_LIMIT
                ))
            })?;
        }
    }
    Ok(device)
}

fn run(context: &Context, findings: &mut Findings) -> Result<(), Unfinished> {
    let size = size(context, findings)?;
    let device = udmabuf(size)?;
    let vm = context.device.create_vm(VmFlags::empty())?;
    let rounds = context.rounds(ROUNDS);
    let (mut ours, mut theirs, mut untouched) =
        (Ours::default(), Theirs::default(), Theirs::default());
    // The first round makes the machine's memory warm.
    Ours::default().round(context, &vm, size)?;
    Theirs::default().round(&device, size, true)?;
    for round in 0..rounds {
        if round % 2 == 0 {
            ours.round(context, &vm, size)?;
        }
        theirs.round(&device, size, true)?;
        untouched.round(&device, size, false)?;
        if round % 2 == 1 {
            ours.round(context, &vm, size)?;
        }
        context.progress(&format!("round {} of {rounds}", round + 1));
    }
    vm.close()?;

    for (name, samples) in [
        ("object: create", &ours.create),
        ("object: bind", &ours.bind),
        ("object: wait for the paging fence", &ours.wait),
        ("object: there", &ours.ready),
        ("object: unbind and close", &ours.end),
        ("object: until nothing is pinned", &ours.released),
        ("memfd: make, map, touch", &theirs.touch),
        ("memfd: seal, udmabuf", &theirs.pin),
        ("memfd: there", &theirs.ready),
        ("memfd: unmap and close", &theirs.end),
        ("memfd, not touched: there", &untouched.ready),
    ] {
        findings.seconds(name, samples);
    }
    findings.claim(
        format!("{} there, object / memfd", bytes(size)),
        Ratio::paired(&ours.ready, &theirs.ready),
        Target::AtMost(2.0),
    );
    findings.ratio(
        "object, mapped and touched too / memfd",
        Ratio::paired(&ours.touched, &theirs.ready),
    );
    findings.ratio(
        "object / memfd that was not touched",
        Ratio::paired(&ours.ready, &untouched.ready),
    );
    findings.ratio(
        "given back, object / memfd",
        Ratio::paired(&ours.released, &theirs.end),
    );
    findings.note(format!(
        "of {}, in huge pages: object {}, memfd {}",
        bytes(size),
        bytes(ours.huge),
        bytes(theirs.huge.max(untouched.huge))
    ));
    context.in_round_trips(
        findings,
        &[
            ("object there", &ours.ready),
            ("memfd there", &theirs.ready),
        ],
    )
}
