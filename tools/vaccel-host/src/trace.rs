// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace: every message both ways, one JSON object a line, in the order the host took and gave
//! them.
//!
//! What was sent is what is written: bytes that a rule of misbehaviour spoilt are in it spoilt. A
//! thread of its own writes ([`writer`]), so that a slow file never holds the host up; lines that
//! found no room are counted, and a line says how many there were.

mod decode;
mod fields;
mod writer;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use gpupv::Version;
use gpupv_host::{Channel, VgpuId};
use serde::Serialize;
use serde_json::Value;

use writer::Writer;

use crate::pci::Packet;

/// Commands whose answers are to be understood, at most; more than any guest has on its way.
const MAX_ASKED: usize = 8192;

/// Writes the trace.
pub struct Trace {
    writer: Writer,
    /// Commands that have no answer yet.
    asked: BTreeMap<(Channel, u64), Asked>,
}

/// A command that has no answer yet.
struct Asked {
    version: Version,
    payload: Vec<u8>,
}

/// One line.
#[derive(Debug, Default, Serialize)]
struct Line {
    /// Nanoseconds since the start of the host's clock.
    ns: u64,
    /// Who speaks: `guest` or `host`.
    from: &'static str,
    /// `command`, `answer`, `event` or `vmbus`.
    kind: &'static str,
    /// `global`, `vgpu`, `pci`, `balloon` or `control`.
    channel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vgpu: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<u64>,
    /// Name in the protocol, or number if there is none.
    #[serde(skip_serializing_if = "Value::is_null")]
    command: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    luid: Option<String>,
    /// Whether there will be an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Value>,
    /// The payload in hexadecimal.
    bytes: String,
}

impl Line {
    fn new(ns: u64, from: &'static str, kind: &'static str, payload: &[u8]) -> Self {
        Self {
            ns,
            from,
            kind,
            length: payload.len(),
            bytes: hex(payload),
            channel: "control",
            ..Self::default()
        }
    }

    fn on(self, channel: Channel) -> Self {
        let (name, vgpu) = match channel {
            Channel::Global => ("global", None),
            Channel::Vgpu(id) => ("vgpu", Some(id.index())),
        };
        Self {
            channel: name,
            vgpu,
            ..self
        }
    }
}

impl Line {
    /// A line about the PCI function of a virtual GPU.
    fn pci(self, vgpu: VgpuId) -> Self {
        Self {
            channel: "pci",
            vgpu: Some(vgpu.index()),
            ..self
        }
    }

    /// With the number and name of the message.
    fn pci_named(mut self, payload: &[u8]) -> Self {
        self.number = vpci::number(payload);
        if let Some(name) = self.number.and_then(vpci::name) {
            self.command = name.into();
        }
        self
    }
}

impl Trace {
    /// A trace that goes there.
    ///
    /// # Errors
    ///
    /// Fails if there can be no thread.
    pub fn new(sink: Box<dyn Write + Send>) -> std::io::Result<Self> {
        Ok(Self {
            writer: Writer::start(sink)?,
            asked: BTreeMap::new(),
        })
    }

    /// A message of the guest, taken from a ring.
    pub fn command(&mut self, ns: u64, version: Version, channel: Channel, asks: Asks<'_>) {
        let Asks {
            transaction,
            answered,
            payload,
        } = asks;
        let mut line = Line::new(ns, "guest", "command", payload).on(channel);
        line.transaction = Some(transaction);
        line.answered = Some(answered);
        if let Some(decoded) = decode::command(version, payload) {
            line.command = match decoded.id {
                Some(id) => id.name().into(),
                None => decoded.number.into(),
            };
            line.number = Some(decoded.number);
            line.process = Some(decoded.process);
            line.luid = Some(decoded.luid);
            line.fields = decoded.fields;
        }
        self.write(&line);
        if answered && self.asked.len() < MAX_ASKED {
            let asked = Asked {
                version,
                payload: payload.to_vec(),
            };
            self.asked.insert((channel, transaction), asked);
        }
    }

    /// A completion, put into a ring.
    pub fn answer(&mut self, ns: u64, channel: Channel, transaction: u64, payload: &[u8]) {
        let mut line = Line::new(ns, "host", "answer", payload).on(channel);
        line.transaction = Some(transaction);
        if let Some(asked) = self.asked.remove(&(channel, transaction)) {
            let answer = decode::reply(asked.version, &asked.payload, payload);
            line.command = answer.command;
            line.status = answer.status.map(|status| status.to_string());
            line.fields = answer.fields;
        }
        self.write(&line);
    }

    /// A message of the host, put into a ring.
    pub fn event(&mut self, ns: u64, payload: &[u8]) {
        let mut line = Line::new(ns, "host", "event", payload).on(Channel::Global);
        (line.command, line.fields) = decode::event(payload);
        self.write(&line);
    }

    /// A message of the guest about PCI functions, taken from a ring.
    pub fn pci_command(&mut self, ns: u64, vgpu: VgpuId, asks: Asks<'_>) {
        let mut line = Line::new(ns, "guest", "command", asks.payload).pci(vgpu);
        line.transaction = Some(asks.transaction);
        line.answered = Some(asks.answered);
        self.write(&line.pci_named(asks.payload));
    }

