// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command buffers of the built-in engine, in memory that they can themselves change.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use engine::{Access, AddressSpace, BuiltIn, Commands, Engine, Fault, FaultKind, Outcome, Pace};
use vaccel_isa::{
    CommandStream, Elementwise, ElementwiseOp, Gemm, Matrix, Operand, Reduce, ReduceAxis, ReduceOp,
};

/// Where memory starts, and how much of it there is; the last page is only read.
const BASE: u64 = 0x1_0000;
const BYTES: usize = 16 * 4096;
const WRITABLE: usize = 15 * 4096;
/// Sleeps before nobody wants the result any more.
const SLEEPS: u32 = 4;

struct Space(RefCell<Vec<u8>>);

impl Space {
    fn range(va: u64, len: usize, end: usize, access: Access) -> Result<usize, Fault> {
        let fault = |va, kind| Fault { va, access, kind };
        let start = va.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
        match start {
            Some(start) if start.checked_add(len).is_some_and(|last| last <= end) => Ok(start),
            _ => Err(fault(va, FaultKind::NotMapped)),
        }
    }
}

impl AddressSpace for Space {
    fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let start = Self::range(va, buf.len(), BYTES, Access::Read)?;
        buf.copy_from_slice(&self.0.borrow()[start..start + buf.len()]);
        Ok(())
    }

    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault> {
        let start = Self::range(va, data.len(), WRITABLE, Access::Write)?;
        self.0.borrow_mut()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

struct Impatient(Cell<u32>);

impl Pace for Impatient {
    fn sleep(&self, time: Duration) {
        assert!(time <= Duration::from_millis(10), "short sleeps only");
        self.0.set(self.0.get() + 1);
    }

    fn cancelled(&self) -> bool {
        self.0.get() >= SLEEPS
    }
}

/// Runs the bytes of a fuzzer: all of them are the command buffer.
///
/// # Panics
///
/// When the engine breaks its contract.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(BYTES)];
    let mut bytes = data.to_vec();
    bytes.resize(BYTES, 0x3F);
    let before = bytes.clone();
    let space = Space(RefCell::new(bytes));
    let pace = Impatient(Cell::new(0));
    let commands = Commands {
        va: BASE,
        bytes: u32::try_from(data.len()).unwrap(),
    };
    let outcome = BuiltIn.run(commands, &space, &pace);
    match outcome {
        Outcome::BadCommands(_) => {
            assert_eq!(*space.0.borrow(), before, "nothing runs of a bad buffer");
        }
        Outcome::Cancelled => assert!(pace.cancelled()),
        Outcome::PageFault(_) | Outcome::Done => {}
        Outcome::BadProgram | Outcome::Hung => panic!("the built-in engine runs no shader"),
    }
}

/// Each operation once, and all of them together.
pub fn seeds() -> Vec<Vec<u8>> {
    let at = |page: u64| BASE + page * 4096;
    let mut all = CommandStream::new();
    all.nop()
        .fill_words(at(1), 64, 0x3f80_0000)
        .fill_bytes(at(2), 64, 7)
        .copy(at(3), at(1), 64)
        .spin(1000);
    let mut slow = CommandStream::new();
    slow.spin(60_000_000_000);
    let mut fault = CommandStream::new();
    fault.copy(at(15), at(1), 64).copy(at(1), at(200), 4096);
    vec![
        all.finish().unwrap(),
        slow.finish().unwrap(),
        fault.finish().unwrap(),
        numbers().finish().unwrap(),
    ]
}

/// The operations on numbers, on matrices of 4 by 4.
fn numbers() -> CommandStream {
    let at = |page: u64| BASE + page * 4096;
    let matrix = |page| Matrix::dense(at(page), 4);
    let mut stream = CommandStream::new();
    stream.gemm(Gemm {
        m: 4,
        n: 4,
        k: 4,
        a: matrix(4),
        b: matrix(5).transposed(),
        c: matrix(6),
        alpha: 1.0,
        beta: 0.5,
    });
    for (op, b) in [
        (ElementwiseOp::Add, Operand::Full(at(4))),
        (ElementwiseOp::Max, Operand::Row(at(5))),
        (ElementwiseOp::Mul, Operand::Immediate(2.0)),
        (ElementwiseOp::Relu, Operand::None),
    ] {
        stream.elementwise(Elementwise {
            op,
            dst: at(7),
            a: at(6),
            b,
            rows: 4,
            cols: 4,
        });
    }
    for (op, axis) in [
        (ReduceOp::Sum, ReduceAxis::Rows),
        (ReduceOp::ArgMax, ReduceAxis::All),
    ] {
        stream.reduce(Reduce {
            op,
            axis,
            dst: at(8),
            src: at(7),
            rows: 4,
            cols: 4,
        });
    }
    stream
}
