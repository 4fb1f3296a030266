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
    seed: u64,
    kinds: BTreeMap<String, Count>,
    commands: BTreeMap<String, Count>,
    renewed: u64,
    messages: u64,
    failures: Vec<String>,
}

impl Figures {
    /// None yet, of a run with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

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

    /// Notes what was not as it must be.
    pub fn fail(&mut self, problem: String) {
        self.failures.push(problem);
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

    /// As it is reported, in the form of `vaccel-survive`.
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
            "seed": self.seed,
            "ok": self.failures.is_empty(),
            "counts": {
                "tries": all.clone().map(|count| count.tried).sum::<u64>(),
                "tries_survived": all.map(|count| count.survived).sum::<u64>(),
                "renewals": self.renewed,
                "messages_changed": self.messages,
            },
            "kinds": kinds,
            "failures": self.failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a try that was not survived is told from one that was.
    #[test]
    fn counts() {
        let mut figures = Figures::new(9);
        figures.add("short", "Lock2", Some(End::Renewed));
        figures.add("short", "Lock2", None);
        figures.add("delay", "Evict", Some(End::AsItWas));
        figures.add_messages(5);
        assert_eq!(figures.of_command("Lock2"), (2, 1));
        assert_eq!(figures.of_command("Other"), (0, 0));
        let json = figures.to_json();
        let counts = json!({"tries": 3, "tries_survived": 2, "renewals": 1, "messages_changed": 5});
        assert_eq!((&json["counts"], &json["ok"]), (&counts, &json!(true)));
        assert_eq!(json["seed"], json!(9));
        figures.fail("Lock2 short: nobody was told".into());
        assert_eq!(figures.to_json()["ok"], json!(false));
        assert_eq!(json["kinds"]["short"], json!({"tried": 2, "survived": 1}));
    }
}
