// SPDX-License-Identifier: MIT OR Apache-2.0
//! Failures of allocations and of copies from and to programs, by the kernel's fault injection
//! (Documentation/fault-injection in the kernel): the n-th one that the calling thread gets to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The thread's own countdown.
const NTH: &str = "/proc/thread-self/fail-nth";
const DEBUG: &str = "/sys/kernel/debug";

/// What has to be set so that every allocation counts, and that a failure is not written to the log.
const SETTINGS: &[(&str, &str)] = &[
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
    ("fail_usercopy/verbose", "0"),
];

/// The countdown of the thread that opened it.
#[derive(Debug)]
pub struct Injection {
    nth: File,
}

impl Injection {
    /// Sets the kernel's fault injection up, for the calling thread.
    ///
    /// # Errors
    ///
    /// The kernel has none.
    pub fn open() -> Result<Self> {
        for (name, value) in SETTINGS {
            let path = Path::new(DEBUG).join(name);
            std::fs::write(&path, value)
                .with_context(|| format!("{}: no fault injection", path.display()))?;
        }
        let nth = File::options().read(true).write(true).open(NTH);
        Ok(Self {
            nth: nth.with_context(|| format!("{NTH}: no fault injection"))?,
        })
    }

    /// Has the `nth` allocation or copy from here on fail, counted from 1.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn arm(&self, nth: u32) -> io::Result<()> {
        self.nth.write_all_at(nth.to_string().as_bytes(), 0)
    }

    /// Ends the countdown; true if it had ended by itself: something was made to fail.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn disarm(&self) -> io::Result<bool> {
        let mut text = [0; 16];
        let hit = match self.nth.read_at(&mut text, 0) {
            Ok(_) => text.first() == Some(&b'0'),
            // The copy of this very answer was the one that had to fail: nothing before was.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => false,
            Err(error) => return Err(error),
        };
        // The copy of this, too, may be the one; that ends the countdown as well.
        match self.nth.write_all_at(b"0", 0) {
            Err(error) if error.raw_os_error() != Some(libc::EFAULT) => Err(error),
            _ => Ok(hit),
        }
    }
}
