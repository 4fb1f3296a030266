// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all tests of this program share: the device, the host, the seed, the time, the report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::Host;
use crate::numbers::Numbers;
use crate::report::{Counts, Report};
use crate::rig::check_device_works;

/// How long a node that went may take to be there again.
const BACK: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A running test.
#[derive(Debug)]
pub struct Trial {
    /// Device node.
    pub node: PathBuf,
    /// The host.
    pub host: Host,
    /// What follows from the seed.
    pub numbers: Numbers,
    /// What was done so far.
    pub report: Report,
    end: Option<Instant>,
}

impl Trial {
    /// Gets ready.
    ///
    /// # Errors
    ///
    /// There is no control channel.
    pub fn new(
        command: &'static str,
        node: &Path,
        seed: u64,
        time: Option<Duration>,
    ) -> Result<Self> {
        eprintln!("# {command}, seed {seed}");
        Ok(Self {
            node: node.to_owned(),
            host: Host::open()?,
            numbers: Numbers::new(seed),
            report: Report::new(command, seed),
            end: time.map(|time| Instant::now() + time),
        })
    }

    /// Whether the time is up. Without a limit it never is.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Notes the outcome of a part, looks for objects that it left on the host, and whether the device
    /// still works.
    pub fn judge(&mut self, what: &str, outcome: Result<Counts>) {
        match outcome {
            Ok(counts) => self.report.add(&counts),
            Err(error) => self.report.fail(format!("{what}: {error:#}")),
        }
        if let Some(leak) = self.host.leak() {
            self.report.add(&Counts {
                leaks: 1,
                ..Default::default()
            });
            self.report.fail(format!("{what}: {leak}"));
        }
        if let Err(error) = check_device_works(&self.node) {
            self.report.fail(format!("{what}: {error:#}"));
        }
    }

    /// Waits until the node is there.
    ///
    /// # Errors
    ///
    /// It does not come.
    pub fn wait_for_node(&self) -> Result<()> {
        let end = Instant::now() + BACK;
        while !self.node.exists() {
            anyhow::ensure!(
                Instant::now() < end,
                "{} is not back after {} s",
                self.node.display(),
                BACK.as_secs()
            );
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}
