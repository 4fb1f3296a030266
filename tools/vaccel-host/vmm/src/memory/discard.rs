// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guest RAM that the guest does not need is given back to the host's kernel.

use std::io;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::{Ram, PAGE};

/// Memory was not given back.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// It is not whole pages of one range of RAM.
    #[error("{len:#x} bytes at {gpa:#x}: not whole pages of RAM")]
    Range {
        /// Guest-physical start.
        gpa: u64,
        /// Bytes.
        len: u64,
    },
    /// The kernel refused.
    #[error("cannot give back {len:#x} bytes at {gpa:#x}")]
    Kernel {
        /// Guest-physical start.
        gpa: u64,
        /// Bytes.
        len: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Ram {
    /// Gives the memory behind `len` bytes at `gpa` back: they read as zeros, and cost memory again when they
    /// are touched.
    ///
    /// # Errors
    ///
    /// Fails if they are not whole pages of RAM, or the kernel refuses.
    pub fn discard(&self, gpa: u64, len: u64) -> Result<(), DiscardError> {
        let range = DiscardError::Range { gpa, len };
        let Ok(size) = usize::try_from(len) else {
            return Err(range);
        };
        if gpa % PAGE != 0 || len % PAGE != 0 || size == 0 {
            return Err(range);
        }
        // A slice never goes past the end of its range of RAM.
        let Ok(slice) = self.map.get_slice(GuestAddress(gpa), size) else {
            return Err(range);
        };
        let address = slice.ptr_guard_mut().as_ptr();
        // SAFETY: the slice is whole pages of a private anonymous mapping that this object owns. Rust code
        // reaches it only by volatile copies and atomics through raw pointers, for which any content is fine:
        // no reference into it exists.
        let given = unsafe { libc::madvise(address.cast(), size, libc::MADV_DONTNEED) };
        if given != 0 {
            let source = io::Error::last_os_error();
            return Err(DiscardError::Kernel { gpa, len, source });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use guest_memory::GuestMemory;

    use super::*;
    use crate::layout::MIN_RAM;

    /// What was discarded is zeros, what is beside it stays, and only whole pages of RAM can be.
    #[test]
    fn discarded_pages_are_zeros() {
        let ram = Ram::new(MIN_RAM).unwrap();
        ram.write(0x1000, &[7; 0x3000]).unwrap();
        ram.discard(0x2000, 0x1000).unwrap();
        let mut bytes = [0; 0x3000];
        ram.read(0x1000, &mut bytes).unwrap();
        assert_eq!(bytes[..0x1000], [7; 0x1000]);
        assert_eq!(bytes[0x1000..0x2000], [0; 0x1000]);
        assert_eq!(bytes[0x2000..], [7; 0x1000]);
        ram.write(0x2000, &[9]).unwrap();
        for (gpa, len) in [
            (0x2800, 0x1000),
            (0x2000, 0x800),
            (0x2000, 0),
            (MIN_RAM - 0x1000, 0x2000),
            (MIN_RAM, 0x1000),
            (u64::MAX & !0xFFF, 0x1000),
        ] {
            let refused = ram.discard(gpa, len);
            assert!(
                matches!(refused, Err(DiscardError::Range { .. })),
                "{gpa:#x}"
            );
        }
    }
}
