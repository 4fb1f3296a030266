// SPDX-License-Identifier: MIT OR Apache-2.0
//! The main job: classifies handwritten digits with a small network whose layers all run on the
//! accelerator, and compares every output of both layers with the CPU's.

use std::time::{Duration, Instant};

use libvaccel::compute::{Buffer, Session};
use vaccel_isa::{
    CommandStream, Elementwise, ElementwiseOp, Gemm, Matrix, Opcode, Operand, Reduce, ReduceAxis,
    ReduceOp,
};

use super::{Bench, Job, Measured};
use crate::compare;
use crate::data::Data;
use crate::failure::Failure;
use crate::model::Figure;
use crate::npy::NpyError;
use crate::reference;

/// The test.
pub const JOB: Job = Job {
    name: "digits",
    what: "classifies 1,797 handwritten digits with a two-layer network (GEMM, bias, ReLU, GEMM, \
           bias, argmax); every output equals the CPU's bit for bit",
    needs: &[Opcode::GemmF32, Opcode::ElementwiseF32, Opcode::ReduceF32],
    run,
};

const PIXELS: usize = 64;
const CLASSES: usize = 10;
/// Images in one launch.
const BATCH: usize = 600;
/// The built-in network was trained with the images before this one.
const HELD_OUT: usize = 1200;

/// The network and the images.
struct Network {
    images: Vec<f32>,
    labels: Vec<u32>,
    hidden: usize,
    w1: Vec<f32>,
    b1: Vec<f32>,
    w2: Vec<f32>,
    b2: Vec<f32>,
}

/// Results of a layer and of the whole.
#[derive(Default)]
struct Outputs {
    hidden: Vec<f32>,
    scores: Vec<f32>,
    guesses: Vec<u32>,
}

impl Network {
    fn load(data: &Data) -> Result<Self, Failure> {
        let images = data.array::<u8>("digits/images.npy")?;
        let count = images.data.len() / PIXELS;
        let images = images
            .expect_shape(&[count, PIXELS])
            .map_err(|error| Failure::Data {
                file: "digits/images.npy".into(),
                error,
            })?;
        let labels = data.shaped::<u8>("digits/labels.npy", &[count])?;
        let b1 = data.array::<f32>("digits/b1.npy")?;
        let hidden = b1.data.len();
        if count == 0 || hidden == 0 {
            return Err(Failure::Data {
                file: "digits".into(),
                error: NpyError::Header("a dimension is 0"),
            });
        }
        Ok(Self {
            // Grey values 0 to 16 become 0 to 1, exactly.
            images: images
                .data
                .iter()
                .map(|grey| f32::from(*grey) / 16.0)
                .collect(),
            labels: labels.data.iter().map(|label| u32::from(*label)).collect(),
            hidden,
            w1: data.shaped("digits/w1.npy", &[PIXELS, hidden])?.data,
            b1: b1
                .expect_shape(&[hidden])
                .map(|b1| b1.data)
                .map_err(|error| Failure::Data {
                    file: "digits/b1.npy".into(),
                    error,
                })?,
            w2: data.shaped("digits/w2.npy", &[hidden, CLASSES])?.data,
            b2: data.shaped("digits/b2.npy", &[CLASSES])?.data,
        })
    }

    /// The outputs as the CPU computes them.
    fn on_cpu(&self) -> Outputs {
        let matrix = |data, cols| reference::Matrix { data, cols };
        let sums = reference::gemm(matrix(&self.images, PIXELS), matrix(&self.w1, self.hidden));
        let sums = reference::with_row(ElementwiseOp::Add, &sums, &self.b1);
        let hidden = reference::elementwise(ElementwiseOp::Relu, &sums, &sums);
        let scores = reference::gemm(matrix(&hidden, self.hidden), matrix(&self.w2, CLASSES));
        let scores = reference::with_row(ElementwiseOp::Add, &scores, &self.b2);
        let guesses = scores
            .chunks_exact(CLASSES)
            .map(reference::arg_max)
            .collect();
        Outputs {
            hidden,
            scores,
            guesses,
        }
    }

    /// The outputs as the accelerator computes them, and the time from the first launch to the
    /// last end.
    fn on_device(&self, bench: &Bench) -> Result<(Outputs, Duration), Failure> {
        let mut session = Session::new(&bench.device)?;
        let weights = Weights {
            w1: session.buffer_f32(&self.w1)?,
            b1: session.buffer_f32(&self.b1)?,
            w2: session.buffer_f32(&self.w2)?,
            b2: session.buffer_f32(&self.b2)?,
        };
        let mut batches = Vec::new();
        for images in self.images.chunks(BATCH * PIXELS) {
            let rows = images.len() / PIXELS;
            let floats = |cols: usize| session.buffer((rows * cols * 4) as u64);
            batches.push(Batch {
                rows,
                images: session.buffer_f32(images)?,
                hidden: floats(self.hidden)?,
                scores: floats(CLASSES)?,
                guesses: floats(1)?,
            });
        }

        let begin = Instant::now();
        let mut last = None;
        for batch in &batches {
            last = Some(session.launch(self.stream(&weights, batch))?);
        }
        if let Some(ticket) = last {
            session.wait(ticket, bench.deadline)?;
        }
        let time = begin.elapsed();

        let mut outputs = Outputs::default();
        for batch in batches {
            let rows = batch.rows;
            outputs
                .hidden
                .append(&mut batch.hidden.read_f32(rows * self.hidden)?);
            outputs
                .scores
                .append(&mut batch.scores.read_f32(rows * CLASSES)?);
            outputs.guesses.append(&mut batch.guesses.read_u32(rows)?);
            for buffer in [batch.images, batch.hidden, batch.scores, batch.guesses] {
                buffer.close()?;
            }
        }
        for buffer in [weights.w1, weights.b1, weights.w2, weights.b2] {
            buffer.close()?;
        }
        Ok((outputs, time))
    }

