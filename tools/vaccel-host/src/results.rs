// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the guest's results go, and how they leave the outer machine.
//!
//! A result is one JSON document a line. On this machine the lines are appended to the file asked
//! for. In the outer machine they go to its second serial port, followed by one line with the exit
//! status; [`split`] takes the two apart again.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// Takes result lines.
pub type Sink = Box<dyn Write + Send>;

/// The line that ends the results of an outer machine.
#[derive(Debug, Serialize, Deserialize)]
struct Last {
    /// Exit status of the inner run.
    #[serde(rename = "vaccel-exit")]
    exit: u8,
}

/// Writes one line, in one piece.
///
/// # Errors
///
/// Fails if the sink does.
pub fn write_line(sink: &mut Sink, line: &str) -> io::Result<()> {
    sink.write_all(format!("{line}\n").as_bytes())?;
    sink.flush()
}

/// Ends the results of an outer machine with the exit status of the run.
///
/// # Errors
///
/// Fails if the sink does.
pub fn write_exit(sink: &mut Sink, exit: u8) -> io::Result<()> {
    write_line(sink, &serde_json::to_string(&Last { exit })?)
}

/// Splits what an outer machine wrote into result lines and the exit status. There is no status
/// if the machine did not get to its end.
pub fn split(text: &str) -> (Vec<&str>, Option<u8>) {
    let mut lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let exit = lines
        .last()
        .and_then(|line| serde_json::from_str::<Last>(line).ok())
        .map(|last| last.exit);
    if exit.is_some() {
        lines.pop();
    }
    (lines, exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an outer machine writes comes apart into its results and its status.
    #[test]
    fn round_trip() {
        let path = std::env::temp_dir().join(format!("vaccel-results-{}", std::process::id()));
        let mut sink: Sink = Box::new(std::fs::File::create(&path).unwrap());
        write_line(&mut sink, r#"{"name":"a"}"#).unwrap();
        write_exit(&mut sink, 3).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(split(&text), (vec![r#"{"name":"a"}"#], Some(3)));
    }

    /// Without the last line, whole or torn, there is no status, and results are kept.
    #[test]
    fn no_verdict() {
        assert_eq!(split(""), (vec![], None));
        assert_eq!(split("{\"a\":1}\r\n"), (vec!["{\"a\":1}"], None));
        let (_, exit) = split("{\"a\":1}\n{\"vaccel-exit\":0");
        assert_eq!(exit, None);
    }
}
