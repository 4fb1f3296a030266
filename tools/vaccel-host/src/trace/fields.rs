// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fields of a wire value as JSON, from its `Debug` form: the types say what there is, and no
//! second table of fields can fall behind them.
//!
//! Structures become objects, lists become arrays, whole numbers become numbers, a type around one
//! value becomes that value. Everything else (handles, identifiers, statuses) becomes its text.

use std::fmt::Debug;

use serde_json::{Map, Value};

/// The fields of a value.
pub fn fields(value: &impl Debug) -> Value {
    let text = format!("{value:?}");
    Reader { rest: &text }.value()
}

/// Reads `Debug` text from the front.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self) -> Value {
        if self.skip("[") {
            return Value::Array(self.items("]"));
        }
        if self.skip("(") {
            return Value::Array(self.items(")"));
        }
        let name = self.name();
        if !name.is_empty() && self.skip("{") {
            return self.object();
        }
        if !name.is_empty() && self.rest.starts_with('(') {
            self.rest = &self.rest[1..];
            let mut items = self.items(")");
            return match items.len() {
                1 => items.remove(0),
                _ => Value::Array(items),
            };
        }
        self.scalar(name)
    }

    /// A name in front, if there is one.
    fn name(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let ends = |c: char| !(c.is_alphanumeric() || c == '_');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    /// Text up to what ends a value: a status such as `NO_MEMORY (0xc0000017)` has parentheses.
    fn scalar(&mut self, start: &str) -> Value {
        let mut depth = 0_u32;
        let end = self.rest.find(|c| {
            match c {
                '(' => depth += 1,
                ')' if depth != 0 => depth -= 1,
                ',' | '}' | ']' | ')' if depth == 0 => return true,
                _ => {}
            }
            false
        });
        let (more, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let text = format!("{start}{}", more.trim_end());
        if let Ok(number) = text.parse::<u64>() {
            return number.into();
        }
        if let Ok(number) = text.parse::<i64>() {
            return number.into();
        }
        match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => text.into(),
        }
    }

    fn items(&mut self, end: &str) -> Vec<Value> {
        let mut items = Vec::new();
        while !self.skip(end) {
            let before = self.rest.len();
            items.push(self.value());
            self.skip(",");
            if self.rest.len() == before {
                // Not what derived code writes: nothing can be made of the rest.
                break;
            }
        }
        items
    }

    fn object(&mut self) -> Value {
        let mut object = Map::new();
        while !self.skip("}") {
            let name = self.name().to_owned();
            if !self.skip(":") {
                // Not what derived code writes: the rest is text.
                let rest = std::mem::take(&mut self.rest);
                object.insert(name, rest.into());
                break;
            }
            object.insert(name, self.value());
            self.skip(",");
        }
        object.into()
    }
}

#[cfg(test)]
mod tests {
    use gpupv::{CreateDevice, CreateDeviceReply, Handle, NtStatus, SubmitCommand, SubmitTail};
    use serde_json::json;

    use super::*;

    /// Structures of the protocol come out with their names and values.
    #[test]
    fn wire_types() {
        let body = CreateDevice {
            error_code: 7,
            ..CreateDevice::default()
        };
        let value = fields(&body);
        assert_eq!(
            (&value["error_code"], &value["flags"]),
            (&json!(7), &json!(0))
        );
        let device = Handle::from_raw(0x4000_0040);
        let value = fields(&CreateDeviceReply { device });
        assert_eq!(value, json!({"device": "0x40000040"}));
        assert_eq!(fields(&NtStatus::NO_MEMORY), "NO_MEMORY (0xc0000017)");
        assert_eq!(fields(&()), json!([]));
        let value = fields(&SubmitCommand::new(device, 1 << 40, 64));
        assert_eq!(value["command_buffer"], 1_u64 << 40);
        assert_eq!(value["broadcast_context"][0], "0x40000040");
        assert_eq!(value["broadcast_context"].as_array().unwrap().len(), 64);
        let tail = SubmitTail {
            private_data: &[1, 2],
            ..SubmitTail::default()
        };
        assert_eq!(
            fields(&tail),
            json!({"history_buffers": [], "private_data": [1, 2]})
        );
    }

    /// Whatever text there is, reading it ends.
    #[test]
    fn odd_text() {
        for text in [
            "",
            "{",
            "a {",
            "a { b",
            "a { b c }",
            "[1, ",
            "x(",
            ")",
            "-5",
            "a: b",
        ] {
            Reader { rest: text }.value();
        }
        assert_eq!(Reader { rest: "-5" }.value(), json!(-5));
        assert_eq!(
            Reader {
                rest: "A(B { c: [true, x-1] })"
            }
            .value(),
            json!({"c": [true, "x-1"]})
        );
    }
}
