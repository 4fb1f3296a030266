// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs: what the host gives to an engine, and how the engine sees guest memory through it.
//!
//! A job holds the address space as it was when the job started; later mapping changes apply to
//! later jobs. Residency and revocation of an allocation apply at once. It is made by the host,
//! run on a thread of the caller's, and its outcome given back.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use engine::{
    flip_last_write, Access, AddressSpace, Commands, Engine, Fault, FaultKind, Outcome, Pace,
};
use guest_memory::GuestMemory;

use crate::backing::Location;
use crate::env::HostMemory;
use crate::va::{Target, VaTable, PAGE};

/// How often a job that hangs looks whether it is to stop.
const HANG_PAUSE: Duration = Duration::from_millis(1);

/// Identifies a job; never used twice by one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(crate) u64);

/// Tells a running job to stop.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Tells it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told.
    pub fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// The engine ran it. `flipped` says that a result was made wrong on request.
    Ran {
        /// What the engine says.
        outcome: Outcome,
        /// Whether an element was changed.
        flipped: bool,
    },
    /// The engine failed in a way that is its own fault (a panic that was caught).
    Crashed,
}

/// A command buffer to run.
pub struct Job {
    pub(crate) id: JobId,
    pub(crate) commands: Commands,
    pub(crate) table: Arc<VaTable>,
    pub(crate) cancel: Cancel,
    pub(crate) flip: bool,
    /// It does nothing and never ends by itself.
    pub(crate) hang: bool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// What identifies it.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Whether its buffer has no room for a packet that does something: it ends, or is malformed.
    pub fn is_trivial(&self) -> bool {
        let bytes = usize::try_from(self.commands.bytes);
        !self.hang && bytes.is_ok_and(|bytes| bytes <= vaccel_isa::HEADER_BYTES)
    }

    /// Runs it, on the thread of the caller. `sleep` is asked for short sleeps.
    pub fn run(
        &self,
        engine: &dyn Engine,
        memory: &dyn GuestMemory,
        sleep: &dyn Fn(Duration),
    ) -> JobOutcome {
        if self.hang {
            while !self.cancel.cancelled() {
                sleep(HANG_PAUSE);
            }
            return JobOutcome::Ran {
                outcome: Outcome::Cancelled,
                flipped: false,
            };
        }
        let space = JobSpace {
            table: &self.table,
            memory,
        };
        let pace = JobPace {
            cancel: &self.cancel,
            sleep,
        };
        let (outcome, flipped) = if self.flip {
            flip_last_write(engine, self.commands, &space, &pace)
        } else {
            (engine.run(self.commands, &space, &pace), false)
        };
        JobOutcome::Ran { outcome, flipped }
    }
}

struct JobPace<'a> {
    cancel: &'a Cancel,
    sleep: &'a dyn Fn(Duration),
}

impl Pace for JobPace<'_> {
    fn sleep(&self, time: Duration) {
        (self.sleep)(time);
    }

    fn cancelled(&self) -> bool {
        self.cancel.cancelled()
    }
}

/// GPU virtual memory of a job: table, then backing store, then guest memory.
struct JobSpace<'a> {
    table: &'a VaTable,
    memory: &'a dyn GuestMemory,
}

/// A piece of an access.
enum Piece<'a> {
    /// Guest memory at this guest-physical address.
    Guest(u64),
    /// Host memory at this offset.
    Host(&'a dyn HostMemory, u64),
    /// Zeros.
    Zero,
}

