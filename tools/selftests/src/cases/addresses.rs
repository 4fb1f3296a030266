// SPDX-License-Identifier: MIT OR Apache-2.0
//! No field is a CPU address: whatever 64-bit number stands in one, the driver neither follows it
//! nor writes there.

use std::os::fd::AsFd;
use std::path::Path;

use libvaccel::ioctl::{self, Operation};
use libvaccel::sys;
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::{fields, patched};
use crate::rig::{ensure, failed, Result, Rig};

pub const CASES: &[Case] = &[Case {
    name: "no-cpu-addresses",
    proves:
        "no 64-bit field of any operation, filled with a mapped or an unmapped CPU address, is \
             followed: no EFAULT, and the memory at the address is untouched",
    run: all,
}];

/// No program maps its first pages.
const UNMAPPED: u64 = 0x1000;
const PATTERN: u8 = 0x5a;

/// Tries each 64-bit field of `O` with `address`, on new objects.
fn probe<O: Operation>(node: &Path, address: u64, good: impl Fn(&Rig) -> O::Arg) -> Result {
    let rig = Rig::new(node)?;
    for (name, offset, size) in fields::<O::Arg>() {
        // A deadline of years would be waited for, rightly.
        if size != 8 || name == "reserved" || name == "deadline_ns" {
            continue;
        }
        let mut arg = patched(&good(&rig), offset, &address.to_ne_bytes())?;
        if ioctl::call::<O>(rig.device.as_fd(), &mut arg) == Err(ioctl::Errno(libc::EFAULT)) {
            return failed(format!("{} follows {name} = {address:#x}", O::NAME));
        }
    }
    Ok(())
}

fn all(node: &Path) -> Result {
    let mut memory = vec![PATTERN; 3 * 4096];
    // A page's start inside of it, so that no check of alignment hides an access.
    let base = memory.as_ptr() as u64;
    for address in [UNMAPPED, base.next_multiple_of(4096)] {
        each(node, address)?;
        // The compiler must not know the content from before.
        std::hint::black_box(&mut memory);
        let clean = memory.iter().all(|byte| *byte == PATTERN);
        ensure(clean, "memory at an address in a field was written")?;
    }
    Ok(())
}

fn each(node: &Path, address: u64) -> Result {
    probe::<ioctl::GetParam>(node, address, |_| sys::GetParam::default())?;
    probe::<ioctl::AdapterQuery>(node, address, |rig| sys::AdapterQuery {
        source: sys::QUERY_DESCRIPTION,
        arg_bo: rig.arg.handle(),
        size: 256,
        ..Default::default()
    })?;
    probe::<ioctl::VmQuery>(node, address, |rig| sys::VmQuery {
        vm: rig.vm.handle(),
        ..Default::default()
    })?;
    probe::<ioctl::QueueCreate>(node, address, |rig| sys::QueueCreate {
        vm: rig.vm.handle(),
        ..Default::default()
    })?;
    probe::<ioctl::QueueQuery>(node, address, |rig| sys::QueueQuery {
        queue: rig.queue.handle(),
        ..Default::default()
    })?;
    probe::<ioctl::BoCreate>(node, address, |rig| sys::BoCreate {
        size: 4096,
        vm: rig.vm.handle(),
        ..Default::default()
    })?;
    probe::<ioctl::BoInfo>(node, address, |rig| sys::BoInfo {
        bo: rig.bo.handle(),
        ..Default::default()
    })?;
    probe::<ioctl::BoSync>(node, address, |rig| sys::BoSync {
        bo: rig.bo.handle(),
        flags: sys::SYNC_FOR_CPU,
        size: 4096,
        ..Default::default()
    })?;
    probe::<ioctl::VaReserve>(node, address, |rig| sys::VaRange {
        vm: rig.vm.handle(),
        size: 4096,
        ..Default::default()
    })?;
    probe::<ioctl::VaRelease>(node, address, |rig| sys::VaRange {
        vm: rig.vm.handle(),
        gpu_va: 4096,
        size: 4096,
        ..Default::default()
    })?;
    probe::<ioctl::BoCreate>(node, address, |rig| sys::BoCreate {
        size: 4096,
        kind: sys::BO_KIND_HOST,
        vm: rig.vm.handle(),
        arg_bo: rig.arg.handle(),
        priv_size: 32,
        ..Default::default()
    })?;
    probe::<ioctl::Bind>(node, address, |rig| sys::Bind {
        vm: rig.vm.handle(),
        bo: rig.bo.handle(),
        size: 4096,
        ..Default::default()
    })?;
    probe::<ioctl::Bind>(node, address, |rig| sys::Bind {
        vm: rig.vm.handle(),
        bo: rig.bo.handle(),
        flags: sys::BIND_FIXED,
        gpu_va: 0x1000_0000,
        size: 4096,
        ..Default::default()
    })?;
    probe::<ioctl::Unbind>(node, address, |rig| sys::Bind {
        vm: rig.vm.handle(),
        gpu_va: rig.binding.gpu_va(),
        size: rig.binding.size(),
        ..Default::default()
    })?;
    probe::<ioctl::Residency>(node, address, |rig| sys::Residency {
        vm: rig.vm.handle(),
        arg_bo: rig.arg.handle(),
        count: 1,
        ..Default::default()
    })?;
    probe::<ioctl::FenceCreate>(node, address, |rig| sys::FenceCreate {
        vm: rig.vm.handle(),
        ..Default::default()
    })?;
    probe::<ioctl::FenceSignal>(node, address, |rig| sys::FenceSignal {
        fence: rig.fence.handle(),
        value: 1,
        ..Default::default()
    })?;
    probe::<ioctl::FenceQuery>(node, address, |rig| sys::FenceQuery {
        fence: rig.fence.handle(),
        ..Default::default()
    })?;
    probe::<ioctl::FenceWait>(node, address, |rig| sys::FenceWait {
        fence: rig.fence.handle(),
        ..Default::default()
    })?;
    let submit = |rig: &Rig| sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        nr_ops: 1,
        op_stride: 64,
        ..Default::default()
    };
    probe::<ioctl::Submit>(node, address, submit)?;
    probe::<ioctl::Submit>(node, address, |rig| sys::Submit {
        flags: sys::SUBMIT_RESULTS | sys::SUBMIT_DONE_FENCE,
        done_fence: rig.fence.handle(),
        done_value: 1,
        ..submit(rig)
    })?;
    probe::<ioctl::Budget>(node, address, |_| sys::Budget::default())?;
    // The offset of driver data in a record; the address of a command buffer is the GPU's.
    let rig = Rig::new(node)?;
    let exec = sys::OpExec {
        opcode: sys::OP_EXEC,
        gpu_va: rig.binding.gpu_va(),
        size: 64,
        priv_size: 64,
        priv_offset: address,
        ..Default::default()
    };
    rig.arg.mapping().write(0, exec.as_bytes())?;
    let mut arg = submit(&rig);
    let outcome = ioctl::call::<ioctl::Submit>(rig.device.as_fd(), &mut arg);
    ensure(
        outcome != Err(ioctl::Errno(libc::EFAULT)),
        "a record's private data offset was followed as an address",
    )
}
