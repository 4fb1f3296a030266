// SPDX-License-Identifier: MIT OR Apache-2.0
//! SUBMIT: the descriptor, the records, all or nothing.

use std::path::Path;

use libc::{E2BIG, EDEADLK, EFBIG, EINVAL, ENOENT, EOVERFLOW};
use libvaccel::{ioctl, sys, FenceFlags, QueueMode, QueueOptions, Submission};
use zerocopy::IntoBytes;

use super::Case;
use crate::expect::{accepted, refused};
use crate::rig::{ensure, soon, Result, Rig, SIZE};

pub const CASES: &[Case] = &[
    Case {
        name: "submit-descriptor-bad",
        proves: "bad handles, counts, strides, offsets and fields without their flag are refused",
        run: descriptor,
    },
    Case {
        name: "submit-records-bad",
        proves: "bad records are refused, and then no record of the list has run",
        run: records,
    },
    Case {
        name: "submit-stride",
        proves: "longer records are taken if the rest is 0 and shorter ones as if padded",
        run: stride,
    },
    Case {
        name: "submit-bounded-waits",
        proves: "a bounded queue refuses waits that may never end and takes those that will",
        run: bounded,
    },
    Case {
        name: "submit-results",
        proves: "each operation of a list gets its result, and nothing else is written",
        run: results,
    },
];

fn signal(fence: u32, value: u64) -> sys::OpFence {
    sys::OpFence {
        opcode: sys::OP_FENCE_SIGNAL,
        fence,
        value,
        ..Default::default()
    }
}

fn good(rig: &Rig) -> sys::Submit {
    sys::Submit {
        queue: rig.queue.handle(),
        arg_bo: rig.arg.handle(),
        nr_ops: 1,
        op_stride: 64,
        ..Default::default()
    }
}

fn descriptor(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fence = rig.fence.handle();
    rig.arg.mapping().write(0, signal(fence, 1).as_bytes())?;
    let good = good(&rig);
    accepted::<ioctl::Submit>(&rig.device, "as it should be", good)?;
    let refuse =
        |what: &str, bad, errno| refused::<ioctl::Submit>(&rig.device, what, bad, &[errno]);
    for queue in [0, 0x7fff_fff0] {
        refuse(
            &format!("queue {queue:#x}"),
            sys::Submit { queue, ..good },
            ENOENT,
        )?;
    }
    for arg_bo in [0, 0x7fff_fff0] {
        refuse(
            &format!("object {arg_bo:#x}"),
            sys::Submit { arg_bo, ..good },
            ENOENT,
        )?;
    }
    // A guest object is a buffer object, so its handle is of the right kind, but not its memory.
    let arg_bo = rig.bo.handle();
    refuse("guest object", sys::Submit { arg_bo, ..good }, EINVAL)?;
    refuse("no operations", sys::Submit { nr_ops: 0, ..good }, EINVAL)?;
    for nr_ops in [sys::limit::OPS_MAX + 1, u32::MAX] {
        refuse(
            &format!("{nr_ops} operations"),
            sys::Submit { nr_ops, ..good },
            EFBIG,
        )?;
    }
    for op_stride in [0, 8, 12, 60, 264, u32::MAX] {
        refuse(
            &format!("stride {op_stride}"),
            sys::Submit { op_stride, ..good },
            EINVAL,
        )?;
    }
    for arg_offset in [4, SIZE - 8, SIZE, 1 << 40] {
        refuse(
            &format!("offset {arg_offset:#x}"),
            sys::Submit { arg_offset, ..good },
            EINVAL,
        )?;
    }
    let arg_offset = u64::MAX - 7;
    refuse(
        "offset that overflows",
        sys::Submit { arg_offset, ..good },
        EOVERFLOW,
    )?;
    let nr_ops = (SIZE / 64) as u32 + 1;
    refuse(
        "one record too many for the object",
        sys::Submit { nr_ops, ..good },
        EINVAL,
    )?;
    refuse(
        "results without their flag",
        sys::Submit {
            result_offset: 64,
            ..good
        },
        EINVAL,
    )?;
    refuse(
        "number without its flag",
        sys::Submit { seq: 2, ..good },
        EINVAL,
    )?;
    refuse(
        "fence without its flag",
        sys::Submit {
            done_fence: fence,
            ..good
        },
        EINVAL,
    )?;
    refuse(
        "value without its flag",
        sys::Submit {
            done_value: 1,
            ..good
        },
        EINVAL,
    )?;
    refuse(
        "syncobj without its flag",
        sys::Submit {
            out_syncobj: 1,
            ..good
        },
        EINVAL,
    )?;
    refuse(
        "point without its flag",
        sys::Submit {
            out_point: 1,
            ..good
        },
        EINVAL,
    )?;
    let results = sys::Submit {
        flags: sys::SUBMIT_RESULTS,
        ..good
    };
    for result_offset in [SIZE - 8, SIZE, 60] {
        let bad = sys::Submit {
            result_offset,
            ..results
        };
        refuse(&format!("results at {result_offset:#x}"), bad, EINVAL)?;
    }
    let done = sys::Submit {
        flags: sys::SUBMIT_DONE_FENCE,
        done_fence: 0x7fff_fff0,
        done_value: 1,
        ..good
    };
    refuse("unknown done fence", done, ENOENT)
}

