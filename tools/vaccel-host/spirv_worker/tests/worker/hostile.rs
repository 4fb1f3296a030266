// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shaders that mean harm: they cost the guest its job, and nobody else anything.

use std::time::{Duration, Instant};

use engine::{Outcome, ShaderBuffer, ShaderCall, ShaderEngine, ShaderStop, Shaders};
use vaccel_isa::Shader;

use crate::memory::{input, output, Memory, Numbers, Until, BUFFERS};
use crate::{shared_engine, wgsl, worker};

/// Adds 1 to each word.
const COUNT: &str = "
    @group(0) @binding(0) var<storage, read_write> to: array<u32>;
    @compute @workgroup_size(1) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
        to[at.x] += 1u;
    }";

/// Does not end.
const ENDLESS: &str = "
    @group(0) @binding(0) var<storage, read_write> to: array<u32>;
    @compute @workgroup_size(1) fn main() {
        loop { if to[0] == 12345u { break; } to[1] += 1u; }
    }";

fn call(text: &str) -> ShaderCall {
    ShaderCall {
        module: wgsl::compile(text),
        entry_point: "main".into(),
        groups: [2, 1, 1],
        buffers: vec![ShaderBuffer {
            number: 0,
            writable: true,
            content: vec![0; 8],
        }],
        push_constants: Vec::new(),
    }
}

/// A job that works, on memory of its own.
fn works(engine: &dyn engine::Engine) {
    let memory = Memory::new(64);
    let shader = memory.shader(&wgsl::compile(COUNT));
    let outcome = memory.run(engine, &Until::done(), |s| {
        s.dispatch(shader, [4, 1, 1], &[output(0, BUFFERS, 4)], &[]);
    });
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        memory.words(BUFFERS, 5),
        [
            0xa5a5_a5a6,
            0xa5a5_a5a6,
            0xa5a5_a5a6,
            0xa5a5_a5a6,
            0xa5a5_a5a5
        ]
    );
}

/// Bytes that are no module, a valid one cut anywhere, and one with changed words: the job fails or
/// (changed words can be right) runs, memory around its buffer stays as it is, the next job runs.
#[test]
fn broken_modules() {
    // Of its own: one may die of it, and the next ends with this thread.
    let engine = ShaderEngine::new(worker());
    let good = wgsl::compile(COUNT);
    let mut numbers = Numbers(5);
    let mut modules: Vec<Vec<u8>> = (4..good.len())
        .step_by(12)
        .map(|n| good[..n & !3].to_vec())
        .collect();
    modules.push(vec![0; 4096]);
    let cut = modules.len();
    for _ in 0..100 {
        let mut module = good.clone();
        let at = numbers.word() as usize % (module.len() / 4) * 4;
        module[at] = numbers.word() as u8;
        module[at + 1] ^= (numbers.word() % 2) as u8;
        modules.push(module);
    }
    let memory = Memory::new(64);
    for (number, module) in modules.iter().enumerate() {
        let shader = memory.shader(module);
        let limit = Until::after(Duration::from_secs(20));
        let outcome = memory.run(&engine, &limit, |s| {
            s.dispatch(shader, [4, 1, 1], &[output(0, BUFFERS + 16, 4)], &[]);
        });
        if number < cut {
            assert_eq!(outcome, Outcome::BadProgram, "module {number}");
        }
        let around = [memory.words(BUFFERS, 4), memory.words(BUFFERS + 32, 8)].concat();
        assert_eq!(around, [0xa5a5_a5a5; 12], "module {number}: {outcome:?}");
    }
    works(&engine);
}

