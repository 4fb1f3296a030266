// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests, one after the other, and the shaders that are kept ready for the next ones.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use shader_process::protocol::{receive, send, Answer, Request};

use crate::sanitise::{sanitise, Refusal};
use crate::vulkan::{Device, Failure, Pipeline};

/// Shaders kept ready. More are dropped, the one not used for longest first.
const KEPT: usize = 16;

/// A shader that is ready, and what it was made of.
struct Ready<'d> {
    module: Vec<u8>,
    entry_point: String,
    pipeline: Pipeline<'d>,
}

/// Serves until the host closes the socket.
pub(crate) fn serve<S: Read + Write>(stream: &mut S, device: &Device) -> io::Result<()> {
    let mut ready = VecDeque::new();
    loop {
        let request: Request = match receive(stream) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            request => request?,
        };
        let module = take(stream, request.module_bytes)?;
        let push_constants = take(stream, request.push_bytes)?;
        let mut contents = Vec::new();
        for buffer in &request.buffers {
            contents.push(take(stream, buffer.bytes)?);
        }
        let ran = pipeline(device, &mut ready, module, &request)
            .and_then(|pipeline| pipeline.run(&request, &push_constants, &mut contents));
        match ran {
            Ok(()) => {
                send(stream, &Answer::Done)?;
                for (buffer, content) in request.buffers.iter().zip(&contents) {
                    if buffer.writable {
                        stream.write_all(content)?;
                    }
                }
            }
            Err(Failure::Refused(reason)) => {
                send(stream, &Answer::Refused(reason.to_string()).cut())?;
            }
            // The host sees the end of this process, and starts another.
            Err(error @ Failure::Vulkan(_)) => return Err(io::Error::other(error)),
        }
    }
}

/// Reads `bytes` bytes; the host keeps to the limits of the ISA.
fn take(stream: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut content = vec![0; bytes];
    stream.read_exact(&mut content)?;
    Ok(content)
}

/// The shader of a request, made unless it is ready. It becomes the first of those.
fn pipeline<'r, 'd>(
    device: &'d Device,
    ready: &'r mut VecDeque<Ready<'d>>,
    module: Vec<u8>,
    request: &Request,
) -> Result<&'r Pipeline<'d>, Failure> {
    let known = ready
        .iter()
        .position(|ready| ready.module == module && ready.entry_point == request.entry_point);
    let first = match known.and_then(|at| ready.remove(at)) {
        Some(known) => known,
        None => {
            let shader = sanitise(&module, &request.entry_point)?;
            Ready {
                module,
                entry_point: request.entry_point.clone(),
                pipeline: Pipeline::new(device, shader)?,
            }
        }
    };
    ready.truncate(KEPT.saturating_sub(1));
    ready.push_front(first);
    let first = ready.front().map(|ready| &ready.pipeline);
    first.ok_or_else(|| Refusal::EntryPoint(request.entry_point.clone()).into())
}
