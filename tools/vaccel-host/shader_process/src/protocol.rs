// SPDX-License-Identifier: MIT OR Apache-2.0
//! What host and worker say to each other over a stream socket.
//!
//! A message is the length of its header (`u32`, little-endian), the header as JSON, and then the
//! bytes that the header or, for an answer, the request tells the length of. The worker begins with
//! [`Answer::Ready`] or [`Answer::Unable`]; then each [`Request`] has one answer:
//!
//! | Message | bytes behind the header |
//! |---|---|
//! | [`Request`] | the module, the push constants, the contents of each buffer |
//! | [`Answer::Done`] | the contents of each writable buffer |
//! | others | none |

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the protocol. Host and worker are built together; this tells if they were not.
pub const VERSION: u32 = 1;
/// Longest header in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Longest text in an answer, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Asks for a dispatch. The sender keeps to the limits of the ISA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Bytes of the module.
    pub module_bytes: usize,
    /// Name of the entry point.
    pub entry_point: String,
    /// Work groups in x, y and z.
    pub groups: [u32; 3],
    /// Bytes of push constants.
    pub push_bytes: usize,
    /// The buffers, in ascending order of their numbers.
    pub buffers: Vec<RequestBuffer>,
}

/// A buffer of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBuffer {
    /// Binding number.
    pub number: u32,
    /// Whether it comes back.
    pub writable: bool,
    /// Its length.
    pub bytes: usize,
}

/// What the worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It has a device.
    Ready {
        /// [`VERSION`]
        version: u32,
        /// Name of the device.
        device: String,
    },
    /// It cannot work; says what is missing.
    Unable(String),
    /// The shader ran to its end.
    Done,
    /// The shader was not run; says why.
    Refused(String),
}

impl Answer {
    /// The answer with its text cut to what the other side takes.
    #[must_use]
    pub fn cut(mut self) -> Self {
        if let Self::Unable(text) | Self::Refused(text) | Self::Ready { device: text, .. } =
            &mut self
        {
            let mut end = text.len().min(MAX_TEXT_BYTES);
            while !text.is_char_boundary(end) {
                end = end.saturating_sub(1);
            }
            text.truncate(end);
        }
        self
    }
}

/// Sends a header.
///
/// # Errors
///
/// Fails if it is too long, or as the stream fails.
pub fn send<T: Serialize>(stream: &mut impl Write, header: &T) -> io::Result<()> {
    let text = serde_json::to_vec(header)?;
    if text.len() > MAX_HEADER_BYTES {
        return Err(bad("header too long"));
    }
    let length = u32::try_from(text.len()).map_err(|_| bad("header too long"))?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&text)
}

/// Receives a header.
///
/// # Errors
///
/// Fails if it is too long or not what is expected, or as the stream fails.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES {
        return Err(bad("header too long"));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header comes back as it was sent, and the stream is behind it.
    #[test]
    fn round_trip() {
        let request = Request {
            module_bytes: 400,
            entry_point: "main".into(),
            groups: [1, 2, 3],
            push_bytes: 8,
            buffers: vec![RequestBuffer {
                number: 4,
                writable: true,
                bytes: 64,
            }],
        };
        let mut stream = Vec::new();
        send(&mut stream, &request).unwrap();
        stream.push(7);
        let mut rest = stream.as_slice();
        assert_eq!(receive::<Request>(&mut rest).unwrap(), request);
        assert_eq!(rest, [7]);
    }

    /// Headers that are too long, cut, or something else are refused, the first before memory is
    /// taken for it.
    #[test]
    fn refusals() {
        let receive = |mut bytes: &[u8]| receive::<Answer>(&mut bytes).unwrap_err().kind();
        assert_eq!(receive(&[0xff; 4]), io::ErrorKind::InvalidData);
        assert_eq!(receive(&[4, 0, 0, 0, b'1']), io::ErrorKind::UnexpectedEof);
        assert_eq!(receive(&[1, 0, 0, 0, b'1']), io::ErrorKind::InvalidData);
        let long = Answer::Refused("é".repeat(1 << 14));
        assert!(send(&mut Vec::new(), &long).is_err());
        send(&mut Vec::new(), &long.cut()).unwrap();
    }
}
