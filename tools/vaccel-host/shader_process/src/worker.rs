// SPDX-License-Identifier: MIT OR Apache-2.0
//! One worker process: its start, requests to it, its end.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use engine::{Pace, ShaderCall};

use crate::protocol::{receive, send, Answer, Request, RequestBuffer, VERSION};
use crate::socket::{prepare, Timed};
use crate::StartError;

/// Beginnings of the names of environment variables that a worker gets: what chooses the driver.
const ENVIRONMENT: [&str; 5] = ["VK_", "MESA_", "LP_", "GALLIVM_", "LD_LIBRARY_PATH"];

/// A running worker, killed when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    stream: UnixStream,
}

/// Why a request did not end well.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The worker refused the shader and says why.
    Refused(String),
    /// The deadline passed.
    TimedOut,
    /// Nobody wants the result any more.
    Cancelled,
    /// The worker died or broke the protocol.
    Broken(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionAborted => Self::Cancelled,
            _ => Self::Broken(error),
        }
    }
}

impl Worker {
    /// Starts a worker and waits until it is ready. Returns the name of its device.
    pub(crate) fn start(
        program: &Path,
        deadline: Option<Instant>,
        pace: &dyn Pace,
    ) -> Result<(Self, String), StartError> {
        let worker = Self::spawn(program).map_err(|error| StartError::Spawn {
            program: program.to_owned(),
            error,
        })?;
        match receive(&mut worker.timed(deadline, pace)) {
            Ok(Answer::Ready { version, device }) if version == VERSION => Ok((worker, device)),
            Ok(Answer::Unable(what)) => Err(StartError::Unable(what)),
            _ => Err(StartError::Silent {
                program: program.to_owned(),
            }),
        }
    }

    fn spawn(program: &Path) -> io::Result<Self> {
        let (stream, far) = UnixStream::pair()?;
        prepare(&stream)?;
        let kept = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            ENVIRONMENT.iter().any(|start| name.starts_with(start))
        });
        let child = Command::new(program)
            .env_clear()
            .envs(kept)
            // Compiled shaders stay in the process.
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(Stdio::null())
            // What a compiler says about a guest's shader is not for the host's log.
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, stream })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs one shader.
    pub(crate) fn run(
        &mut self,
        call: &mut ShaderCall,
        deadline: Option<Instant>,
        pace: &dyn Pace,
    ) -> Result<(), Ended> {
        let mut stream = self.timed(deadline, pace);
        send(&mut stream, &request(call))?;
        stream.write_all(&call.module)?;
        stream.write_all(&call.push_constants)?;
        for buffer in &call.buffers {
            stream.write_all(&buffer.content)?;
        }
        match receive(&mut stream)? {
            Answer::Done => {}
            Answer::Refused(reason) => return Err(Ended::Refused(reason)),
            Answer::Ready { .. } | Answer::Unable(_) => {
                let error = io::Error::new(ErrorKind::InvalidData, "not an answer to a request");
                return Err(Ended::Broken(error));
            }
        }
        for buffer in call.buffers.iter_mut().filter(|buffer| buffer.writable) {
            stream.read_exact(&mut buffer.content)?;
        }
        Ok(())
    }

    fn timed<'a>(&'a self, deadline: Option<Instant>, pace: &'a dyn Pace) -> Timed<'a> {
        Timed {
            stream: &self.stream,
            deadline,
            pace,
        }
    }
}

fn request(call: &ShaderCall) -> Request {
    Request {
        module_bytes: call.module.len(),
        entry_point: call.entry_point.clone(),
        groups: call.groups,
        push_bytes: call.push_constants.len(),
        buffers: call
            .buffers
            .iter()
            .map(|buffer| RequestBuffer {
                number: buffer.number,
                writable: buffer.writable,
                bytes: buffer.content.len(),
            })
            .collect(),
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only if it has been waited for, which only happens here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
