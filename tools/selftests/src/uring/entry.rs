// SPDX-License-Identifier: MIT OR Apache-2.0
//! An entry of a submission ring, good or bad.

use std::os::fd::{AsRawFd, BorrowedFd};

use libvaccel::ioctl::{Cancel, Operation};
use libvaccel::sys;
use zerocopy::IntoBytes;

/// IORING_OP_NOP.
const NOP: u8 = 0;
/// IORING_OP_URING_CMD.
const COMMAND: u8 = 46;
/// IORING_OP_URING_CMD128.
const COMMAND_128: u8 = 64;

/// IOSQE_FIXED_FILE.
const FIXED_FILE: u8 = 1 << 0;
/// IOSQE_IO_LINK.
pub const LINK: u8 = 1 << 2;
/// IOSQE_IO_DRAIN.
pub const DRAIN: u8 = 1 << 1;
/// IOSQE_IO_HARDLINK.
pub const HARDLINK: u8 = 1 << 3;
/// IOSQE_BUFFER_SELECT.
pub const BUFFER_SELECT: u8 = 1 << 5;
/// IOSQE_ASYNC.
pub const ASYNC: u8 = 1 << 4;

/// First byte of the command area.
pub const AREA: usize = 48;

/// The 128 bytes of an entry; rings of small entries take the first 64.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    bytes: [u8; 128],
}

impl Entry {
    /// What does nothing.
    pub fn nop(user_data: u64) -> Self {
        Self { bytes: [0; 128] }
            .with(0, &[NOP])
            .with(32, &user_data.to_ne_bytes())
    }

    /// Command `number` with these bytes.
    pub fn raw(file: BorrowedFd<'_>, number: u32, area: &[u8], user_data: u64) -> Self {
        Self::nop(user_data)
            .with(0, &[COMMAND])
            .with(4, &file.as_raw_fd().to_ne_bytes())
            .with(8, &number.to_ne_bytes())
            .with(AREA, area)
    }

    /// An operation.
    pub fn new<O: Operation>(file: BorrowedFd<'_>, arg: &O::Arg, user_data: u64) -> Self {
        Self::raw(file, O::NUMBER, arg.as_bytes(), user_data)
    }

    /// CANCEL of the commands with `target` as their user_data.
    pub fn cancel(file: BorrowedFd<'_>, target: u64, user_data: u64) -> Self {
        let arg = sys::Cancel {
            user_value: target,
            reserved: 0,
        };
        Self::new::<Cancel>(file, &arg, user_data)
    }

    /// The same as a large entry of a ring of both sizes.
    #[must_use]
    pub fn large(self) -> Self {
        self.with(0, &[COMMAND_128])
    }

    /// Whether it takes two places in a ring of both sizes.
    pub fn is_large(&self) -> bool {
        self.bytes.first() == Some(&COMMAND_128)
    }

    /// With `IOSQE_` flags.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.with(1, &[flags])
    }

    /// For the file that the ring knows as number 0.
    #[must_use]
    pub fn fixed(self) -> Self {
        self.with(1, &[FIXED_FILE]).with(4, &[0; 4])
    }

    /// With `IORING_URING_CMD_` flags.
    #[must_use]
    pub fn command_flags(self, flags: u32) -> Self {
        self.with(28, &flags.to_ne_bytes())
    }

    /// With other bytes at `offset`; those behind the end are left out.
    #[must_use]
    pub fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        let room = self.bytes.iter_mut().skip(offset);
        for (place, byte) in room.zip(bytes) {
            *place = *byte;
        }
        self
    }

    /// The words of the entry and their offsets.
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.bytes.chunks_exact(8).enumerate().map(|(index, word)| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            (index * 8, u64::from_ne_bytes(bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libvaccel::ioctl::FenceWait;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Proves that each part of an entry is where the kernel looks for it.
    #[test]
    fn layout() {
        let null = File::open("/dev/null").unwrap();
        let arg = sys::FenceWait {
            fence: 3,
            value: 9,
            ..Default::default()
        };
        let entry = Entry::new::<FenceWait>(null.as_fd(), &arg, 7)
            .flags(LINK)
            .command_flags(5);
        let words: Vec<u64> = entry.words().map(|(_, word)| word).collect();
        let fd = u64::from(null.as_raw_fd().unsigned_abs());
        assert_eq!(words[0], 46 | 4 << 8 | fd << 32);
        assert_eq!((words[1], words[3], words[4]), (0x14, 5 << 32, 7));
        assert_eq!((words[6], words[7]), (3, 9));
        assert!(entry.large().is_large() && !entry.is_large());
    }
}
