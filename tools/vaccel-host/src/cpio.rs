// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes initramfs archives in the "newc" cpio format.
//!
//! Enough for the outer machine: directories, files and character devices, owned by root. Format:
//! Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const TRAILER: &str = "TRAILER!!!";

/// An archive being written.
pub struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    /// Adds a directory; its parents must have been added.
    ///
    /// # Errors
    ///
    /// Fails if the output does.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// Adds an executable file.
    ///
    /// # Errors
    ///
    /// Fails if the output does, or if the file is larger than the format allows.
    pub fn file(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        self.entry(path, PROGRAM, (0, 0), data)
    }

    /// Adds a character device.
    ///
    /// # Errors
    ///
    /// Fails if the output does.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[])
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// Fails if the output does.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        (major, minor): (u32, u32),
        data: &[u8],
    ) -> io::Result<()> {
        let size = u32::try_from(data.len())
            .map_err(|_| io::Error::other(format!("{path} is larger than 4 GiB")))?;
        let name_size = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        let inode = if path == TRAILER {
            0
        } else {
            self.entries += 1;
            self.entries
        };
        let fields = [
            inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + path.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    /// Pads what is `len` bytes long to a multiple of four.
    fn pad(&mut self, len: usize) -> io::Result<()> {
        let zeros = [0; 3];
        let missing = len.next_multiple_of(4) - len;
        self.out.write_all(zeros.get(..missing).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header fields are where the kernel looks, names and data are padded to four bytes, and the
    /// trailer ends the archive.
    #[test]
    fn layout() {
        let mut archive = Archive::new(Vec::new());
        archive.file("init", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let field = |at: usize, index: usize| {
            let start = at + 6 + 8 * index;
            u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
        };
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(field(0, 1), PROGRAM);
        assert_eq!(field(0, 6), 5);
        assert_eq!(field(0, 11), 5);
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(&bytes[124 + 110..124 + 120], TRAILER.as_bytes());
        assert_eq!(bytes.len() % 4, 0);
    }

    /// A device keeps its numbers, and inode numbers do not repeat.
    #[test]
    fn devices_and_inodes() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev").unwrap();
        archive.device("dev/console", 5, 1).unwrap();
        let text = String::from_utf8_lossy(&archive.finish().unwrap()).into_owned();
        assert!(text.starts_with("07070100000001000041ED"));
        let device = text.find("0707010000000200002180").unwrap();
        assert_eq!(&text[device + 6 + 72..device + 6 + 88], "0000000500000001");
    }
}
