// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypercalls KVM leaves to its user: posting messages and signalling events.
//!
//! Layouts and status codes follow the Hyper-V TLFS, chapters "Hypercall interface" and
//! "Inter-partition communication". Everything else a guest calls is answered by KVM itself or
//! refused here.

use guest_memory::GuestMemory;

/// HvPostMessage.
const POST_MESSAGE: u64 = 0x5C;
/// HvSignalEvent.
const SIGNAL_EVENT: u64 = 0x5D;
/// Input is in registers, not in memory.
const FAST: u64 = 1 << 16;
/// Longest payload of a message.
pub const MAX_PAYLOAD: usize = 240;
/// Bytes in front of the payload: connection, reserved, type, payload size.
const POST_HEADER: usize = 16;

/// Completion status of a hypercall.
pub mod status {
    /// Done.
    pub const SUCCESS: u16 = 0;
    /// No such hypercall.
    pub const INVALID_CODE: u16 = 2;
    /// Malformed control word.
    pub const INVALID_INPUT: u16 = 3;
    /// Input not aligned, crossing a page, or not in memory.
    pub const INVALID_ALIGNMENT: u16 = 4;
    /// A value in the input is out of range.
    pub const INVALID_PARAMETER: u16 = 5;
}

/// Who takes the payload of hypercalls. Called on the thread of the calling processor.
pub trait Hypercalls: Send + Sync {
    /// Takes a message of at most [`MAX_PAYLOAD`] bytes; returns the hypercall status.
    fn post_message(&self, connection: u32, message_type: u32, payload: &[u8]) -> u16;

    /// Takes a signal; returns the hypercall status.
    fn signal_event(&self, connection: u32, flag: u16) -> u16;
}

/// A hypercall that left the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hypercall {
    /// Control word: code, fast bit, repeat counts.
    pub control: u64,
    /// Address of the input, or for a fast call the input itself.
    pub input: u64,
}

impl Hypercall {
    /// Whether the input is in memory at an address that is still to be read.
    pub fn is_slow(self) -> bool {
        self.control & FAST == 0
    }

    /// Carries the call out and returns its status.
    pub fn run(self, memory: &dyn GuestMemory, handler: &dyn Hypercalls) -> u16 {
        match self.control & 0xFFFF {
            POST_MESSAGE if self.is_slow() => self.post_message(memory, handler),
            // 16 bytes of registers cannot hold a message.
            POST_MESSAGE => status::INVALID_INPUT,
            SIGNAL_EVENT => self.signal_event(memory, handler),
            _ => status::INVALID_CODE,
        }
    }

    fn post_message(self, memory: &dyn GuestMemory, handler: &dyn Hypercalls) -> u16 {
        let mut input = [0; POST_HEADER + MAX_PAYLOAD];
        if !self.read_input(memory, &mut input) {
            return status::INVALID_ALIGNMENT;
        }
        let (header, payload) = input.split_at(POST_HEADER);
        let word = |at: usize| {
            header
                .get(at..)
                .and_then(<[u8]>::first_chunk)
                .map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let size = word(12) as usize;
        match payload.get(..size) {
            Some(payload) => handler.post_message(word(0), word(8), payload),
            None => status::INVALID_PARAMETER,
        }
    }

    fn signal_event(self, memory: &dyn GuestMemory, handler: &dyn Hypercalls) -> u16 {
        let mut input = [0; 8];
        let value = if self.is_slow() {
            if !self.read_input(memory, &mut input) {
                return status::INVALID_ALIGNMENT;
            }
            u64::from_le_bytes(input)
        } else {
            self.input
        };
        if value >> 48 != 0 {
            return status::INVALID_INPUT;
        }
        handler.signal_event(value as u32, (value >> 32) as u16)
    }

    /// Reads the input, which must be aligned to 8 bytes and stay in one page.
    fn read_input(self, memory: &dyn GuestMemory, buf: &mut [u8]) -> bool {
        let offset = (self.input & 0xFFF) as usize;
        self.input % 8 == 0
            && offset.saturating_add(buf.len()) <= 4096
            && memory.read(self.input, buf).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use guest_memory::FlatMemory;

    use super::*;

    #[derive(Default)]
    struct Recorder {
        messages: Mutex<Vec<(u32, u32, Vec<u8>)>>,
        signals: Mutex<Vec<(u32, u16)>>,
    }

    impl Hypercalls for Recorder {
        fn post_message(&self, connection: u32, message_type: u32, payload: &[u8]) -> u16 {
            let message = (connection, message_type, payload.to_vec());
            self.messages.lock().unwrap().push(message);
            0x12
        }

        fn signal_event(&self, connection: u32, flag: u16) -> u16 {
            self.signals.lock().unwrap().push((connection, flag));
            status::SUCCESS
        }
    }

    fn message(size: u32) -> Vec<u8> {
        let mut input = vec![0; 256];
        for (at, word) in [(0, 1_u32), (8, 7), (12, size)] {
            input[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        input[16..19].copy_from_slice(&[1, 2, 3]);
        input
    }

    fn run(control: u64, input: u64, memory: &FlatMemory) -> (u16, Recorder) {
        let recorder = Recorder::default();
        let status = Hypercall { control, input }.run(memory, &recorder);
        (status, recorder)
    }

    /// A posted message arrives whole and the handler's status goes back.
    #[test]
    fn post() {
        let memory = FlatMemory::new(0, 8192);
        memory.write(0x100, &message(3)).unwrap();
        let (status, got) = run(POST_MESSAGE, 0x100, &memory);
        assert_eq!(status, 0x12);
        assert_eq!(*got.messages.lock().unwrap(), [(1, 7, vec![1, 2, 3])]);
    }

    /// Bad sizes and addresses are refused before the handler hears of them.
    #[test]
    fn bad_posts() {
        let memory = FlatMemory::new(0, 8192);
        memory.write(0, &message(241)).unwrap();
        for (input, expected) in [
            (0, status::INVALID_PARAMETER),
            (4, status::INVALID_ALIGNMENT),
            (0xF08, status::INVALID_ALIGNMENT),
            (0x10000, status::INVALID_ALIGNMENT),
        ] {
            let (status, got) = run(POST_MESSAGE, input, &memory);
            assert_eq!(status, expected, "input {input:#x}");
            assert!(got.messages.lock().unwrap().is_empty());
        }
        assert_eq!(
            run(POST_MESSAGE | FAST, 0, &memory).0,
            status::INVALID_INPUT
        );
        assert_eq!(run(0x99, 0, &memory).0, status::INVALID_CODE);
    }

    /// A signal means the same from registers and from memory; reserved bits are refused.
    #[test]
    fn signals() {
        let memory = FlatMemory::new(0, 4096);
        memory
            .write(8, &0x0002_0000_2001_u64.to_le_bytes())
            .unwrap();
        for (control, input) in [(SIGNAL_EVENT | FAST, 0x2_0000_2001), (SIGNAL_EVENT, 8)] {
            let (status, got) = run(control, input, &memory);
            assert_eq!(status, status::SUCCESS);
            assert_eq!(*got.signals.lock().unwrap(), [(0x2001, 2)]);
        }
        assert_eq!(
            run(SIGNAL_EVENT | FAST, 1 << 48, &memory).0,
            status::INVALID_INPUT
        );
    }
}
