// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a dispatch moves, and what becomes of one that fails, with shaders that are Rust.

use std::sync::Mutex;

use vaccel_isa::{Binding, Reason, Shader};

use super::*;
use crate::test_memory::{FakePace, Memory, COMMANDS};
use crate::{Access, BuiltIn, FaultKind};

/// Adds 1 to every byte of every buffer and keeps what it was called with; or stops.
#[derive(Default)]
struct Fake {
    stop: Option<ShaderStop>,
    calls: Mutex<Vec<ShaderCall>>,
}

impl Shaders for Fake {
    fn device(&self) -> &str {
        "a fake"
    }

    fn run(&self, call: &mut ShaderCall, _: Duration, _: &dyn Pace) -> Result<(), ShaderStop> {
        self.calls.lock().unwrap().push(call.clone());
        for byte in call.buffers.iter_mut().flat_map(|b| &mut b.content) {
            *byte += 1;
        }
        self.stop.map_or(Ok(()), Err)
    }
}

const SHADER: Shader<'_> = Shader {
    va: 0x100,
    bytes: 8,
    entry_point: "main",
};

fn buffer(number: u32, va: u64, access: BindingAccess) -> Binding {
    Binding {
        number,
        va,
        bytes: 4,
        access,
    }
}

/// Memory with a "module" and two buffers, and a command buffer that dispatches and then fills.
fn memory() -> (Memory, Commands) {
    let memory = Memory::new();
    memory.write(0x100, b"a module").unwrap();
    memory.write(0x200, &[1, 2, 3, 4, 5]).unwrap();
    memory.write(0x300, &[9, 8, 7, 6, 5]).unwrap();
    let commands = memory.stage(|s| {
        let bindings = [
            buffer(2, 0x200, BindingAccess::Read),
            buffer(5, 0x300, BindingAccess::ReadWrite),
        ];
        s.dispatch(SHADER, [3, 2, 1], &bindings, &[7; 4])
            .fill_bytes(0x400, 1, 0xaa);
    });
    (memory, commands)
}

fn at(memory: &Memory, va: usize) -> [u8; 5] {
    memory.bytes.borrow()[va..va + 5].try_into().unwrap()
}

/// The shader gets the module, name, groups, constants and contents; writable buffers are written
/// back to their length, others are not; the next packet runs.
#[test]
fn moves_memory() {
    let (memory, commands) = memory();
    let engine = ShaderEngine::new(Fake::default());
    let outcome = engine.run(commands, &memory, &FakePace::default());
    assert_eq!(outcome, Outcome::Done);
    let buffers = [(2, false, [1, 2, 3, 4]), (5, true, [9, 8, 7, 6])];
    let call = ShaderCall {
        module: b"a module".to_vec(),
        entry_point: "main".into(),
        groups: [3, 2, 1],
        buffers: buffers
            .map(|(number, writable, content)| ShaderBuffer {
                number,
                writable,
                content: content.to_vec(),
            })
            .into(),
        push_constants: vec![7; 4],
    };
    assert_eq!(*engine.0.calls.lock().unwrap(), [call]);
    assert_eq!(at(&memory, 0x200), [1, 2, 3, 4, 5]);
    assert_eq!(at(&memory, 0x300), [10, 9, 8, 7, 5]);
    assert_eq!(at(&memory, 0x400)[0], 0xaa);
}

/// A shader that stops ends the job with the outcome of its reason, and nothing of it or behind it
/// is written.
#[test]
fn stops_write_nothing() {
    for (stop, expected) in [
        (ShaderStop::Refused, Outcome::BadProgram),
        (ShaderStop::Died, Outcome::BadProgram),
        (ShaderStop::Hung, Outcome::Hung),
        (ShaderStop::Cancelled, Outcome::Cancelled),
    ] {
        let (memory, commands) = memory();
        let engine = ShaderEngine::new(Fake {
            stop: Some(stop),
            ..Fake::default()
        });
        let outcome = engine.run(commands, &memory, &FakePace::default());
        assert_eq!(outcome, expected);
        assert_eq!(at(&memory, 0x300), [9, 8, 7, 6, 5], "{stop:?}");
        assert_eq!(at(&memory, 0x400)[0], 0, "{stop:?}");
    }
}

/// A module or buffer that is not mapped, or a buffer that cannot be written back, is a page fault
/// there.
#[test]
fn faults() {
    let engine = ShaderEngine::new(Fake::default());
    let run = |memory: &Memory, shader, buffer| {
        let commands = memory.stage(|s| {
            s.dispatch(shader, [1; 3], &[buffer], &[]);
        });
        engine.run(commands, memory, &FakePace::default())
    };
    let fault = |va, access, kind| Outcome::PageFault(Fault { va, access, kind });
    let good = buffer(0, 0x200, BindingAccess::ReadWrite);
    let mut memory = Memory::new();
    let not_mapped = fault(0x2_0000, Access::Read, FaultKind::NotMapped);
    let shader = Shader {
        va: 0x2_0000,
        ..SHADER
    };
    assert_eq!(run(&memory, shader, good), not_mapped);
    let nowhere = buffer(0, 0x2_0000, BindingAccess::Read);
    assert_eq!(run(&memory, SHADER, nowhere), not_mapped);
    assert!(engine.0.calls.lock().unwrap().is_empty(), "nothing ran");
    let commands = memory.stage(|s| {
        s.dispatch(SHADER, [1; 3], &[good], &[]);
    });
    memory.read_only = 0x200;
    let outcome = engine.run(commands, &memory, &FakePace::default());
    let read_only = fault(0x200, Access::Write, FaultKind::ReadOnly);
    assert_eq!(outcome, read_only);
}

/// The built-in engine says that it has no shaders, and takes a command buffer with one for
/// malformed, at the packet, before anything runs. The other says that it has them.
#[test]
fn built_in_has_none() {
    let memory = Memory::new();
    let commands = memory.stage(|s| {
        s.fill_bytes(0x400, 1, 0xaa)
            .dispatch(SHADER, [1; 3], &[], &[]);
    });
    assert_eq!(commands.va, COMMANDS);
    let Outcome::BadCommands(error) = BuiltIn.run(commands, &memory, &FakePace::default()) else {
        panic!("not refused");
    };
    assert_eq!((error.offset, error.reason), (32, Reason::Opcode(9)));
    assert_eq!(at(&memory, 0x400)[0], 0);
    assert!(!BuiltIn.info().supports(Opcode::DispatchSpirv));
    let info = ShaderEngine::new(Fake::default()).info();
    assert!(info.supports(Opcode::DispatchSpirv) && info.supports(Opcode::GemmF32));
    assert_eq!(info.name(), "SPIR-V on a fake");
}
