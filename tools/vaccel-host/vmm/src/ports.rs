// SPDX-License-Identifier: MIT OR Apache-2.0
//! The I/O ports of the machine: serial ports, PCI configuration, ACPI power and reset.

use std::sync::Arc;

use crate::layout;
use crate::pci::{self, PciBus};
use crate::serial::SerialPort;

/// Sleep enable bit of the PM1 control register, and where the sleep type is.
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u16 = 10;
/// SCI enable bit of PM1 control: the machine is always in ACPI mode.
const SCI_ENABLE: u16 = 1;
/// Keyboard controller command that pulses the reset line.
const PULSE_RESET: u8 = 0xFE;

/// What a port write asks of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerRequest {
    /// Power off (ACPI S5).
    Off,
    /// Reset.
    Reset,
}

/// Everything behind the machine's I/O ports. Clones are the same devices.
#[derive(Clone)]
pub struct Ports {
    /// First serial port.
    pub com1: SerialPort,
    /// Second serial port.
    pub com2: SerialPort,
    /// PCI bus 0.
    pub pci: Arc<PciBus>,
}

impl Ports {
    /// Answers an `in`. Ports without a device read as ones.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        if let (Some((serial, offset)), [byte]) = (self.serial(port), &mut *data) {
            *byte = serial.read(offset);
        } else if is_pci(port) {
            self.pci.port_read(port, data);
        } else if let Some(value) = power_register(port) {
            data.fill(0);
            for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
                *to = from;
            }
        } else {
            data.fill(0xFF);
        }
    }

    /// Performs an `out` and returns what it asks of the machine, if anything.
    pub fn write(&self, port: u16, data: &[u8]) -> Option<PowerRequest> {
        if let (Some((serial, offset)), [byte]) = (self.serial(port), data) {
            serial.write(offset, *byte);
            return None;
        }
        match (port, data) {
            (layout::PM1_CONTROL, [low, high, ..]) => {
                let value = u16::from_le_bytes([*low, *high]);
                let off = u16::from(layout::SLEEP_TYPE_OFF) << SLEEP_TYPE_SHIFT;
                let sleep = value & SLEEP_ENABLE != 0 && value & 7 << SLEEP_TYPE_SHIFT == off;
                sleep.then_some(PowerRequest::Off)
            }
            (layout::KEYBOARD_COMMAND, [PULSE_RESET]) => Some(PowerRequest::Reset),
            // The reset register lies inside the PCI address register, which takes only words.
            (layout::RESET, [value]) if value & 4 != 0 => Some(PowerRequest::Reset),
            _ if is_pci(port) => {
                self.pci.port_write(port, data);
                None
            }
            _ => None,
        }
    }

    fn serial(&self, port: u16) -> Option<(&SerialPort, u8)> {
        [(&self.com1, layout::COM1.0), (&self.com2, layout::COM2.0)]
            .into_iter()
            .find_map(|(serial, base)| {
                let offset = port.checked_sub(base)?;
                (offset < 8).then_some((serial, offset as u8))
            })
    }
}

fn is_pci(port: u16) -> bool {
    port.checked_sub(pci::ADDRESS_PORT)
        .is_some_and(|offset| offset < pci::PORTS)
}

/// Value of an ACPI power register: no event is ever pending or enabled.
fn power_register(port: u16) -> Option<u16> {
    match port {
        layout::PM1_CONTROL => Some(SCI_ENABLE),
        _ => (layout::PM1_EVENT..layout::PM1_CONTROL)
            .contains(&port)
            .then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::SerialOutput;

    struct Discard;

    impl SerialOutput for Discard {
        fn byte(&mut self, _byte: u8) {}
    }

    fn ports() -> Ports {
        let serial = || SerialPort::new(Box::new(Discard)).unwrap().0;
        Ports {
            com1: serial(),
            com2: serial(),
            pci: Arc::new(PciBus::new(vec![])),
        }
    }

    /// Only S5 with sleep enable powers off, and each way to reset resets.
    #[test]
    fn power() {
        let ports = ports();
        let off = SLEEP_ENABLE | 5 << SLEEP_TYPE_SHIFT;
        assert_eq!(
            ports.write(layout::PM1_CONTROL, &off.to_le_bytes()),
            Some(PowerRequest::Off)
        );
        assert_eq!(ports.write(layout::PM1_CONTROL, &[0, 0x14]), None);
        assert_eq!(ports.write(layout::PM1_CONTROL, &[0, 0x20]), None);
        assert_eq!(ports.write(0x64, &[0xFE]), Some(PowerRequest::Reset));
        assert_eq!(
            ports.write(layout::RESET, &[layout::RESET_VALUE]),
            Some(PowerRequest::Reset)
        );
        assert_eq!(ports.write(layout::RESET, &[2]), None);
    }

    /// Each port range reaches its device; the rest reads as ones.
    #[test]
    fn routing() {
        let ports = ports();
        let mut byte = [0];
        // The scratch register of COM2 keeps what is written.
        ports.write(0x2FF, &[0x5A]);
        ports.read(0x2FF, &mut byte);
        assert_eq!(byte, [0x5A]);
        ports.read(0x3FF, &mut byte);
        assert_eq!(byte, [0]);
        let mut word = [0; 4];
        ports.write(0xCF8, &(1_u32 << 31).to_le_bytes());
        ports.read(0xCFC, &mut word);
        assert_eq!(u32::from_le_bytes(word) & 0xFFFF, 0x1414);
        ports.read(0x604, &mut word);
        assert_eq!(word, [1, 0, 0, 0]);
        ports.read(0x71, &mut word);
        assert_eq!(word, [0xFF; 4]);
    }
}
