// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that writes the trace.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes of lines that may wait to be written.
const ROOM: usize = 8 << 20;
/// How long the end of the trace waits for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes lines and has them written.
pub(super) struct Writer {
    /// None once the end has come.
    lines: Option<Sender<String>>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    /// Lines that were lost since the last one that was not.
    lost: u64,
    room: usize,
    /// Says that all was written.
    done: Receiver<()>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Fails if there can be no thread.
    pub fn start(sink: Box<dyn Write + Send>) -> io::Result<Self> {
        Self::with_room(sink, ROOM)
    }

    fn with_room(sink: Box<dyn Write + Send>, room: usize) -> io::Result<Self> {
        let (lines, taken) = channel::<String>();
        let (finish, done) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        thread::Builder::new().name("trace".into()).spawn(move || {
            if let Err(error) = write_all(sink, &taken, &left) {
                tracing::error!(%error, "the trace ends here");
            }
            // Nobody waits any more if the patience is over.
            let _ = finish.send(());
        })?;
        Ok(Self {
            lines: Some(lines),
            waiting,
            lost: 0,
            room,
            done,
        })
    }

    /// Takes a line, or counts it as lost if there is no room.
    pub fn write(&mut self, line: String) {
        if self
            .waiting
            .load(Ordering::Relaxed)
            .saturating_add(line.len())
            > self.room
        {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.say_what_was_lost();
        self.send(line);
    }

    fn say_what_was_lost(&mut self) {
        if self.lost != 0 {
            let lost = std::mem::take(&mut self.lost);
            self.send(format!("{{\"lost\":{lost}}}"));
        }
    }

    fn send(&self, line: String) {
        self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        if let Some(lines) = &self.lines {
            // The thread has said why it ended.
            let _ = lines.send(line);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.say_what_was_lost();
        self.lines = None;
        if self.done.recv_timeout(PATIENCE).is_err() {
            tracing::error!("the end of the trace is not written: its file is too slow");
        }
    }
}

fn write_all(
    sink: Box<dyn Write + Send>,
    lines: &Receiver<String>,
    waiting: &AtomicUsize,
) -> io::Result<()> {
    let mut sink = BufWriter::new(sink);
    while let Ok(line) = lines.recv() {
        sink.write_all(line.as_bytes())?;
        sink.write_all(b"\n")?;
        // What is written is out of the way, and on the disk if nothing more is to come just now.
        if waiting.fetch_sub(line.len(), Ordering::Relaxed) == line.len() {
            sink.flush()?;
        }
    }
    sink.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::sync::Mutex;

    use super::*;

    /// A file that takes nothing until it is told to.
    struct Slow {
        go: Receiver<()>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// With a file that takes nothing the host goes on, and the trace says how much is missing, and
    /// where.
    #[test]
    fn slow_file() {
        let (told, go) = sync_channel(0);
        let text = Arc::new(Mutex::new(Vec::new()));
        let slow = Slow {
            go,
            text: Arc::clone(&text),
        };
        let mut writer = Writer::with_room(Box::new(slow), 30).unwrap();
        for number in 0..100 {
            writer.write(format!("{number:010}"));
        }
        drop(told);
        while writer.waiting.load(Ordering::Relaxed) != 0 {
            thread::yield_now();
        }
        writer.write("last".into());
        drop(writer);
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let kept = lines.len() - 2;
        assert!((2..=4).contains(&kept), "{lines:?}");
        assert_eq!(lines[0], "0000000000");
        let lost = format!("{{\"lost\":{}}}", 100 - kept);
        assert_eq!(lines[kept..], [lost.as_str(), "last"]);
    }
}