fn records(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fence = rig.fence.handle();
    let exec = sys::OpExec {
        opcode: sys::OP_EXEC,
        gpu_va: rig.binding.gpu_va(),
        size: 64,
        ..Default::default()
    };
    let fence_op = signal(fence, 2);
    let list = sys::Submit {
        nr_ops: 2,
        ..good(&rig)
    };
    // The first record is fine and would raise the fence.
    rig.arg.mapping().write(0, signal(fence, 1).as_bytes())?;
    let refuse = |what: &str, record: &[u8], errnos: &[i32]| {
        rig.arg.mapping().write(64, record)?;
        refused::<ioctl::Submit>(&rig.device, what, list, errnos)
    };
    for opcode in [0, 9, u32::MAX] {
        let bad = sys::OpFence { opcode, ..fence_op };
        refuse(&format!("operation {opcode}"), bad.as_bytes(), &[EINVAL])?;
    }
    for bit in [0, 1, 31] {
        let flags = 1 << bit;
        let what = format!("flags {flags:#x}");
        refuse(
            &what,
            sys::OpFence { flags, ..fence_op }.as_bytes(),
            &[EINVAL],
        )?;
        refuse(&what, sys::OpExec { flags, ..exec }.as_bytes(), &[EINVAL])?;
    }
    refuse(
        "padding",
        sys::OpFence { pad: 1, ..fence_op }.as_bytes(),
        &[EINVAL],
    )?;
    for word in 0..5 {
        let mut bad = fence_op;
        if let Some(reserved) = bad.reserved.get_mut(word) {
            *reserved = 1 << 63;
        }
        refuse(&format!("reserved word {word}"), bad.as_bytes(), &[EINVAL])?;
    }
    let unknown = 0x7fff_fff0;
    for opcode in [sys::OP_FENCE_SIGNAL, sys::OP_FENCE_WAIT] {
        let bad = sys::OpFence {
            opcode,
            fence: unknown,
            ..fence_op
        };
        refuse(
            &format!("unknown fence, operation {opcode}"),
            bad.as_bytes(),
            &[ENOENT],
        )?;
    }
    let bad = signal(rig.vm.paging_fence(), u64::MAX);
    refuse(
        "signal of the paging fence",
        bad.as_bytes(),
        &[EINVAL, libc::EPERM],
    )?;
    refuse(
        "no command buffer",
        sys::OpExec { size: 0, ..exec }.as_bytes(),
        &[EINVAL],
    )?;
    let bad = sys::OpExec {
        priv_size: 16,
        priv_offset: SIZE - 8,
        ..exec
    };
    refuse("driver data behind the end", bad.as_bytes(), &[EINVAL])?;
    let bad = sys::OpExec {
        priv_size: 16,
        priv_offset: u64::MAX - 7,
        ..exec
    };
    refuse("driver data that overflows", bad.as_bytes(), &[EOVERFLOW])?;
    let priv_size = sys::limit::PRIV_SIZE_MAX + 1;
    refuse(
        "too much driver data",
        sys::OpExec { priv_size, ..exec }.as_bytes(),
        &[EFBIG],
    )?;

    // A good list behind all these shows that none of their first records ran: the queue works in
    // order, so what ran before would be visible.
    let done = rig.vm.create_fence(FenceFlags::empty(), 0)?;
    rig.queue.submit(&Submission::new().signal(&done, 1))?;
    done.wait(1, soon())?;
    ensure(
        rig.fence.value()? == 0,
        "a record of a refused list has run",
    )?;
    done.close()?;
    Ok(())
}

