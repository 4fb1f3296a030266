// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things that have to come back.

use std::sync::mpsc;
use std::time::Duration;

/// How long anything may take that asks the host: several of the driver's own time limits, which a
/// test machine sets to a second or two (`reply_ms`), and the waits of an operation.
pub const LIMIT: Duration = Duration::from_secs(40);

/// What was not back in time; it may come later.
#[derive(Debug)]
pub struct Late<T>(mpsc::Receiver<T>);

impl<T> Late<T> {
    /// Whether it is back by now, or within `limit`.
    pub fn comes_within(&self, limit: Duration) -> bool {
        self.0.recv_timeout(limit).is_ok()
    }
}

/// Runs something in a thread of its own, which is left to itself if it takes longer than `limit`.
pub fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late<T>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(work())));
    receiver.recv_timeout(limit).map_err(|_| Late(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that what takes too long is found out, and found when it is back.
    #[test]
    fn late() {
        assert!(matches!(run(LIMIT, || 7), Ok(7)));
        let (open, gate) = mpsc::channel::<()>();
        let late = run(Duration::from_millis(1), move || gate.recv().is_ok()).unwrap_err();
        assert!(!late.comes_within(Duration::from_millis(1)));
        open.send(()).unwrap();
        assert!(late.comes_within(LIMIT));
    }
}
