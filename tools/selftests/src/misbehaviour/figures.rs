// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was tried, and what became of it.

use std::collections::BTreeMap;

use serde_json::{json, Value};

/// How one try ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The virtual GPU worked and the host held nothing, without more.
    AsItWas,
    /// It had to be offered anew.
    Renewed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tried: u64,
    survived: u64,
}

/// Counts by kind and by command.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    kinds: BTreeMap<String, Count>,
    commands: BTreeMap<String, Count>,
    renewed: u64,
    messages: u64,
}

impl Figures {
    /// Counts one try of a fault of `kind` on `command`; none is one that was not survived.
    pub fn add(&mut self, kind: &str, command: &str, end: Option<End>) {
        for count in [
            self.kinds.entry(kind.to_owned()).or_default(),
            self.commands.entry(command.to_owned()).or_default(),
        ] {
            count.tried += 1;
            count.survived += u64::from(end.is_some());
        }
        self.renewed += u64::from(end == Some(End::Renewed));
    }

    /// Counts messages that the host changed.
    pub fn add_messages(&mut self, messages: u64) {
        self.messages += messages;
    }

    /// Tried and survived of a command.
    pub fn of_command(&self, command: &str) -> (u64, u64) {
        let count = self.commands.get(command).copied().unwrap_or_default();
        (count.tried, count.survived)
    }

    /// As it is reported.
    pub fn to_json(&self) -> Value {
        let all = self.kinds.values();
        let kinds: BTreeMap<&str, Value> = self
            .kinds
            .iter()
            .map(|(kind, count)| {
                let value = json!({"tried": count.tried, "survived": count.survived});
                (kind.as_str(), value)
            })
            .collect();
        json!({
            "schema": 1,
            "tried": all.clone().map(|count| count.tried).sum::<u64>(),
            "survived": all.map(|count| count.survived).sum::<u64>(),
            "renewed": self.renewed,
            "messages": self.messages,
            "kinds": kinds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a try that was not survived is told from one that was.
    #[test]
    fn counts() {
        let mut figures = Figures::default();
        figures.add("short", "Lock2", Some(End::Renewed));
        figures.add("short", "Lock2", None);
        figures.add("delay", "Evict", Some(End::AsItWas));
        figures.add_messages(5);
        assert_eq!(figures.of_command("Lock2"), (2, 1));
        assert_eq!(figures.of_command("Other"), (0, 0));
        let json = figures.to_json();
        assert_eq!((&json["tried"], &json["survived"]), (&json!(3), &json!(2)));
        assert_eq!(
            (&json["renewed"], &json["messages"]),
            (&json!(1), &json!(5))
        );
        assert_eq!(json["kinds"]["short"], json!({"tried": 2, "survived": 1}));
    }
}
