// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares two messages field by field.
//!
//! A value that a run chooses for itself is renamed: where it is first seen, the value of the other trace in
//! the same place becomes its counterpart, and from then on each stands for the other and for nothing else.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

/// Parts of the names of fields whose numbers a run chooses for itself.
const CHOSEN: [&str; 15] = [
    "address", "va", "gpa", "pfn", "page", "pages", "pointer", "process", "handle", "luid",
    "event", "time", "clock", "base", "cookie",
];

/// How the names of fields begin or end that count something in pages.
const COUNTS: (&str, &str) = ("num_", "_in_pages");

/// A field of CREATEDEVICE: where the guest wants to hear of errors, a number of the guest's.
const ERROR_CODE: &str = "error_code";

/// Two values of one field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    /// Its name, with those of what it is in.
    pub field: String,
    /// Its value in the first trace; null if it is not there.
    pub a: Value,
    /// Its value in the second trace; null if it is not there.
    pub b: Value,
}

/// Which values stand for which.
#[derive(Debug, Default)]
pub struct Renamed {
    b_of_a: HashMap<String, String>,
    a_of_b: HashMap<String, String>,
}

impl Renamed {
    /// Whether two values stand for each other; if neither was seen before they do from now on.
    fn correspond(&mut self, a: &Value, b: &Value) -> bool {
        let (a, b) = (a.to_string(), b.to_string());
        match (self.b_of_a.get(&a), self.a_of_b.get(&b)) {
            (None, None) => {
                self.b_of_a.insert(a.clone(), b.clone());
                self.a_of_b.insert(b, a);
                true
            }
            (Some(known), _) => *known == b,
            (None, Some(_)) => false,
        }
    }

    /// Adds the fields below `name` that differ to `found`.
    pub fn compare(&mut self, name: &str, a: &Value, b: &Value, found: &mut Vec<Field>) {
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                let more = b.keys().filter(|name| !a.contains_key(*name));
                for part in a.keys().chain(more) {
                    let of = |side: &serde_json::Map<String, Value>| {
                        side.get(part).cloned().unwrap_or_default()
                    };
                    self.compare(&join(name, part), &of(a), &of(b), found);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    self.compare(&format!("{name}[{index}]"), a, b, found);
                }
            }
            _ if self.same(name, a, b) => {}
            _ => found.push(Field {
                field: name.to_owned(),
                a: a.clone(),
                b: b.clone(),
            }),
        }
    }

    fn same(&mut self, name: &str, a: &Value, b: &Value) -> bool {
        if is_chosen(name, a) && is_chosen(name, b) {
            self.correspond(a, b)
        } else {
            a == b
        }
    }
}

fn join(name: &str, part: &str) -> String {
    if name.is_empty() {
        part.to_owned()
    } else {
        format!("{name}.{part}")
    }
}

/// Whether a run chooses such a value: handles and identifiers are text that starts as hexadecimal does,
/// addresses are numbers whose field says so. Nothing stands for 0.
fn is_chosen(name: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().any(|d| d != b'0')),
        Value::Number(number) if number.as_u64() != Some(0) => {
            let own = name.rsplit('.').next().unwrap_or(name);
            let mut words = own.split(|c: char| !c.is_ascii_alphabetic());
            let counts = own.starts_with(COUNTS.0) || own.ends_with(COUNTS.1);
            own == ERROR_CODE || (!counts && words.any(|word| CHOSEN.contains(&word)))
        }
        _ => name == "luid" && value.is_string(),
    }
}
