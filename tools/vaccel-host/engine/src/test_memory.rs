// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory and time for tests.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use vaccel_isa::CommandStream;

use crate::built_in::matrix::{read_f32, write_words};
use crate::{Access, AddressSpace, BuiltIn, Commands, Engine, Fault, FaultKind, Outcome, Pace};

/// GPU memory at address 0, with everything from `read_only` on not writable.
pub(crate) struct Memory {
    pub(crate) bytes: RefCell<Vec<u8>>,
    pub(crate) read_only: u64,
}

/// Where tests put command buffers.
pub(crate) const COMMANDS: u64 = 0x8000;

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            bytes: RefCell::new(vec![0; 0x10000]),
            read_only: u64::MAX,
        }
    }

    fn range(&self, va: u64, len: usize, access: Access) -> Result<std::ops::Range<usize>, Fault> {
        let size = self.bytes.borrow().len();
        let start = va as usize;
        if start > size || len > size - start {
            return Err(Fault {
                va: va.max(size as u64),
                access,
                kind: FaultKind::NotMapped,
            });
        }
        Ok(start..start + len)
    }

    pub(crate) fn put(&self, va: u64, values: &[f32]) {
        write_words(self, va, values).unwrap();
    }

    pub(crate) fn get(&self, va: u64, count: usize) -> Vec<f32> {
        read_f32(self, va, count).unwrap()
    }

    pub(crate) fn run(&self, build: impl FnOnce(&mut CommandStream)) -> Outcome {
        let commands = self.stage(build);
        BuiltIn.run(commands, self, &FakePace::default())
    }

    pub(crate) fn stage(&self, build: impl FnOnce(&mut CommandStream)) -> Commands {
        let mut stream = CommandStream::new();
        build(&mut stream);
        let stream = stream.finish().unwrap();
        self.write(COMMANDS, &stream).unwrap();
        Commands {
            va: COMMANDS,
            bytes: stream.len() as u32,
        }
    }
}

impl AddressSpace for Memory {
    fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let range = self.range(va, buf.len(), Access::Read)?;
        buf.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault> {
        if va + data.len() as u64 > self.read_only {
            return Err(Fault {
                va,
                access: Access::Write,
                kind: FaultKind::ReadOnly,
            });
        }
        let range = self.range(va, data.len(), Access::Write)?;
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }
}

/// Time that passes only while somebody sleeps. Interest ends after `limit`.
#[derive(Default)]
pub(crate) struct FakePace {
    pub(crate) slept: Cell<Duration>,
    pub(crate) limit: Option<Duration>,
}

impl Pace for FakePace {
    fn sleep(&self, time: Duration) {
        self.slept.set(self.slept.get() + time);
    }

    fn cancelled(&self) -> bool {
        self.limit.is_some_and(|limit| self.slept.get() >= limit)
    }
}
