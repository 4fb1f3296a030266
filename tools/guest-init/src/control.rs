// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control channel: JSON lines over the second serial port, one answer per request.
//!
//! A machine without the port, or with nobody at its other end, is no error: [`Control::open`] then
//! gives none.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::kernel;

/// The port.
const PORT: &str = "/dev/ttyS1";
/// How long the first answer may take.
const HELLO: Duration = Duration::from_secs(5);
/// How long any other answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How long nothing must come before the channel counts as quiet.
const QUIET: Duration = Duration::from_millis(500);
/// Pause before a refused request is made again.
const RETRY: Duration = Duration::from_millis(100);
/// Longest answer.
const ANSWER_BYTES: usize = 1 << 20;

/// An open control channel.
#[derive(Debug)]
pub struct Control<F = File> {
    port: F,
}

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The port failed.
    #[error("control channel: {0}")]
    Io(#[from] io::Error),
    /// Nobody answered.
    #[error("control channel: no answer in {0:?}")]
    Silent(Duration),
    /// The answer is no JSON.
    #[error("control channel: the answer is no JSON ({0})")]
    Malformed(serde_json::Error),
    /// The host refused.
    #[error("the host refused: {0}")]
    Refused(String),
}

impl Control {
    /// Opens the port and asks once, to learn whether somebody is there.
    pub fn open() -> Option<Self> {
        let port = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(PORT)
            .ok()?;
        kernel::set_raw(port.as_fd()).ok()?;
        let mut control = Self { port };
        control.exchange(&json!({"op": "census"}), HELLO).ok()?;
        Some(control)
    }
}

impl<F: Read + Write + AsFd> Control<F> {
    /// Sends a request and waits for its answer; an answer with "error" is an error.
    pub fn request(&mut self, request: &Value) -> Result<Value, ControlError> {
        self.exchange(request, ANSWER)
    }

    /// As [`Control::request`], made again for up to `patience` while the host refuses: it offers a
    /// device anew only when the guest has let go of the old channel.
    pub fn request_until_taken(
        &mut self,
        request: &Value,
        patience: Duration,
    ) -> Result<Value, ControlError> {
        let end = Instant::now() + patience;
        loop {
            match self.request(request) {
                Err(ControlError::Refused(_)) if Instant::now() < end => std::thread::sleep(RETRY),
                answer => return answer,
            }
        }
    }

    /// Gets both ends in step again after a program that was talking to the host was killed: ends
    /// the line it may have begun, and drops what is still said to it.
    pub fn settle(&mut self) -> Result<(), ControlError> {
        self.port.write_all(b"\n")?;
        self.port.flush()?;
        let mut dropped = [0; 256];
        while kernel::wait_readable(self.port.as_fd(), QUIET)? {
            if self.port.read(&mut dropped)? == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(())
    }

    fn exchange(&mut self, request: &Value, patience: Duration) -> Result<Value, ControlError> {
        let mut line = request.to_string();
        line.push('\n');
        self.port.write_all(line.as_bytes())?;
        self.port.flush()?;
        let answer = self.read_line(patience)?;
        let answer: Value = serde_json::from_slice(&answer).map_err(ControlError::Malformed)?;
        match answer.get("error") {
            None | Some(Value::Null) => Ok(answer),
            Some(Value::String(reason)) => Err(ControlError::Refused(reason.clone())),
            Some(other) => Err(ControlError::Refused(other.to_string())),
        }
    }

    fn read_line(&mut self, patience: Duration) -> Result<Vec<u8>, ControlError> {
        let end = Instant::now() + patience;
        let mut line = Vec::new();
        let mut chunk = [0; 256];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !kernel::wait_readable(self.port.as_fd(), left)? {
                return Err(ControlError::Silent(patience));
            }
            let length = self.port.read(&mut chunk)?;
            let bytes = chunk.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            line.extend_from_slice(bytes);
            // One answer per request: what follows the end of the line does not exist.
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                line.truncate(end);
                return Ok(line);
            }
            if line.len() > ANSWER_BYTES {
                return Err(io::Error::from(ErrorKind::FileTooLarge).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixStream;

    /// Proves that a request that is refused is made again until it is taken, and not for longer than
    /// it may.
    #[test]
    fn until_taken() {
        for (refusals, patience, taken) in [(2, 60, true), (1, 0, false)] {
            let (near, far) = UnixStream::pair().unwrap();
            let host = std::thread::spawn(move || {
                let mut requests = BufReader::new(far.try_clone().unwrap()).lines();
                let mut far = far;
                for _ in 0..refusals {
                    requests.next().unwrap().unwrap();
                    far.write_all(b"{\"error\": \"not yet\"}\n").unwrap();
                }
                if taken {
                    requests.next().unwrap().unwrap();
                    far.write_all(b"{}\n").unwrap();
                }
            });
            let mut control = Control { port: near };
            let request = json!({"op": "offer"});
            let answer = control.request_until_taken(&request, Duration::from_secs(patience));
            assert_eq!(answer.is_ok(), taken);
            host.join().unwrap();
        }
    }

    /// A host that gives one answer to one request and returns the request.
    fn answer(answer: &'static str) -> (Control<UnixStream>, std::thread::JoinHandle<String>) {
        let (near, far) = UnixStream::pair().unwrap();
        let host = std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(&far).read_line(&mut line).unwrap();
            (&far).write_all(answer.as_bytes()).unwrap();
            line
        });
        (Control { port: near }, host)
    }

    /// Proves that a request is one line and its answer is parsed.
    #[test]
    fn a_request_is_answered() {
        let (mut control, host) = answer("{\"ok\":true}\n");
        let reply = control
            .request(&json!({"op": "result", "name": "a\nb"}))
            .unwrap();
        assert_eq!(reply, json!({"ok": true}));
        assert_eq!(
            host.join().unwrap(),
            "{\"name\":\"a\\nb\",\"op\":\"result\"}\n"
        );
    }

    /// Proves that after a program was killed amid an exchange the next answer is the next
    /// request's.
    #[test]
    fn settling() {
        let (near, far) = UnixStream::pair().unwrap();
        // The program had sent the start of a line, and an answer to it is on its way.
        (&far).write_all(b"ok\":true}\n").unwrap();
        let mut control = Control { port: near };
        control.settle().unwrap();
        let host = std::thread::spawn(move || {
            let mut lines = BufReader::new(&far).lines();
            let ended = lines.next().unwrap().unwrap();
            let request = lines.next().unwrap().unwrap();
            (&far).write_all(b"{\"now\":1}\n").unwrap();
            (ended, request)
        });
        let answer = control.request(&json!({"op": "census"})).unwrap();
        assert_eq!(answer, json!({"now": 1}));
        let (ended, request) = host.join().unwrap();
        assert_eq!(
            (ended.as_str(), request.as_str()),
            ("", "{\"op\":\"census\"}")
        );
    }

    /// Proves that a refusal, garbage and silence are errors.
    #[test]
    fn bad_answers() {
        let (mut control, _host) = answer("{\"error\":\"unknown op\"}\n");
        let error = control.request(&json!({})).unwrap_err();
        assert_eq!(error.to_string(), "the host refused: unknown op");
        let (mut control, _host) = answer("what?\n");
        assert!(matches!(
            control.request(&json!({})),
            Err(ControlError::Malformed(_))
        ));
        let (near, _far) = UnixStream::pair().unwrap();
        let mut control = Control { port: near };
        assert!(matches!(
            control.exchange(&json!({}), Duration::from_millis(5)),
            Err(ControlError::Silent(_))
        ));
    }
}
