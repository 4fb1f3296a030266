// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vaccel-spirv-worker`: runs compute shaders for `vaccel-host`, in a process without any rights.
//!
//! `vaccel-host` starts it with a socket as standard input, speaks the protocol of `shader_process`
//! with it and kills it when a shader takes too long. It is a program of its own because it has to
//! load the machine's Vulkan driver, which a static program such as `vaccel-host` cannot.
//!
//! The order matters: first the Vulkan device is made, then the process gives up its rights
//! ([`sandbox`]), and only then it reads the first byte that a guest made. A shader is parsed and
//! validated by naga, which writes it anew with every index checked ([`sanitise`]); the driver sees
//! only what naga wrote. A panic or crash here costs the guest its job and the host nothing.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod sandbox;
mod sanitise;
mod serve;
mod vulkan;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use shader_process::protocol::{send, Answer, VERSION};

use vulkan::Device;

fn main() -> ExitCode {
    match run() {
        // The host has closed its end.
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vaccel-spirv-worker: {error} (vaccel-host starts this program)");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails if it is no socket.
    stream.peer_addr()?;
    sandbox::die_with_parent()?;
    let device = match Device::open() {
        Ok(device) => device,
        Err(error) => return send(&mut stream, &Answer::Unable(error.to_string()).cut()),
    };
    if let Err(error) = sandbox::enter(device.is_software()) {
        let text = format!("the shader worker cannot give up its rights: {error}");
        return send(&mut stream, &Answer::Unable(text).cut());
    }
    let ready = Answer::Ready {
        version: VERSION,
        device: device.name().to_owned(),
    };
    send(&mut stream, &ready.cut())?;
    serve::serve(&mut stream, &device)
}