    /// Both layers for one batch.
    fn stream(&self, weights: &Weights, batch: &Batch) -> CommandStream {
        let (rows, hidden, classes) = (batch.rows as u32, self.hidden as u32, CLASSES as u32);
        let layer = |input, inputs, weights, output, outputs| Gemm {
            m: rows,
            n: outputs,
            k: inputs,
            a: Matrix::dense(input, inputs),
            b: Matrix::dense(weights, outputs),
            c: Matrix::dense(output, outputs),
            alpha: 1.0,
            beta: 0.0,
        };
        let in_place = |op, matrix, b, cols| Elementwise {
            op,
            dst: matrix,
            a: matrix,
            b,
            rows,
            cols,
        };
        let (x, h, y) = (
            batch.images.gpu_va(),
            batch.hidden.gpu_va(),
            batch.scores.gpu_va(),
        );
        let bias = |buffer: &Buffer| Operand::Row(buffer.gpu_va());
        let mut stream = CommandStream::new();
        stream.gemm(layer(x, PIXELS as u32, weights.w1.gpu_va(), h, hidden));
        stream.elementwise(in_place(ElementwiseOp::Add, h, bias(&weights.b1), hidden));
        stream.elementwise(in_place(ElementwiseOp::Relu, h, Operand::None, hidden));
        stream.gemm(layer(h, hidden, weights.w2.gpu_va(), y, classes));
        stream.elementwise(in_place(ElementwiseOp::Add, y, bias(&weights.b2), classes));
        stream.reduce(Reduce {
            op: ReduceOp::ArgMax,
            axis: ReduceAxis::Rows,
            dst: batch.guesses.gpu_va(),
            src: y,
            rows,
            cols: classes,
        });
        stream
    }
}

/// The network on the device.
struct Weights {
    w1: Buffer,
    b1: Buffer,
    w2: Buffer,
    b2: Buffer,
}

/// Some images and room for their outputs on the device.
struct Batch {
    rows: usize,
    images: Buffer,
    hidden: Buffer,
    scores: Buffer,
    guesses: Buffer,
}

/// Share of right guesses among images from `first` on, with a sentence.
fn accuracy(guesses: &[u32], labels: &[u32], first: usize, which: &str) -> Figure {
    let pairs = guesses.iter().zip(labels).skip(first);
    let all = pairs.clone().count();
    let right = pairs.filter(|(guess, label)| guess == label).count();
    let value = right as f64 / all.max(1) as f64;
    Figure {
        name: "accuracy",
        value,
        unit: "",
        text: format!("accuracy {:.2} % ({right} of {all} {which})", value * 100.0),
    }
}

fn run(bench: &Bench) -> Result<Measured, Failure> {
    let network = Network::load(&bench.data)?;
    let (outputs, time) = network.on_device(bench)?;
    let expected = network.on_cpu();
    let mut compared = compare::floats("hidden layer", &outputs.hidden, &expected.hidden)?;
    compared += compare::floats("scores", &outputs.scores, &expected.scores)?;
    compared += compare::words("digits", &outputs.guesses, &expected.guesses)?;

    let count = network.labels.len();
    let figure = if bench.data.is_built_in() {
        let which = format!("held-out images, {HELD_OUT} to {}", count - 1);
        accuracy(&outputs.guesses, &network.labels, HELD_OUT, &which)
    } else {
        accuracy(&outputs.guesses, &network.labels, 0, "images")
    };
    Ok(Measured {
        outputs: compared,
        time,
        amount: Some((count as f64, "images/s")),
        figures: vec![figure],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that the built-in network recognises digits, so that a wrong file cannot hide behind
    /// an accelerator and a CPU that agree on nonsense.
    #[test]
    fn the_network_is_good() {
        let network = Network::load(&Data::default()).unwrap();
        let outputs = network.on_cpu();
        assert_eq!(outputs.guesses.len(), 1797);
        let held_out = accuracy(&outputs.guesses, &network.labels, HELD_OUT, "x");
        assert!((0.93..0.94).contains(&held_out.value), "{}", held_out.text);
    }

    /// Proves that the share is of the images asked for.
    #[test]
    fn shares() {
        let figure = accuracy(&[1, 2, 3, 4], &[0, 2, 3, 0], 1, "held-out images");
        assert_eq!(figure.text, "accuracy 66.67 % (2 of 3 held-out images)");
    }
}