    /// A packet of the host about PCI functions, put into a ring.
    pub fn pci_packet(&mut self, ns: u64, vgpu: VgpuId, packet: &Packet) {
        let payload = &packet.payload;
        let line = match packet.completes {
            Some(transaction) => Line {
                transaction: Some(transaction),
                status: vpci::number(payload).map(|status| format!("{status:#x}")),
                ..Line::new(ns, "host", "answer", payload).pci(vgpu)
            },
            None => Line::new(ns, "host", "event", payload)
                .pci(vgpu)
                .pci_named(payload),
        };
        self.write(&line);
    }

    /// A message about the guest's memory: a command of the guest, or an event of the host.
    pub fn balloon(&mut self, ns: u64, from: &'static str, payload: &[u8]) {
        let kind = if from == "guest" { "command" } else { "event" };
        let mut line = Line::new(ns, from, kind, payload);
        line.channel = "balloon";
        line.number = balloon::number(payload);
        if let Some(name) = line.number.and_then(balloon::name) {
            line.command = name.into();
        }
        self.write(&line);
    }

    /// A message about channels, by VMBus itself: the number of its type, and its bytes.
    pub fn vmbus(&mut self, ns: u64, from: &'static str, payload: &[u8]) {
        let mut line = Line::new(ns, from, "vmbus", payload);
        line.number = payload
            .first_chunk::<4>()
            .map(|bytes| u32::from_le_bytes(*bytes));
        self.write(&line);
    }

    /// Forgets what was asked on a channel that is closed.
    pub fn closed(&mut self, closed: Channel) {
        self.asked.retain(|(channel, _), _| *channel != closed);
    }

    fn write(&mut self, line: &Line) {
        match serde_json::to_string(line) {
            Ok(text) => self.writer.write(text),
            Err(error) => tracing::warn!(%error, "a line of the trace"),
        }
    }
}

/// A message of the guest.
#[derive(Debug, Clone, Copy)]
pub struct Asks<'a> {
    /// Its transaction.
    pub transaction: u64,
    /// Whether it wants an answer.
    pub answered: bool,
    /// Its payload.
    pub payload: &'a [u8],
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use gpupv::{
        CreateDevice, CreateDeviceReply, Event, Handle, Luid, Request, Route, SignalGuestEvent,
    };
    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` writes.
    fn lines(work: impl FnOnce(&mut Trace)) -> Vec<Value> {
        let sink = Shared::default();
        let mut trace = Trace::new(Box::new(sink.clone())).unwrap();
        work(&mut trace);
        drop(trace);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn message() -> Vec<u8> {
        let version = Version::CURRENT;
        let body = CreateDevice {
            error_code: 9,
            ..CreateDevice::default()
        };
        let request = Request::from(body);
        let route = Route::adapter(version, Luid::new(1, 2)).with_process(Handle::from_raw(0x80));
        let mut bytes = vec![0; request.message_len(version).unwrap()];
        request.encode(&route, &mut bytes).unwrap();
        bytes
    }

    /// A command and its answer are decoded by their types, and the bytes are those that travelled.
    #[test]
    fn command_and_answer() {
        let bytes = message();
        let reply = CreateDeviceReply {
            device: Handle::from_raw(0x4000_0040),
        };
        let payload = gpupv::Wire::bytes(&reply).to_vec();
        let lines = lines(|trace| {
            let asks = Asks {
                transaction: 3,
                answered: true,
                payload: &bytes,
            };
            trace.command(7, Version::CURRENT, Channel::Global, asks);
            trace.answer(8, Channel::Global, 3, &payload);
            trace.answer(9, Channel::Global, 3, &payload);
        });
        let [command, answer, again] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(
            (&command["ns"], &command["from"], &command["channel"]),
            (&json!(7), &json!("guest"), &json!("global"))
        );
        assert_eq!(
            (&command["command"], &command["number"], &command["process"]),
            (&json!("CREATEDEVICE"), &json!(0), &json!(0x80))
        );
        assert_eq!(command["fields"]["body"]["error_code"], 9);
        assert_eq!(command["bytes"], hex(&bytes));
        assert_eq!(command["length"], bytes.len());
        assert_eq!(
            (&answer["command"], &answer["transaction"]),
            (&json!("CREATEDEVICE"), &json!(3))
        );
        assert_eq!(answer["fields"]["body"]["device"], "0x40000040");
        assert_eq!(again.get("command"), None, "nobody asked");
    }

    /// Failures have their status, events their name, and what is nothing of these its bytes.
    #[test]
    fn other_lines() {
        let bytes = message();
        let mut event = [0; Event::LEN];
        Event::Signal(SignalGuestEvent::new(5))
            .encode(&mut event)
            .unwrap();
        let lines = lines(|trace| {
            let asks = |payload| Asks {
                transaction: 3,
                answered: true,
                payload,
            };
            trace.command(1, Version::CURRENT, Channel::Global, asks(&bytes));
            trace.answer(2, Channel::Global, 3, &[1, 0]);
            trace.event(3, &event);
            trace.event(4, &[1]);
            trace.command(5, Version::CURRENT, Channel::Global, asks(&[1, 2]));
            trace.vmbus(6, "guest", &[3, 0, 0, 0, 9]);
        });
        assert_eq!(lines[1].get("fields"), None);
        assert_eq!(lines[2]["command"], "SIGNALGUESTEVENT");
        assert_eq!(lines[2]["fields"]["event"], 5);
        assert_eq!(lines[3]["bytes"], "01");
        assert_eq!(
            (&lines[4]["bytes"], lines[4].get("command")),
            (&json!("0102"), None)
        );
        assert_eq!(
            (&lines[5]["number"], &lines[5]["channel"]),
            (&json!(3), &json!("control"))
        );
    }
}