fn stride(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fence = rig.fence.handle();
    let mapping = rig.arg.mapping();
    mapping.write(0, signal(fence, 1).as_bytes())?;
    mapping.write(256, signal(fence, 2).as_bytes())?;
    let long = sys::Submit {
        nr_ops: 2,
        op_stride: 256,
        ..good(&rig)
    };
    accepted::<ioctl::Submit>(&rig.device, "with records of 256 bytes", long)?;
    rig.fence.wait(2, soon())?;
    for byte in [64, 255] {
        mapping.write(byte, &[1])?;
        let what = format!("with byte {byte} of a long record set");
        refused::<ioctl::Submit>(&rig.device, &what, long, &[E2BIG])?;
        mapping.write(byte, &[0])?;
    }
    // 24 bytes end behind the value of a fence operation.
    let short = signal(fence, 3);
    mapping.write(0, short.as_bytes().get(..24).unwrap_or_default())?;
    mapping.write(24, &[0xff; 40])?;
    let arg = sys::Submit {
        op_stride: 24,
        ..good(&rig)
    };
    accepted::<ioctl::Submit>(&rig.device, "with a record of 24 bytes", arg)?;
    rig.fence.wait(3, soon())?;
    Ok(())
}

fn bounded(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let wait = |value| sys::OpFence {
        opcode: sys::OP_FENCE_WAIT,
        ..signal(rig.fence.handle(), value)
    };
    rig.arg.mapping().write(0, wait(1).as_bytes())?;
    let never = "waits for a value that nobody was asked to signal";
    refused::<ioctl::Submit>(&rig.device, never, good(&rig), &[EDEADLK])?;
    rig.fence.signal(1)?;
    // A host with asynchronous messages sets it a moment later.
    rig.fence.wait(1, soon())?;
    accepted::<ioctl::Submit>(&rig.device, "waits for a reached value", good(&rig))?;
    // A bounded queue has promised this value, so another may wait for it.
    let other = rig
        .vm
        .create_queue(&QueueOptions::new(QueueMode::Bounded))?;
    other.submit(&Submission::new().signal(&rig.fence, 2))?;
    let done = rig.vm.create_fence(FenceFlags::empty(), 0)?;
    rig.queue
        .submit(&Submission::new().wait(&rig.fence, 2).signal(&done, 1))?;
    done.wait(1, soon())?;
    // A long-running queue may wait for anything, and the CPU lets it go.
    let patient = rig
        .vm
        .create_queue(&QueueOptions::new(QueueMode::LongRunning))?;
    patient.submit(&Submission::new().wait(&rig.fence, 9).signal(&done, 2))?;
    rig.fence.signal(9)?;
    done.wait(2, soon())?;
    done.close()?;
    other.close()?;
    patient.close()?;
    Ok(())
}

fn results(node: &Path) -> Result {
    let rig = Rig::new(node)?;
    let fence = rig.fence.handle();
    let mapping = rig.arg.mapping();
    mapping.write(0, signal(fence, 1).as_bytes())?;
    mapping.write(64, signal(fence, 2).as_bytes())?;
    mapping.write(128, &[0xee; 64])?;
    let arg = sys::Submit {
        flags: sys::SUBMIT_RESULTS,
        nr_ops: 2,
        result_offset: 144,
        ..good(&rig)
    };
    accepted::<ioctl::Submit>(&rig.device, "with results", arg)?;
    let mut bytes = [0; 64];
    mapping.read(128, &mut bytes)?;
    let (before, rest) = bytes.split_at(16);
    let (written, behind) = rest.split_at(32);
    ensure(
        written.iter().all(|byte| *byte == 0),
        "a result of an accepted operation is not 0",
    )?;
    let untouched = before.iter().chain(behind).all(|byte| *byte == 0xee);
    ensure(untouched, "something around the results was written")?;
    rig.fence.wait(2, soon())?;
    Ok(())
}
