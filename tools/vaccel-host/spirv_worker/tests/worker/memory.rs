// SPDX-License-Identifier: MIT OR Apache-2.0
//! GPU memory, command buffers and patience for the tests.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use engine::{Access, AddressSpace, Commands, Engine, Fault, FaultKind, Outcome, Pace};
use vaccel_isa::{Binding, BindingAccess, CommandStream, Shader};

/// Where command buffers are.
const COMMANDS: u64 = 0;
/// Where shaders are.
const SHADER: u64 = 0x1_0000;
/// Where buffers begin.
pub const BUFFERS: u64 = 0x4_0000;

/// Memory from address 0 on.
pub struct Memory(RefCell<Vec<u8>>);

impl Memory {
    /// So many bytes for buffers, filled with a pattern.
    pub fn new(bytes: usize) -> Self {
        Self(RefCell::new(vec![0xa5; BUFFERS as usize + bytes]))
    }

    pub fn put<T: Copy>(&self, va: u64, values: &[T], bytes: impl Fn(T) -> [u8; 4]) {
        let all: Vec<u8> = values.iter().flat_map(|value| bytes(*value)).collect();
        self.write(va, &all).unwrap();
    }

    pub fn put_f32(&self, va: u64, values: &[f32]) {
        self.put(va, values, f32::to_le_bytes);
    }

    pub fn words(&self, va: u64, count: usize) -> Vec<u32> {
        let mut bytes = vec![0; count * 4];
        self.read(va, &mut bytes).unwrap();
        let words = bytes.chunks_exact(4);
        words
            .map(|w| u32::from_le_bytes(w.try_into().unwrap()))
            .collect()
    }

    pub fn floats(&self, va: u64, count: usize) -> Vec<f32> {
        self.words(va, count)
            .into_iter()
            .map(f32::from_bits)
            .collect()
    }

    /// Puts a shader into memory and gives its place and entry point "main".
    pub fn shader(&self, module: &[u8]) -> Shader<'static> {
        self.write(SHADER, module).unwrap();
        Shader {
            va: SHADER,
            bytes: u32::try_from(module.len()).unwrap(),
            entry_point: "main",
        }
    }

    pub fn run(
        &self,
        engine: &dyn Engine,
        pace: &dyn Pace,
        build: impl FnOnce(&mut CommandStream),
    ) -> Outcome {
        let mut stream = CommandStream::new();
        build(&mut stream);
        let stream = stream.finish().unwrap();
        self.write(COMMANDS, &stream).unwrap();
        let commands = Commands {
            va: COMMANDS,
            bytes: u32::try_from(stream.len()).unwrap(),
        };
        engine.run(commands, self, pace)
    }

    fn range(&self, va: u64, len: usize, access: Access) -> Result<std::ops::Range<usize>, Fault> {
        let start = usize::try_from(va).unwrap();
        let size = self.0.borrow().len();
        if start > size || len > size - start {
            let kind = FaultKind::NotMapped;
            return Err(Fault { va, access, kind });
        }
        Ok(start..start + len)
    }
}

impl AddressSpace for Memory {
    fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let range = self.range(va, buf.len(), Access::Read)?;
        buf.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault> {
        let range = self.range(va, data.len(), Access::Write)?;
        self.0.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }
}

/// Interest that ends at a time.
pub struct Until(pub Option<Instant>);

impl Until {
    pub fn done() -> Self {
        Self(None)
    }

    pub fn after(time: Duration) -> Self {
        Self(Some(Instant::now() + time))
    }
}

impl Pace for Until {
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn cancelled(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// A buffer that a shader reads.
pub fn input(number: u32, va: u64, words: usize) -> Binding {
    Binding {
        number,
        va,
        bytes: words as u64 * 4,
        access: BindingAccess::Read,
    }
}

/// A buffer that it reads and writes.
pub fn output(number: u32, va: u64, words: usize) -> Binding {
    Binding {
        access: BindingAccess::ReadWrite,
        ..input(number, va, words)
    }
}

/// Numbers that are neither round nor equal, always the same for a seed.
pub struct Numbers(pub u32);

impl Numbers {
    pub fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    /// From 1 to `most`.
    pub fn size(&mut self, most: u32) -> u32 {
        self.word() % most + 1
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| self.word() as f32 / (1 << 22) as f32 - 2.0)
            .collect()
    }
}
