// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's console on standard output.

use std::io::Write;

use vmm::SerialOutput;

/// Bytes collected before they are written without a line end.
const CHUNK: usize = 256;

/// Writes what the guest sends, line by line.
#[derive(Default)]
pub struct Console {
    line: Vec<u8>,
}

impl SerialOutput for Console {
    fn byte(&mut self, byte: u8) {
        self.line.push(byte);
        if byte == b'\n' || self.line.len() >= CHUNK {
            self.flush();
        }
    }
}

impl Console {
    fn flush(&mut self) {
        let mut out = std::io::stdout().lock();
        // Nobody reads any more: the guest goes on without a console.
        let _ = out.write_all(&self.line);
        let _ = out.flush();
        self.line.clear();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.flush();
    }
}
