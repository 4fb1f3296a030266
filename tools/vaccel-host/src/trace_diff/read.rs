// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the lines of a trace to exchanges.

use std::collections::HashMap;

use anyhow::{bail, Context, Result};
use serde_json::{Map, Value};

/// Members of a line that are never the same in two runs, or that `fields` says better.
const IGNORED: [&str; 2] = ["ns", "transaction"];

/// The command whose list is the pages of an object. A run gives a page to one object after the other, so they
/// do not even correspond: what counts is how many there are.
const PAGES: &str = "SETEXISTINGSYSMEMPAGES";

/// A command with its answer, or a message that has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The sequence it belongs to: the channel, and who speaks of what on it.
    pub sequence: String,
    /// What it is aligned by: the command's name, or the number of a message without a name.
    pub name: String,
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// The message.
    pub message: Map<String, Value>,
    /// The answer, if there is one.
    pub answer: Option<Map<String, Value>>,
}

/// Reads a trace.
///
/// # Errors
///
/// Fails at the first line that is not one of a trace; says which.
pub fn exchanges(text: &str) -> Result<Vec<Exchange>> {
    let mut all: Vec<Exchange> = Vec::new();
    let mut asked = HashMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let members: Map<String, Value> =
            serde_json::from_str(text).with_context(|| format!("line {line}"))?;
        if members.contains_key("lost") {
            bail!("line {line}: the trace has a gap, so nothing can be said about it");
        }
        let kind = word(&members, "kind").with_context(|| format!("line {line}: no kind"))?;
        let channel = channel(&members);
        let transaction = members.get("transaction").and_then(Value::as_u64);
        let key = (channel.clone(), transaction);
        if kind == "answer" {
            let command = asked.remove(&key).and_then(|at: usize| all.get_mut(at));
            if let Some(command) = command {
                command.answer = Some(kept(members));
                continue;
            }
        } else if kind == "command" {
            asked.insert(key, all.len());
        }
        let from = word(&members, "from").unwrap_or_default();
        all.push(Exchange {
            sequence: match kind {
                "command" => channel,
                kind => format!("{channel}, {kind} of the {from}"),
            },
            name: name(&members),
            line,
            message: kept(members),
            answer: None,
        });
    }
    Ok(all)
}

fn word<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

/// The channel, with the number of its virtual GPU.
fn channel(members: &Map<String, Value>) -> String {
    let channel = word(members, "channel").unwrap_or("?");
    match members.get("vgpu") {
        Some(vgpu) => format!("{channel} {vgpu}"),
        None => channel.to_owned(),
    }
}

fn name(members: &Map<String, Value>) -> String {
    match members.get("command").or_else(|| members.get("number")) {
        Some(Value::String(name)) => name.clone(),
        Some(number) => format!("message {number}"),
        None => "bytes".to_owned(),
    }
}

/// What is compared: the bytes only where nothing else says what they are. Those of VMBus messages are
/// channel numbers and pages, which belong to the run.
fn kept(mut members: Map<String, Value>) -> Map<String, Value> {
    for name in IGNORED {
        members.remove(name);
    }
    if word(&members, "command") == Some(PAGES) {
        let tail = members
            .get_mut("fields")
            .and_then(|fields| fields.get_mut("tail"));
        if let Some(Value::Array(pages)) = tail {
            let count = pages.len();
            pages.clear();
            pages.push(count.into());
        }
    }
    let vmbus = word(&members, "kind") == Some("vmbus");
    if vmbus || members.contains_key("fields") {
        members.remove("bytes");
    }
    members
}
