// SPDX-License-Identifier: MIT OR Apache-2.0
//! The little ACPI machine language the DSDT needs: names, packages, devices, resources.
//!
//! Each function returns the encoding of one term; terms nest by concatenation. Encodings follow
//! ACPI 6.5, chapters 6.4 (resources) and 20.2 (grammar).

const NAME_OP: u8 = 0x08;
const STRING_PREFIX: u8 = 0x0D;
const DWORD_PREFIX: u8 = 0x0C;
const BUFFER_OP: u8 = 0x11;
const PACKAGE_OP: u8 = 0x12;
const SCOPE_OP: u8 = 0x10;
const DEVICE_OP: [u8; 2] = [0x5B, 0x82];
const ROOT: u8 = b'\\';

/// Minimum and maximum of an address range are fixed.
const RANGE_FIXED: u8 = 1 << 2 | 1 << 3;
const TYPE_MEMORY: u8 = 0;
const TYPE_IO: u8 = 1;
const TYPE_BUS: u8 = 2;
const MEMORY_READ_WRITE: u8 = 1;
const IO_ENTIRE_RANGE: u8 = 3;

/// A four-character name segment.
pub type Segment = [u8; 4];

/// An integer constant.
pub fn integer(value: u32) -> Vec<u8> {
    let mut term = vec![DWORD_PREFIX];
    term.extend(value.to_le_bytes());
    term
}

/// A string constant.
pub fn string(text: &str) -> Vec<u8> {
    let mut term = vec![STRING_PREFIX];
    term.extend(text.bytes());
    term.push(0);
    term
}

/// The compressed form of a seven-character EISA identifier, such as `PNP0A03`. Characters that
/// do not fit an identifier count as zero.
pub fn eisa_id(id: &str) -> Vec<u8> {
    let vendor = id.chars().take(3).fold(0_u32, |word, letter| {
        let letter = u32::from(letter).saturating_sub(u32::from('@')) & 0x1F;
        word << 5 | letter
    });
    let product = id.chars().skip(3).take(4).fold(0_u32, |word, digit| {
        word << 4 | digit.to_digit(16).unwrap_or(0)
    });
    integer((vendor << 16 | product).swap_bytes())
}

/// `Name (name, value)`.
pub fn name(name: &Segment, value: &[u8]) -> Vec<u8> {
    [&[NAME_OP], name.as_slice(), value].concat()
}

/// `Package () { elements }`.
pub fn package(elements: &[Vec<u8>]) -> Vec<u8> {
    let count = elements.len() as u8;
    sized(&[PACKAGE_OP], &[vec![count], elements.concat()].concat())
}

/// `Scope (\name) { terms }`.
pub fn scope(name: &Segment, terms: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[ROOT], name.as_slice(), &terms.concat()].concat();
    sized(&[SCOPE_OP], &body)
}

/// `Device (name) { terms }`.
pub fn device(name: &Segment, terms: &[Vec<u8>]) -> Vec<u8> {
    sized(&DEVICE_OP, &[name.as_slice(), &terms.concat()].concat())
}

/// A resource template: the descriptors and an end tag, as a buffer.
pub fn resources(descriptors: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = descriptors.concat();
    // A checksum of zero is treated as correct.
    bytes.extend([0x79, 0]);
    let size = integer(bytes.len() as u32);
    sized(&[BUFFER_OP], &[size, bytes].concat())
}

/// Fixed I/O ports, decoded in 16 bits.
pub fn io_ports(first: u16, count: u8) -> Vec<u8> {
    let [low, high] = first.to_le_bytes();
    vec![0x47, 1, low, high, low, high, 1, count]
}

/// An edge-triggered, active-high interrupt that is not shared.
pub fn interrupt(number: u32) -> Vec<u8> {
    const CONSUMER_EDGE: u8 = 1 | 1 << 1;
    let mut descriptor = vec![0x89, 6, 0, CONSUMER_EDGE, 1];
    descriptor.extend(number.to_le_bytes());
    descriptor
}

/// Bus numbers a bridge passes on.
pub fn bus_numbers(first: u16, last: u16) -> Vec<u8> {
    word_range(TYPE_BUS, 0, first, last)
}

/// I/O ports a bridge passes on.
pub fn io_window(first: u16, last: u16) -> Vec<u8> {
    word_range(TYPE_IO, IO_ENTIRE_RANGE, first, last)
}

/// Memory a bridge passes on, uncached.
pub fn memory_window(first: u64, last: u64) -> Vec<u8> {
    let mut descriptor = vec![0x8A, 43, 0, TYPE_MEMORY, RANGE_FIXED, MEMORY_READ_WRITE];
    let length = last.saturating_sub(first).saturating_add(1);
    for value in [0, first, last, 0, length] {
        descriptor.extend(value.to_le_bytes());
    }
    descriptor
}

fn word_range(kind: u8, flags: u8, first: u16, last: u16) -> Vec<u8> {
    let mut descriptor = vec![0x88, 13, 0, kind, RANGE_FIXED, flags];
    let length = last.saturating_sub(first).saturating_add(1);
    for value in [0, first, last, 0, length] {
        descriptor.extend(value.to_le_bytes());
    }
    descriptor
}

/// `op`, the package length of `body` and of itself, and `body`.
fn sized(op: &[u8], body: &[u8]) -> Vec<u8> {
    // One byte holds up to 63; more bytes hold four bits in the first and eight in each other.
    let length = |bytes: usize| body.len() + bytes;
    let encoded = if length(1) < 1 << 6 {
        vec![length(1) as u8]
    } else if length(2) < 1 << 12 {
        vec![1 << 6 | (length(2) & 0xF) as u8, (length(2) >> 4) as u8]
    } else {
        let length = length(3);
        vec![
            2 << 6 | (length & 0xF) as u8,
            (length >> 4) as u8,
            (length >> 12) as u8,
        ]
    };
    [op, &encoded, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Identifiers have the well-known compressed form.
    #[test]
    fn eisa_ids() {
        assert_eq!(eisa_id("PNP0A03"), [0x0C, 0x41, 0xD0, 0x0A, 0x03]);
        assert_eq!(eisa_id("PNP0501"), [0x0C, 0x41, 0xD0, 0x05, 0x01]);
    }

    /// Package lengths count themselves, in one, two and three bytes.
    #[test]
    fn package_lengths() {
        assert_eq!(sized(&[1], &[0; 62])[..2], [1, 63]);
        assert_eq!(sized(&[1], &[0; 63])[..3], [1, 0x40 | 1, 4]);
        assert_eq!(sized(&[1], &[0; 4094])[..4], [1, 0x81, 0, 1]);
    }

    /// A resource template is a buffer whose size counts the end tag.
    #[test]
    fn resource_template() {
        let template = resources(&[interrupt(4)]);
        assert_eq!(template[..2], [BUFFER_OP, 6 + 11]);
        assert_eq!(template[2..7], [DWORD_PREFIX, 11, 0, 0, 0]);
        assert_eq!(template[template.len() - 2..], [0x79, 0]);
    }
}
