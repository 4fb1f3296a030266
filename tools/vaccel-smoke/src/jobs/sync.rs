// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two queues in two vms that hand data to each other by fences of the kernel, and nobody who waits
//! in between.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use libvaccel::compute::{Buffer, Session};
use libvaccel::ioctl::readiness::{wait_readable, Readiness};
use libvaccel::{BindFlags, BindOptions, Binding, Features, Submission};
use vaccel_isa::{
    CommandStream, Elementwise, ElementwiseOp, Opcode, Operand, Reduce, ReduceAxis, ReduceOp,
};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::failure::Failure;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "sync",
    what:
        "one vm computes 8 blocks and signals a point of a syncobj for each, another one sums each \
           up behind its point, and the end is polled for as a sync_file",
    needs: &[Opcode::ElementwiseF32, Opcode::ReduceF32, Opcode::Spin],
    run,
};

const BLOCKS: u64 = 8;
const ROWS: usize = 64;
const COLS: usize = 256;
const WORDS: usize = ROWS * COLS;
const BLOCK_BYTES: u64 = WORDS as u64 * 4;
const SUM_BYTES: u64 = ROWS as u64 * 4;
const BIAS: f32 = 0.5;
/// How long the accelerator is kept busy at first, so that all is queued before anything runs: who would
/// not wait for a point is then sure to be too early.
const HEAD_START_NS: u64 = 200_000_000;

/// A command buffer with a stream.
fn program(session: &Session, stream: CommandStream) -> Result<Buffer, Failure> {
    let bytes = stream
        .finish()
        .map_err(|error| Failure::Behaviour(error.to_string()))?;
    let code = session.code_buffer(bytes.len() as u64)?;
    code.mapping().write(0, &bytes)?;
    Ok(code)
}

fn exec(code: &Buffer) -> Submission {
    Submission::new().exec(code.gpu_va(), code.len() as u32)
}

/// The one who computes blocks: products first, then a bias to each.
struct Producer {
    session: Session,
    a: Buffer,
    b: Buffer,
    blocks: Buffer,
}

impl Producer {
    fn new(bench: &Bench, a: &[f32], b: &[f32]) -> Result<Self, Failure> {
        let session = Session::new(&bench.device)?;
        Ok(Self {
            a: session.buffer_f32(a)?,
            b: session.buffer_f32(b)?,
            blocks: session.buffer(BLOCKS * BLOCK_BYTES)?,
            session,
        })
    }

    /// What comes before all blocks.
    fn head_start(&self) -> Result<Buffer, Failure> {
        let mut stream = CommandStream::new();
        stream.spin(HEAD_START_NS);
        program(&self.session, stream)
    }

    /// The two halves of a block's work.
    fn halves(&self, block: u64) -> Result<[Buffer; 2], Failure> {
        let at = |buffer: &Buffer| buffer.gpu_va() + block * BLOCK_BYTES;
        let packet = |op, a, b| Elementwise {
            op,
            dst: at(&self.blocks),
            a,
            b,
            rows: ROWS as u32,
            cols: COLS as u32,
        };
        let mut products = CommandStream::new();
        let (a, b) = (at(&self.a), Operand::Full(at(&self.b)));
        products.elementwise(packet(ElementwiseOp::Mul, a, b));
        let mut biased = CommandStream::new();
        let (a, b) = (at(&self.blocks), Operand::Immediate(BIAS));
        biased.elementwise(packet(ElementwiseOp::Add, a, b));
        Ok([
            program(&self.session, products)?,
            program(&self.session, biased)?,
        ])
    }
}

/// The one who sums the rows of blocks up, which it sees at an address of its own.
struct Consumer {
    session: Session,
    blocks: Binding,
    sums: Buffer,
}

impl Consumer {
    fn new(bench: &Bench, blocks: &Buffer) -> Result<Self, Failure> {
        let session = Session::new(&bench.device)?;
        let options = BindOptions::new(BindFlags::empty());
        Ok(Self {
            blocks: session.vm().bind(blocks.bo(), &options)?,
            sums: session.buffer(BLOCKS * SUM_BYTES)?,
            session,
        })
    }

    fn sum(&self, block: u64) -> Result<Buffer, Failure> {
        let mut stream = CommandStream::new();
        stream.reduce(Reduce {
            op: ReduceOp::Sum,
            axis: ReduceAxis::Rows,
            dst: self.sums.gpu_va() + block * SUM_BYTES,
            src: self.blocks.gpu_va() + block * BLOCK_BYTES,
            rows: ROWS as u32,
            cols: COLS as u32,
        });
        program(&self.session, stream)
    }
}

/// Waits as any program does that knows nothing of accelerators.
fn poll(bench: &Bench, sync_file: BorrowedFd<'_>) -> Result<(), Failure> {
    match wait_readable(sync_file, bench.deadline) {
        Ok(Readiness::Readable) => Ok(()),
        Ok(other) => Err(Failure::Behaviour(format!(
            "poll of the sync_file: {other:?}"
        ))),
        Err(errno) => Err(Failure::Behaviour(format!(
            "poll of the sync_file: {errno}"
        ))),
    }
}

/// What the sums must be.
fn expected(a: &[f32], b: &[f32]) -> Vec<f32> {
    let products = reference::elementwise(ElementwiseOp::Mul, a, b);
    let biased = reference::elementwise(ElementwiseOp::Add, &products, &vec![BIAS; a.len()]);
    biased.chunks_exact(COLS).map(reference::sum).collect()
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    bench.needs(Features::SYNC_BRIDGE)?;
    let words = BLOCKS as usize * WORDS;
    let (a, b) = (reference::pattern(41, words), reference::pattern(42, words));
    let producer = Producer::new(bench, &a, &b)?;
    let consumer = Consumer::new(bench, &producer.blocks)?;
    let produced = bench.device.create_syncobj(false)?;
    let summed = bench.device.create_syncobj(false)?;
    let head_start = producer.head_start()?;
    let mut programs = Vec::new();
    for block in 0..BLOCKS {
        programs.push((producer.halves(block)?, consumer.sum(block)?));
    }

    let begin = Instant::now();
    let queue = producer.session.queue();
    queue.submit(&exec(&head_start))?;
    for (point, ([products, biased], sum)) in (1..).zip(&programs) {
        queue.submit(&exec(products))?;
        queue.submit(&exec(biased).out_syncobj(&produced, point))?;
        let behind = Submission::new()
            .wait_syncobj(&produced, point)
            .exec(sum.gpu_va(), sum.len() as u32)
            .out_syncobj(&summed, point);
        consumer.session.queue().submit(&behind)?;
    }
    // All of it is queued: from here on nobody but the accelerator is needed.
    let end = summed.export_sync_file(BLOCKS)?;
    poll(bench, end.as_fd())?;
    let time = begin.elapsed();

    let got = consumer.sums.read_f32(BLOCKS as usize * ROWS)?;
    let outputs = compare::floats("row sums", &got, &expected(&a, &b))?;
    Ok(Measured {
        outputs,
        time,
        ..Default::default()
    })
}
