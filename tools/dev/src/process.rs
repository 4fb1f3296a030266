// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a command with a log, a time limit and visible progress.
//!
//! The command stays in our process group, so that an interrupt from the
//! terminal reaches it; at the time limit its whole family is killed, each
//! process by its number.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Between two looks at the command.
const POLL: Duration = Duration::from_millis(50);
/// Between two lines of progress.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status, or by a signal (`None`).
    Exit(Option<i32>),
    /// It ran past its limit and was killed.
    TimedOut(Duration),
}

impl End {
    /// Whether it ended by itself with status 0.
    pub fn success(self) -> bool {
        self == Self::Exit(Some(0))
    }

    /// What to say of it when it is not a success.
    pub fn describe(self) -> String {
        match self {
            Self::Exit(Some(code)) => format!("exit status {code}"),
            Self::Exit(None) => "killed by a signal".into(),
            Self::TimedOut(limit) => format!("no end within {} s, killed", limit.as_secs()),
        }
    }
}

/// Runs `command` with standard output and error in `log`.
///
/// Every few seconds `progress` gets the time so far and the log's last line.
///
/// # Errors
///
/// The log can't be written or the command not be started.
pub fn run(
    mut command: Command,
    log: &Path,
    limit: Duration,
    mut progress: impl FnMut(Duration, &str),
) -> anyhow::Result<End> {
    let file = File::create(log).with_context(|| format!("{}: cannot be made", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .with_context(|| format!("{program}: cannot be started"))?;
    let begin = Instant::now();
    let mut next = HEARTBEAT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exit(code(status)));
        }
        let elapsed = begin.elapsed();
        if elapsed > limit {
            kill_family(&mut child)?;
            return Ok(End::TimedOut(limit));
        }
        if elapsed > next {
            next = elapsed + HEARTBEAT;
            progress(elapsed, &last_line(log));
        }
        thread::sleep(POLL);
    }
}

fn code(status: ExitStatus) -> Option<i32> {
    status.code()
}

/// Kills the command and all that descends from it.
fn kill_family(child: &mut Child) -> anyhow::Result<()> {
    let mut family = vec![child.id()];
    // Children are found through /proc until no new one turns up.
    loop {
        let known = family.len();
        for (pid, parent) in processes() {
            if family.contains(&parent) && !family.contains(&pid) {
                family.push(pid);
            }
        }
        if family.len() == known {
            break;
        }
    }
    // The shell's own kill: small systems have no other.
    Command::new("sh")
        .args(["-c", "kill -KILL \"$@\"", "sh"])
        .args(family.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status()
        .context("sh: cannot be started")?;
    child.wait()?;
    Ok(())
}

/// All processes with their parents.
fn processes() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in brackets, may hold anything.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect()
}

/// The last line of a log that may be long and still growing.
fn last_line(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(90)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (End, String) {
        let log = std::env::temp_dir().join(format!(
            "vaccel-dev-{}-{}",
            std::process::id(),
            script.len()
        ));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let end = run(command, &log, limit, |_, _| ()).unwrap();
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        (end, text)
    }

    /// Output of both kinds lands in the log, in order, and the status is kept.
    #[test]
    fn output_and_status() {
        let (end, text) = shell(
            "echo a; echo b >&2; echo c; exit 3",
            Duration::from_secs(20),
        );
        assert_eq!(end, End::Exit(Some(3)));
        assert_eq!(text, "a\nb\nc\n");
    }

    /// At the limit grandchildren die too, else a stuck machine would live on.
    #[test]
    fn the_limit_kills_the_family() {
        let script = "sh -c 'echo $$; sleep 1234.5' & wait";
        let (end, text) = shell(script, Duration::from_millis(500));
        assert!(matches!(end, End::TimedOut(_)), "{end:?}");
        let pid = text.trim();
        // On a busy machine it takes a while to die, and it may stay a zombie
        // until its new parent looks.
        let gone = (0..100).any(|_| {
            thread::sleep(POLL);
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        });
        assert!(gone, "{pid} is still there");
    }
}