impl JobSpace<'_> {
    /// Walks an access of `len` bytes piece by piece; `copy` gets the offset and length of each in
    /// the access, and says whether memory was there.
    fn walk(
        &self,
        va: u64,
        len: usize,
        access: Access,
        mut copy: impl FnMut(Piece<'_>, usize, usize) -> bool,
    ) -> Result<(), Fault> {
        let mut done = 0_usize;
        while done < len {
            let wide = u64::try_from(done).unwrap_or(u64::MAX);
            let at = va.saturating_add(wide);
            let left = len.saturating_sub(done);
            let step = self
                .step(at, left, access, |piece, bytes| copy(piece, done, bytes))
                .map_err(|kind| Fault {
                    va: at,
                    access,
                    kind,
                })?;
            done = done.saturating_add(step);
        }
        Ok(())
    }

    /// Does the first piece of an access and returns its length, which is never 0.
    fn step(
        &self,
        at: u64,
        left: usize,
        access: Access,
        copy: impl FnOnce(Piece<'_>, usize) -> bool,
    ) -> Result<usize, FaultKind> {
        let page = at.checked_div(PAGE).unwrap_or(0);
        let offset = at & PAGE.wrapping_sub(1);
        let (first, range) = self.table.find(page).ok_or(FaultKind::NotMapped)?;
        let into = page.saturating_sub(first);
        let left_pages = range.pages.saturating_sub(into);
        let clip = |pages: u64| {
            let bytes = pages.saturating_mul(PAGE).saturating_sub(offset);
            usize::try_from(bytes).unwrap_or(usize::MAX).min(left)
        };
        match &range.target {
            Target::NoAccess => Err(FaultKind::NotMapped),
            Target::Zero => {
                let bytes = clip(left_pages);
                copy(Piece::Zero, bytes);
                Ok(bytes)
            }
            Target::Memory { write: false, .. } if access == Access::Write => {
                Err(FaultKind::ReadOnly)
            }
            Target::Memory { backing, first, .. } => {
                let wanted = u64::try_from(left)
                    .unwrap_or(u64::MAX)
                    .saturating_add(offset);
                let most = left_pages.min(wanted.div_ceil(PAGE));
                let page = first.saturating_add(into);
                let copied = backing.with_run(page, most, access, |place, pages| {
                    let piece = match place {
                        Location::Guest(frame) => {
                            Piece::Guest(frame.saturating_mul(PAGE).saturating_add(offset))
                        }
                        Location::Host(content, page) => {
                            let at = content.offset(page).saturating_add(offset);
                            Piece::Host(content.memory(), at)
                        }
                    };
                    let bytes = clip(pages);
                    copy(piece, bytes).then_some(bytes)
                })?;
                copied.ok_or(FaultKind::NoMemory)
            }
        }
    }
}

impl AddressSpace for JobSpace<'_> {
    fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.walk(va, buf.len(), Access::Read, |piece, from, bytes| {
            let Some(part) = buf.get_mut(from..from.saturating_add(bytes)) else {
                return false;
            };
            match piece {
                Piece::Guest(gpa) => self.memory.read(gpa, part).is_ok(),
                Piece::Host(memory, at) => memory.read(at, part).is_ok(),
                Piece::Zero => {
                    part.fill(0);
                    true
                }
            }
        })
    }

    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault> {
        self.walk(va, data.len(), Access::Write, |piece, from, bytes| {
            let Some(part) = data.get(from..from.saturating_add(bytes)) else {
                return false;
            };
            match piece {
                Piece::Guest(gpa) => self.memory.write(gpa, part).is_ok(),
                Piece::Host(memory, at) => memory.write(at, part).is_ok(),
                Piece::Zero => true,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::Backing;
    use crate::va::{Place, VaSpace};
    use guest_memory::FlatMemory;

    const VA: u64 = 0x10_0000;

    fn space(frames: &[u64], write: bool) -> (VaSpace, Arc<Backing>) {
        let backing = Arc::new(Backing::new(frames.len() as u64, true));
        backing.fill(0, frames.iter().copied()).unwrap();
        backing.set_resident(true);
        let mut space = VaSpace::default();
        let target = Target::Memory {
            backing: Arc::clone(&backing),
            first: 0,
            write,
        };
        space
            .map(Place::At(VA), frames.len() as u64, target)
            .unwrap();
        (space, backing)
    }

    /// Bytes land in the right guest pages, across pages that are not consecutive.
    #[test]
    fn accesses_follow_the_page_list() {
        let memory = FlatMemory::new(0, 16 * 4096);
        let (va, _) = space(&[3, 4, 1], true);
        let table = va.snapshot();
        let space = JobSpace {
            table: &table,
            memory: &memory,
        };
        let data: Vec<u8> = (0..9000_u32).map(|i| (i % 251) as u8).collect();
        space.write(VA + 100, &data).unwrap();
        let mut back = vec![0; 9000];
        space.read(VA + 100, &mut back).unwrap();
        assert_eq!(back, data);
        let mut page = vec![0; 8092];
        memory.read(3 * 4096 + 100, &mut page).unwrap();
        assert_eq!(page, data[..8092], "frames 3 and 4");
        let mut page = vec![0; 908];
        memory.read(4096, &mut page).unwrap();
        assert_eq!(page, data[8092..], "frame 1");
    }

    /// Each kind of bad access faults at the right address; zero pages read as zeros.
    #[test]
    fn faults() {
        let memory = FlatMemory::new(0, 4096);
        let fault = |va, access, kind| Err(Fault { va, access, kind });
        let (mut va, backing) = space(&[0, 9], false);
        va.map(Place::At(VA + 2 * 4096), 1, Target::Zero).unwrap();
        va.map(Place::At(VA + 3 * 4096), 1, Target::NoAccess)
            .unwrap();
        let table = va.snapshot();
        let space = JobSpace {
            table: &table,
            memory: &memory,
        };
        let mut buf = [7; 8];
        assert_eq!(
            space.write(VA, &[0]),
            fault(VA, Access::Write, FaultKind::ReadOnly)
        );
        assert_eq!(
            space.read(VA + 4092, &mut buf),
            fault(VA + 4096, Access::Read, FaultKind::NoMemory),
            "frame 9 is not guest memory"
        );
        assert_eq!(space.read(VA + 2 * 4096, &mut buf), Ok(()));
        assert_eq!(buf, [0; 8]);
        assert_eq!(
            space.read(VA + 3 * 4096 - 4, &mut buf),
            fault(VA + 3 * 4096, Access::Read, FaultKind::NotMapped)
        );
        assert_eq!(
            space.read(u64::MAX - 3, &mut buf),
            fault(u64::MAX - 3, Access::Read, FaultKind::NotMapped)
        );
        backing.set_resident(false);
        assert_eq!(
            space.read(VA, &mut buf),
            fault(VA, Access::Read, FaultKind::NotResident)
        );
    }
}
