// SPDX-License-Identifier: MIT OR Apache-2.0
//! Works on more memory than the budget allows, and decides itself what is resident.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use libvaccel::compute::{Buffer, Session};
use libvaccel::{Features, QueueMode, Segment, SyncFlags, Vm, VmFlags};
use vaccel_isa::{CommandStream, Elementwise, ElementwiseOp, Opcode, Operand};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::model::Figure;

/// The test.
pub const JOB: Job = Job {
    name: "oversubscribe",
    what: "computes on five times the memory that the budget allows, evicting what was used least \
           recently by as much as the driver says, and verifies every word at the end",
    needs: &[Opcode::Fill, Opcode::ElementwiseF32],
    run,
};

/// Objects, of an eighth of the budget each.
const OBJECTS: usize = 40;
const PART: u64 = 8;
/// Times that each object is worked on.
const PASSES: usize = 3;
/// Most memory that a test takes.
const MOST: u64 = 512 << 20;

/// What is resident of the objects, the least recently used first.
struct WorkingSet {
    vm: Vm,
    objects: Vec<Buffer>,
    resident: VecDeque<usize>,
    evictions: u64,
}

impl WorkingSet {
    fn object(&self, index: usize) -> Result<&Buffer, Failure> {
        self.objects
            .get(index)
            .ok_or_else(|| Failure::Behaviour(format!("there is no object {index}")))
    }

    /// Makes an object resident, and evicts for it what the driver says has to go.
    fn take(&mut self, index: usize, bench: &Bench) -> Result<(), Failure> {
        if let Some(place) = self.resident.iter().position(|known| *known == index) {
            self.resident.remove(place);
            self.resident.push_back(index);
            return Ok(());
        }
        loop {
            let error = match self.vm.make_resident(&[self.object(index)?.bo()]) {
                Ok(resident) => {
                    resident.wait(bench.deadline)?;
                    self.resident.push_back(index);
                    return Ok(());
                }
                Err(error) => error,
            };
            let Some(mut trim) = error.bytes_to_trim() else {
                return Err(error.into());
            };
            while trim > 0 {
                let Some(oldest) = self.resident.pop_front() else {
                    return Err(error.into());
                };
                let bo = self.object(oldest)?.bo();
                let size = bo.size();
                self.vm.evict(&[bo])?;
                self.evictions += 1;
                trim = trim.saturating_sub(size);
            }
        }
    }
}

/// Bytes of an object, or why the test is not possible.
fn object_bytes(budget: u64) -> Result<u64, Failure> {
    let page = u64::from(libvaccel::sys::limit::PAGE_SIZE);
    let bytes = budget / PART / page * page;
    if bytes == 0 {
        return Err(Failure::NotPossible(format!(
            "the local budget is {budget} bytes"
        )));
    }
    if bytes > MOST / OBJECTS as u64 {
        return Err(Failure::NotPossible(format!(
            "five times the local budget of {} MiB is more than {} MiB",
            budget >> 20,
            MOST >> 20
        )));
    }
    Ok(bytes)
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    bench.needs(Features::HOST_MEMORY | Features::MANUAL_RESIDENCY)?;
    let bytes = object_bytes(bench.device.budget(Segment::Local)?.budget)?;
    let words = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
    let vm = bench.device.create_vm(VmFlags::MANUAL_RESIDENCY)?;
    let mut session = Session::in_vm(&vm, QueueMode::Bounded)?;
    let mut set = WorkingSet {
        objects: (0..OBJECTS)
            .map(|_| session.host_buffer(bytes, Segment::Local))
            .collect::<libvaccel::Result<_>>()?,
        vm,
        resident: VecDeque::new(),
        evictions: 0,
    };
    let begin = Instant::now();
    let mut computing = Duration::ZERO;
    for pass in 0..PASSES {
        for step in 0..OBJECTS {
            // Back and forth: the end of a pass is still there at the start of the next.
            let index = if pass % 2 == 0 {
                step
            } else {
                OBJECTS - 1 - step
            };
            set.take(index, bench)?;
            let at = set.object(index)?.gpu_va();
            let mut stream = CommandStream::new();
            if pass == 0 {
                stream.fill_words(at, bytes, (index as f32).to_bits());
            } else {
                stream.elementwise(Elementwise {
                    op: ElementwiseOp::Add,
                    dst: at,
                    a: at,
                    b: Operand::Immediate(OBJECTS as f32),
                    rows: 1,
                    cols: words,
                });
            }
            computing += bench.timed(&mut session, stream)?;
        }
    }
    let time = begin.elapsed();

    let mut outputs = 0;
    for index in 0..OBJECTS {
        let buffer = set.object(index)?;
        buffer.bo().sync(SyncFlags::FOR_CPU, 0..bytes)?;
        let expected = vec![(OBJECTS * (PASSES - 1) + index) as f32; words as usize];
        let what = format!("object {index}");
        outputs += compare::floats(&what, &buffer.read_f32(words as usize)?, &expected)?;
    }
    let evictions = set.evictions;
    if evictions == 0 {
        return Err(Failure::Behaviour(
            "five times the budget was resident at once".into(),
        ));
    }
    Ok(Measured {
        outputs,
        time,
        amount: Some((bytes as f64 * (OBJECTS * PASSES) as f64, "bytes/s")),
        figures: vec![
            Figure {
                name: "evictions",
                value: evictions as f64,
                unit: "objects",
                text: format!("{evictions} objects of {} KiB evicted", bytes >> 10),
            },
            Figure {
                name: "residency",
                value: (time - computing.min(time)).as_secs_f64(),
                unit: "s",
                text: format!(
                    "{} ms of {} ms spent on residency",
                    (time - computing.min(time)).as_millis(),
                    time.as_millis()
                ),
            },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that objects are whole pages and that budgets that are too large, or none, are no
    /// failure.
    #[test]
    fn sizes() {
        assert_eq!(object_bytes(8 << 20).unwrap(), 1 << 20);
        assert_eq!(object_bytes((1 << 20) + 77).unwrap(), 1 << 17);
        for budget in [0, 1 << 30, u64::MAX] {
            let failure = object_bytes(budget).unwrap_err();
            assert!(matches!(failure, Failure::NotPossible(_)), "{failure}");
        }
    }
}
