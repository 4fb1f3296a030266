// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker as `vaccel-host` uses it, on the machine's Vulkan device (Mesa's software device in the
//! build root): shaders against the built-in operations, and shaders that mean harm.

mod differential;
mod hostile;
mod lifetime;
mod memory;
mod wgsl;

use std::path::Path;
use std::sync::OnceLock;

use engine::ShaderEngine;
use shader_process::ShaderProcess;

/// The program under test.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vaccel-spirv-worker"))
}

/// A worker of one's own.
fn worker() -> ShaderProcess {
    ShaderProcess::start(program()).unwrap()
}

/// An engine shared by the tests that leave their worker alive.
///
/// It is started by a thread that stays, because a worker ends with the thread that started it.
fn shared_engine() -> &'static ShaderEngine<ShaderProcess> {
    static ENGINE: OnceLock<ShaderEngine<ShaderProcess>> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(worker()).unwrap();
            loop {
                std::thread::park();
            }
        });
        ShaderEngine::new(receiver.recv().unwrap())
    })
}
