// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel log since boot, read as it grows.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use crate::splats;

/// The log, to read and to write.
const FILE: &str = "/dev/kmsg";
/// Longest record that /dev/kmsg gives out is shorter.
const RECORD_BYTES: usize = 16 * 1024;

/// Reader of `/dev/kmsg`, and the taints already reported.
#[derive(Debug)]
pub struct KernelLog {
    file: Option<File>,
    allowed: Vec<String>,
    taints: u64,
}

impl KernelLog {
    /// Starts at the first record of the boot. Without the file nothing can be vouched for, and
    /// every scan says so.
    pub fn open() -> Self {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(FILE);
        Self {
            file: file.ok(),
            allowed: Vec::new(),
            taints: 0,
        }
    }

    /// Lines with this text are fine from here on.
    pub fn allow(&mut self, text: String) {
        self.allowed.push(text);
    }

    /// Signs of faults since the last scan.
    pub fn scan(&mut self) -> Vec<String> {
        let Some(file) = &mut self.file else {
            return vec!["the kernel log cannot be read".into()];
        };
        // A line without its end can be read only when the next one begins. This one, of debug
        // level, is for that; a log that takes none can still be read.
        let _ = std::fs::write(FILE, "<7>guest-init: end of step\n");
        let mut found = Vec::new();
        let mut record = vec![0; RECORD_BYTES];
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    let message = message(&text);
                    if splats::is_splat(message, &self.allowed) {
                        found.push(message.to_owned());
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => break,
                    // Records were overwritten before they were read; reading goes on behind.
                    ErrorKind::BrokenPipe => {
                        found.push("kernel log records were lost before they could be read".into());
                    }
                    _ => {
                        found.push(format!("the kernel log cannot be read: {error}"));
                        break;
                    }
                },
            }
        }
        let tainted = std::fs::read_to_string("/proc/sys/kernel/tainted").unwrap_or_default();
        let taints = splats::report_taints(&tainted);
        // A taint speaks only where no line did: an allowed report taints, too.
        if taints & !self.taints != 0 && found.is_empty() && self.allowed.is_empty() {
            found.push(format!(
                "the kernel is tainted by a fault ({})",
                tainted.trim()
            ));
        }
        self.taints |= taints;
        found
    }
}

/// The message of a record, without its header and its dictionary.
fn message(record: &str) -> &str {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that header and dictionary of a record are not taken for the message.
    #[test]
    fn records() {
        let record = "4,1024,99887766,-;BUG: bad thing; really\n SUBSYSTEM=accel\n";
        assert_eq!(message(record), "BUG: bad thing; really");
        assert_eq!(message("no header"), "no header");
    }

    /// Proves that a log that cannot be read is a finding, not silence.
    #[test]
    fn a_missing_log_is_a_finding() {
        let mut log = KernelLog {
            file: None,
            allowed: Vec::new(),
            taints: 0,
        };
        assert_eq!(log.scan().len(), 1);
    }
}