/// Indices beyond a buffer are clamped to its last element, for reads and for writes, and what lies
/// around the buffer in GPU memory stays as it is.
#[test]
fn out_of_bounds() {
    let module = wgsl::compile(
        "@group(0) @binding(0) var<storage, read> from_here: array<u32>;
        @group(0) @binding(1) var<storage, read_write> to: array<u32>;
        @compute @workgroup_size(1) fn main() {
            to[0] = from_here[to[0]];
            to[to[1]] = 77u;
        }",
    );
    for far in [4, 5, 1000, 1 << 20, u32::MAX / 4, u32::MAX] {
        let memory = Memory::new(0x1000);
        memory.put(BUFFERS + 0x100, &[1, 2, 3, 4, 5], u32::to_le_bytes);
        memory.put(BUFFERS + 0x200, &[far, far, 0, 0, 9], u32::to_le_bytes);
        let shader = memory.shader(&module);
        let outcome = memory.run(shared_engine(), &Until::done(), |s| {
            let buffers = [input(0, BUFFERS + 0x100, 4), output(1, BUFFERS + 0x200, 4)];
            s.dispatch(shader, [1; 3], &buffers, &[]);
        });
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(memory.words(BUFFERS + 0x100, 5), [1, 2, 3, 4, 5]);
        assert_eq!(
            memory.words(BUFFERS + 0x200, 5),
            [4, far, 0, 77, 9],
            "index {far}"
        );
    }
}

/// A shader that does not end is over when nobody wants it any more (a TDR, or its device is gone)
/// or when its time is up; in both cases at once, its worker with it, and the next job runs.
#[test]
fn endless() {
    let shaders = worker();
    let first = shaders.worker_pid();
    let start = Instant::now();
    let limit = Duration::from_millis(500);
    let hung = shaders.run(&mut call(ENDLESS), limit, &Until::done());
    assert_eq!(hung, Err(ShaderStop::Hung));
    assert!(start.elapsed() >= limit);
    assert_eq!(shaders.worker_pid(), None, "killed");

    let engine = ShaderEngine::new(shaders);
    let memory = Memory::new(64);
    let shader = memory.shader(&wgsl::compile(ENDLESS));
    let start = Instant::now();
    // Long enough for a new worker.
    let tdr = Duration::from_secs(10);
    let outcome = memory.run(&engine, &Until::after(tdr), |s| {
        s.dispatch(shader, [1; 3], &[output(0, BUFFERS, 4)], &[])
            .fill_bytes(BUFFERS + 32, 4, 1);
    });
    assert_eq!(outcome, Outcome::Cancelled);
    let took = start.elapsed();
    assert!(took >= tdr && took < tdr * 3, "{took:?}");
    assert_eq!(
        memory.words(BUFFERS, 9),
        [0xa5a5_a5a5; 9],
        "nothing written"
    );
    works(&engine);
    assert_ne!(first, None);
}

/// What a dispatch lacks, or asks for too much of, is a fault of the job, and the worker lives on.
#[test]
fn refusals() {
    let shaders = worker();
    let pid = shaders.worker_pid();
    let long = Duration::from_secs(60);
    let refused = |change: &dyn Fn(&mut ShaderCall)| {
        let mut call = call(COUNT);
        change(&mut call);
        let stop = shaders.run(&mut call, long, &Until::done());
        assert_eq!(stop, Err(ShaderStop::Refused));
    };
    refused(&|call| call.buffers.clear());
    refused(&|call| call.buffers[0].number = 1);
    refused(&|call| call.buffers[0].writable = false);
    refused(&|call| call.entry_point = "other".into());
    refused(&|call| call.module = wgsl::compile(&COUNT.replace("_size(1)", "_size(256, 256)")));
    let mut good = call(COUNT);
    shaders.run(&mut good, long, &Until::done()).unwrap();
    assert_eq!(good.buffers[0].content, [1, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(shaders.worker_pid(), pid);
}

/// A module in memory that is not mapped faults before the worker hears of it.
#[test]
fn module_is_not_mapped() {
    let memory = Memory::new(64);
    let shader = Shader {
        va: 1 << 40,
        ..memory.shader(&wgsl::compile(COUNT))
    };
    let outcome = memory.run(shared_engine(), &Until::done(), |s| {
        s.dispatch(shader, [1; 3], &[], &[]);
    });
    assert!(matches!(outcome, Outcome::PageFault(fault) if fault.va == 1 << 40));
}
