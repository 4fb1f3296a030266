// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about two traces.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use super::align::Pair;
use super::compare::{Field, Renamed};
use super::read::Exchange;

/// The result of a comparison.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    schema: u32,
    /// Whether the traces say the same.
    pub equal: bool,
    /// Exchanges in each of them.
    exchanges: [usize; 2],
    /// What differs, in the order of the first trace.
    pub differences: Vec<Difference>,
}

/// One difference.
#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `changed`, `only-a` or `only-b`.
    pub kind: &'static str,
    /// Channel, and who speaks on it if it is no command.
    pub sequence: String,
    /// Name or number of the message.
    pub name: String,
    /// Its line in each of the files in which it is.
    pub lines: [Option<usize>; 2],
    /// The fields that differ.
    pub fields: Vec<Field>,
}

/// What is different about a pair, if anything is.
pub fn difference(pair: Pair<'_>, renamed: &mut Renamed) -> Option<Difference> {
    let (kind, one, lines, fields) = match pair {
        Pair::OnlyA(a) => ("only-a", a, [Some(a.line), None], Vec::new()),
        Pair::OnlyB(b) => ("only-b", b, [None, Some(b.line)], Vec::new()),
        Pair::Both(a, b) => {
            let fields = changed(a, b, renamed);
            if fields.is_empty() {
                return None;
            }
            ("changed", a, [Some(a.line), Some(b.line)], fields)
        }
    };
    Some(Difference {
        kind,
        sequence: one.sequence.clone(),
        name: one.name.clone(),
        lines,
        fields,
    })
}

fn changed(a: &Exchange, b: &Exchange, renamed: &mut Renamed) -> Vec<Field> {
    let object = |members: &Map<String, Value>| Value::Object(members.clone());
    let answer = |exchange: &Exchange| exchange.answer.as_ref().map_or(Value::Null, object);
    let mut fields = Vec::new();
    renamed.compare("", &object(&a.message), &object(&b.message), &mut fields);
    renamed.compare("answer", &answer(a), &answer(b), &mut fields);
    fields
}

impl Report {
    /// A report about traces of so many exchanges.
    pub fn new(exchanges: [usize; 2], differences: Vec<Difference>) -> Self {
        Self {
            schema: 1,
            equal: differences.is_empty(),
            exchanges,
            differences,
        }
    }

    /// Writes it as text: nothing for equal traces.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for difference in &self.differences {
            let [a, b] = difference
                .lines
                .map(|line| line.map_or_else(|| "-".to_owned(), |line| line.to_string()));
            let sign = match difference.kind {
                "only-a" => '-',
                "only-b" => '+',
                _ => '!',
            };
            let (sequence, name) = (&difference.sequence, &difference.name);
            writeln!(out, "{sign} {name} ({sequence}; lines {a}, {b})")?;
            for Field { field, a, b } in &difference.fields {
                writeln!(out, "    {field}: {a} / {b}")?;
            }
        }
        Ok(())
    }
}
