// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that do the work, to be killed or to die: this program started again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};

const PAUSE: Duration = Duration::from_millis(2);

/// A running process. One that is dropped is killed.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    lines: Receiver<String>,
}

impl Worker {
    /// Starts one with these arguments of the hidden command `worker`.
    ///
    /// # Errors
    ///
    /// Those of starting a process.
    pub fn start(node: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--node")
            .arg(node)
            .arg("worker")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Its next line.
    ///
    /// # Errors
    ///
    /// It has ended, or says nothing for so long.
    pub fn line(&mut self, limit: Duration) -> Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the process says nothing for {} s", limit.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the process ended: {}", self.child.wait()?)
            }
        }
    }

    /// Waits for one certain line.
    ///
    /// # Errors
    ///
    /// As [`Worker::line`], or it is another one.
    pub fn expect(&mut self, expected: &str, limit: Duration) -> Result<()> {
        let line = self.line(limit)?;
        ensure!(line == expected, "{line}");
        Ok(())
    }

    /// Has it go on.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn go(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("no standard input")?;
        stdin.write_all(b"\n")?;
        Ok(stdin.flush()?)
    }

    /// Kills it, as `kill -9` does; it has to be gone within `limit`.
    ///
    /// # Errors
    ///
    /// It is still there.
    pub fn kill(mut self, limit: Duration) -> Result<()> {
        self.child.kill()?;
        self.gone(limit).context("killed")?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// It has failed, or not ended in time. What it said last says why.
    pub fn finish(mut self, limit: Duration) -> Result<Vec<String>> {
        let status = self.gone(limit)?;
        let said: Vec<String> = self.lines.iter().collect();
        ensure!(
            status.success(),
            "{status}: {}",
            said.last().map_or("nothing said", String::as_str)
        );
        Ok(said)
    }

    fn gone(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < end,
                "the process is still there after {} s",
                limit.as_secs()
            );
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended cannot be killed; that is what is wanted.
        let _ = self.child.kill();
        let _ = self.gone(Duration::from_secs(10));
    }
}

/// In the process: says a line.
///
/// # Errors
///
/// Nobody listens any more.
pub fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// In the process: waits to be told to go on.
///
/// # Errors
///
/// There is nobody who could tell.
pub fn wait_for_go() -> Result<()> {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line)?;
    ensure!(read > 0, "nobody is there to say go");
    Ok(())
}
