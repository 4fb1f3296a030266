// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands of the driver on a ring, and what cases ask of their completions.

use std::os::fd::AsFd;
use std::path::Path;

use libvaccel::ioctl::{self, call, Errno, Operation};
use libvaccel::{sys, ArgBo, Deadline, Device, Features, Fence, Queue, Submission};

use super::{Completion, Entry, Ring};
use crate::expect::{fields, patched};
use crate::rig::{ensure, failed, open_with, soon, Result, Rig};

/// Opens a node whose driver takes commands by io_uring.
pub fn open(node: &Path) -> Result<Device> {
    open_with(node, Features::URING)
}

/// One object of each kind, and a ring.
pub fn rig(node: &Path) -> Result<(Rig, Ring)> {
    open(node)?;
    Ok((Rig::new(node)?, Ring::usual()?))
}

/// A wait for a fence.
pub fn wait_for(fence: &Fence, value: u64, deadline: Deadline, user_data: u64) -> Entry {
    let arg = sys::FenceWait {
        fence: fence.handle(),
        value,
        deadline_ns: deadline.as_ns(),
        ..Default::default()
    };
    Entry::new::<ioctl::FenceWait>(fence.vm().device().as_fd(), &arg, user_data)
}

/// Lists of operations in memory that keeps them until they are queued.
#[derive(Debug)]
pub struct Lists {
    args: ArgBo,
}

/// Bytes for one list: two operations with results, or three.
const SLOT: u64 = 192;

impl Lists {
    /// Room for so many lists.
    pub fn new(device: &Device, count: u64) -> Result<Self> {
        let args = device.create_arg_bo(count * SLOT)?;
        Ok(Self { args })
    }

    /// Writes list number `slot`; its descriptor.
    pub fn write(&self, slot: u64, queue: &Queue, list: &Submission) -> Result<sys::Submit> {
        let encoded = list.encode()?;
        if encoded.total_size > SLOT {
            return failed(format!("a list of {} bytes", encoded.total_size));
        }
        let start = slot * SLOT;
        self.args.mapping().write(start as usize, &encoded.bytes)?;
        let mut arg = encoded.descriptor;
        arg.queue = queue.handle();
        arg.arg_bo = self.args.handle();
        arg.arg_offset = start;
        if arg.flags & sys::SUBMIT_RESULTS != 0 {
            arg.result_offset += start;
        }
        Ok(arg)
    }

    /// An entry that submits list number `slot`, with it as its user_data.
    pub fn entry(&self, slot: u64, queue: &Queue, list: &Submission) -> Result<Entry> {
        let arg = self.write(slot, queue, list)?;
        let device = queue.vm().device();
        Ok(Entry::new::<ioctl::Submit>(device.as_fd(), &arg, slot))
    }

    /// The memory.
    pub const fn args(&self) -> &ArgBo {
        &self.args
    }
}

/// Errors of which the host does not tell, nor how much is to be trimmed.
const BARE: &[i32] = &[
    libc::ECANCELED,
    libc::EINVAL,
    libc::ENOENT,
    libc::EOPNOTSUPP,
    libc::ESTALE,
    libc::ETIME,
];

impl Completion {
    /// It must have this result, and nothing to add if that is one of the bare errors.
    pub fn is(&self, what: &str, result: i32) -> Result {
        ensure(
            self.result == result,
            format!("{what}: {}, expected {}", told(self.result), told(result)),
        )?;
        let bare = BARE.contains(&result.saturating_neg());
        ensure(
            !bare || self.extra.unwrap_or(0) == 0,
            format!("{what}: {} with {:x?}", told(result), self.extra),
        )
    }

    /// It must be a success with this extra word.
    pub fn gives(&self, what: &str, extra: u64) -> Result {
        self.is(what, 0)?;
        ensure(
            self.extra == Some(extra),
            format!("{what}: extra {:x?}, expected {extra:#x}", self.extra),
        )
    }
}

/// A result in words.
fn told(result: i32) -> String {
    if result < 0 {
        Errno(result.saturating_neg()).to_string()
    } else {
        result.to_string()
    }
}

impl Ring {
    /// Does one command and waits for it.
    pub fn one(&mut self, entry: &Entry) -> Result<Completion> {
        self.push(entry)?;
        match self.collect(1, soon())?.as_slice() {
            [completion] => Ok(*completion),
            other => failed(format!("completions {other:?}, expected one")),
        }
    }

    /// Pushes an entry, and submits what is there as long as there is no room.
    pub fn queue(&mut self, entry: &Entry) -> Result {
        loop {
            match self.push(entry) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    self.submit()?;
                    std::thread::yield_now();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does all of these, in batches as large as fit, and waits for them; in the order of their
    /// user_data.
    pub fn all(&mut self, entries: &[Entry]) -> Result<Vec<Completion>> {
        for entry in entries {
            self.queue(entry)?;
        }
        let mut completions = self.collect(entries.len(), soon())?;
        completions.sort_by_key(|completion| completion.user_data);
        Ok(completions)
    }

    /// Nothing must complete, now that it has the time.
    pub fn stays_quiet(&mut self, what: &str) -> Result {
        let early = self.wait(1, crate::sync::briefly())?;
        ensure(early.is_empty(), format!("{what}: {early:?}"))
    }
}

/// A structure that is refused by ioctl must be refused by the ring in the same way.
pub fn as_refused<O: Operation>(
    device: &Device,
    ring: &mut Ring,
    what: &str,
    arg: O::Arg,
) -> Result {
    let mut by_ioctl = arg;
    let Err(errno) = call::<O>(device.as_fd(), &mut by_ioctl) else {
        return failed(format!("{} {what}: accepted by ioctl", O::NAME));
    };
    ring.one(&Entry::new::<O>(device.as_fd(), &arg, 1))?
        .is(&format!("{} {what}", O::NAME), -errno.0)
}

/// Every reserved or padding byte of the structure must be 0, and every bit of `flags` that is not in
/// `known` must be refused.
pub fn refuses_the_unknown<O: Operation>(
    device: &Device,
    ring: &mut Ring,
    good: &O::Arg,
    known: u32,
) -> Result {
    let mut bad = Vec::new();
    for (name, offset, size) in fields::<O::Arg>() {
        if name == "reserved" || name == "pad" {
            for byte in (offset..offset + size).step_by(3) {
                bad.push((byte, patched(good, byte, &[0x80])?));
            }
        }
        if name == "flags" {
            for bit in (0..32)
                .map(|bit| 1u32 << bit)
                .filter(|bit| bit & known == 0)
            {
                bad.push((offset, patched(good, offset, &bit.to_ne_bytes())?));
            }
        }
    }
    let entries: Vec<Entry> = (0..)
        .zip(&bad)
        .map(|(user_data, (_, arg))| Entry::new::<O>(device.as_fd(), arg, user_data))
        .collect();
    for (completion, (byte, _)) in ring.all(&entries)?.iter().zip(&bad) {
        completion.is(&format!("{} with byte {byte}", O::NAME), -libc::EINVAL)?;
    }
    Ok(())
}
