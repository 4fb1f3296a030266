// SPDX-License-Identifier: MIT OR Apache-2.0
//! A serial port with an input queue longer than the UART's own.
//!
//! The UART is vm-superio's. What the guest sends goes to a [`SerialOutput`] byte by byte on the
//! processor's thread; what is sent to the guest through [`SerialInput`] waits in a bounded queue
//! and moves into the UART as the guest takes it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

/// Bytes that may wait for the guest.
const QUEUE_LIMIT: usize = 1 << 20;
/// Receive buffer and transmit holding register.
const DATA_OFFSET: u8 = 0;

/// Takes what the guest sends. Must not block for long: a processor waits.
pub trait SerialOutput: Send {
    /// Takes one byte.
    fn byte(&mut self, byte: u8);
}

/// Adapts a [`SerialOutput`] to the UART.
struct Output(Box<dyn SerialOutput>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0.byte(*byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Raises the interrupt line of a port.
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

struct State {
    uart: Serial<Line, NoEvents, Output>,
    waiting: VecDeque<u8>,
    /// Room in the UART when it has no byte.
    capacity: usize,
}

impl State {
    /// Moves the next waiting byte into the UART if that has none. One at a time: the UART takes its
    /// interrupt back when one byte is read, whatever else it has, and a guest that stops amid its
    /// bytes (Linux does after 256) would never hear of the rest.
    fn pump(&mut self) {
        if self.uart.fifo_capacity() < self.capacity {
            return;
        }
        if let Some(byte) = self.waiting.pop_front() {
            // Fails while the guest has the port in loopback: the byte is lost, as on a wire.
            let _ = self.uart.enqueue_raw_bytes(&[byte]);
        }
    }
}

/// One serial port. Clones are the same port.
#[derive(Clone)]
pub struct SerialPort {
    state: Arc<Mutex<State>>,
}

impl SerialPort {
    /// Makes a port, and returns the event that its interrupt line is to be wired to.
    ///
    /// # Errors
    ///
    /// Fails if the process is out of file descriptors.
    pub fn new(output: Box<dyn SerialOutput>) -> io::Result<(Self, EventFd)> {
        let line = EventFd::new(EFD_NONBLOCK)?;
        let uart = Serial::new(Line(line.try_clone()?), Output(output));
        let state = State {
            capacity: uart.fifo_capacity(),
            uart,
            waiting: VecDeque::new(),
        };
        let port = Self {
            state: Arc::new(Mutex::new(state)),
        };
        Ok((port, line))
    }

    /// The end that sends to the guest.
    pub fn input(&self) -> SerialInput {
        SerialInput { port: self.clone() }
    }

    /// Reads a register.
    pub fn read(&self, offset: u8) -> u8 {
        let mut state = self.lock();
        let value = state.uart.read(offset);
        if offset == DATA_OFFSET {
            state.pump();
        }
        value
    }

    /// Writes a register.
    pub fn write(&self, offset: u8, value: u8) {
        // Output never fails, and an interrupt event at its limit is already raised.
        let _ = self.lock().uart.write(offset, value);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends to a guest's serial port.
#[derive(Clone)]
pub struct SerialInput {
    port: SerialPort,
}

impl SerialInput {
    /// Queues `bytes` for the guest; returns false, queueing nothing, if the guest is so far
    /// behind that they do not fit.
    pub fn send(&self, bytes: &[u8]) -> bool {
        let mut state = self.port.lock();
        if state.waiting.len().saturating_add(bytes.len()) > QUEUE_LIMIT {
            return false;
        }
        state.waiting.extend(bytes);
        state.pump();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<u8>>>);

    impl SerialOutput for Sent {
        fn byte(&mut self, byte: u8) {
            self.0.lock().unwrap().push(byte);
        }
    }

    /// What the guest writes comes out, in order.
    #[test]
    fn output() {
        let sent = Sent::default();
        let (port, _line) = SerialPort::new(Box::new(sent.clone())).unwrap();
        for byte in *b"hi\n" {
            port.write(0, byte);
        }
        assert_eq!(*sent.0.lock().unwrap(), b"hi\n");
    }

    /// Input longer than the UART's FIFO reaches a guest that polls, complete and in order.
    #[test]
    fn long_input() {
        let (port, _line) = SerialPort::new(Box::new(Sent::default())).unwrap();
        let sent: Vec<u8> = (0..=255).cycle().take(1000).collect();
        assert!(port.input().send(&sent));
        let mut got = Vec::new();
        // Bit 0 of the line status register: data ready.
        while port.read(5) & 1 != 0 {
            got.push(port.read(0));
        }
        assert_eq!(got, sent);
    }

    /// A guest that reads on interrupts, and as Linux no more than 256 bytes for one, gets all of any
    /// length: the UART has an interrupt for what is left.
    #[test]
    fn interrupts() {
        for len in 1..600 {
            let (port, _line) = SerialPort::new(Box::new(Sent::default())).unwrap();
            // Interrupt enable: received data.
            port.write(1, 1);
            let sent: Vec<u8> = (0..=255).cycle().take(len).collect();
            assert!(port.input().send(&sent));
            let mut got = Vec::new();
            // Bit 0 of the interrupt identification: none.
            while port.read(2) & 1 == 0 {
                for _ in 0..256 {
                    if port.read(5) & 1 == 0 {
                        break;
                    }
                    got.push(port.read(0));
                }
            }
            assert_eq!(got, sent, "{len} bytes");
        }
    }

    /// A guest that never reads costs a bounded amount of memory.
    #[test]
    fn bounded_input() {
        let (port, _line) = SerialPort::new(Box::new(Sent::default())).unwrap();
        assert!(port.input().send(&vec![0; QUEUE_LIMIT]));
        assert!(!port.input().send(&vec![0; 4096]));
    }
}
