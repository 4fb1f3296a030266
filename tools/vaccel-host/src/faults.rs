// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules of misbehaviour as they are written, and what the device thread keeps of them.
//!
//! A rule is `{"on":{..},"do":{"kind":..,..}}`. The kinds are those of [`gpupv_host::Action`], with a
//! `seed` for those that take random bytes, and `operation`, which carries out a request of the
//! control channel.

use std::collections::BTreeMap;

use gpupv_host::{Action, Host, On, OperationId, Rule, RuleError};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::control::Request;

/// The kind of a rule that carries out a request.
const OPERATION: &str = "operation";

/// A rule as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct FaultRule {
    on: On,
    does: Does,
    seed: Option<u64>,
    /// What was read.
    text: Value,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
enum Does {
    /// Something to the message.
    Action(Action),
    /// Something else.
    Operation(Box<Operation>),
}

/// A request that a rule carries out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    /// Which.
    operation: Request,
    /// How much later than the message.
    #[serde(default)]
    milliseconds: u64,
    /// After the message was handled.
    #[serde(default)]
    after: bool,
}

impl TryFrom<Value> for FaultRule {
    type Error = String;

    fn try_from(text: Value) -> Result<Self, String> {
        /// The members of a rule, the second not yet understood.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Text {
            on: On,
            #[serde(rename = "do")]
            does: Map<String, Value>,
        }
        let Text { on, mut does } = Text::deserialize(&text).map_err(|error| error.to_string())?;
        let wrong = |error: serde_json::Error| format!("do: {error}");
        let seed = match does.remove("seed") {
            Some(seed) => Some(u64::deserialize(seed).map_err(wrong)?),
            None => None,
        };
        let does = if does.get("kind").is_some_and(|kind| kind == OPERATION) {
            does.remove("kind");
            let operation = serde_json::from_value(does.into()).map_err(wrong)?;
            Does::Operation(Box::new(operation))
        } else {
            Does::Action(serde_json::from_value(does.into()).map_err(wrong)?)
        };
        Ok(Self {
            on,
            does,
            seed,
            text,
        })
    }
}

/// What is kept of the rules that were armed.
#[derive(Debug, Default)]
pub struct FaultBook {
    /// The rules as they were written, by number.
    texts: BTreeMap<u64, Value>,
    /// The requests that rules carry out.
    operations: BTreeMap<OperationId, Request>,
    next_operation: u64,
}

impl FaultBook {
    /// Arms a rule and returns its number.
    ///
    /// # Errors
    ///
    /// As [`Host::arm`].
    pub fn arm(&mut self, rule: FaultRule, host: &mut Host) -> Result<u64, RuleError> {
        let FaultRule {
            on,
            does,
            seed,
            text,
        } = rule;
        let id = OperationId(self.next_operation);
        let (action, operation) = match does {
            Does::Action(action) => (action, None),
            Does::Operation(operation) => {
                let Operation {
                    operation,
                    milliseconds,
                    after,
                } = *operation;
                let action = Action::Operation {
                    id,
                    after,
                    milliseconds,
                };
                (action, Some(operation))
            }
        };
        let rule = host.arm(Rule { on, action, seed })?;
        self.texts.insert(rule, text);
        if let Some(operation) = operation {
            self.next_operation += 1;
            self.operations.insert(id, operation);
        }
        Ok(rule)
    }

    /// The rules and how often each matched and fired.
    pub fn list(&self, host: &Host) -> Value {
        let counts = host.rule_counts();
        let rules = counts.iter().map(|counts| {
            let text = self.texts.get(&counts.id);
            serde_json::json!({
                "id": counts.id,
                "rule": text,
                "matched": counts.matched,
                "fired": counts.fired,
            })
        });
        serde_json::json!({ "rules": rules.collect::<Vec<_>>() })
    }

    /// Disarms all rules. Operations stay known: some may be on their way.
    pub fn clear(&mut self, host: &mut Host) {
        self.texts.clear();
        host.clear_rules();
    }

    /// The request that a rule carries out.
    pub fn operation(&self, id: OperationId) -> Option<&Request> {
        self.operations.get(&id)
    }
}

#[cfg(test)]
mod tests {
    use gpupv_host::{HostConfig, VgpuConfig};

    use super::*;

    fn host() -> Host {
        let mut host = Host::new(HostConfig::default());
        host.add_vgpu(VgpuConfig::numbered(0)).unwrap();
        host
    }

    fn rule(text: &str) -> Result<FaultRule, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Every kind parses and can be armed; the list says what was written.
    #[test]
    fn kinds() {
        let mut host = host();
        let mut book = FaultBook::default();
        let kinds = [
            r#"{"kind":"delay","milliseconds":5}"#,
            r#"{"kind":"drop-answer"}"#,
            r#"{"kind":"drop-message"}"#,
            r#"{"kind":"status","status":3221225473}"#,
            r#"{"kind":"status","status":"0xc0000001","after":true}"#,
            r#"{"kind":"status","status":"NO_MEMORY"}"#,
            r#"{"kind":"short","bytes":4}"#,
            r#"{"kind":"long","bytes":4}"#,
            r#"{"kind":"malformed"}"#,
            r#"{"kind":"malformed","mode":"flip","seed":7}"#,
            r#"{"kind":"malformed","mode":"zero"}"#,
            r#"{"kind":"malformed","mode":"ones"}"#,
            r#"{"kind":"duplicate"}"#,
            r#"{"kind":"wrong-id"}"#,
            r#"{"kind":"before","bytes":4}"#,
            r#"{"kind":"mutate","seed":3,"rate":0.5}"#,
            r#"{"kind":"operation","operation":{"op":"mute","milliseconds":5}}"#,
            r#"{"kind":"operation","operation":{"op":"rescind","channel":"vgpu"},"after":true}"#,
            r#"{"kind":"operation","operation":{"op":"offer","channel":"global"},"milliseconds":9}"#,
        ];
        for (id, kind) in (1..).zip(kinds) {
            let text = format!(r#"{{"on":{{"command":"CreateDevice"}},"do":{kind}}}"#);
            let parsed = rule(&text).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(book.arm(parsed, &mut host), Ok(id), "{kind}");
            let list = book.list(&host);
            let listed = &list["rules"][id as usize - 1];
            assert_eq!(
                listed["rule"],
                serde_json::from_str::<Value>(&text).unwrap()
            );
            assert_eq!(
                (&listed["matched"], &listed["fired"]),
                (&0.into(), &0.into())
            );
        }
        let mute = book.operation(OperationId(0));
        assert!(matches!(mute, Some(Request::Mute { .. })));
        book.clear(&mut host);
        assert_eq!(book.list(&host)["rules"], Value::Array(Vec::new()));
    }

    /// Commands are named by name, by the protocol's name, by number, or all at once.
    #[test]
    fn commands() {
        for command in [
            "\"CreateDevice\"",
            "\"CREATEDEVICE\"",
            "0",
            "4711",
            "\"any\"",
        ] {
            let text = format!(
                r#"{{"on":{{"command":{command},"channel":"vgpu","vgpu":0,"nth":3,"count":0}},"do":{{"kind":"duplicate"}}}}"#
            );
            assert!(rule(&text).is_ok(), "{command}");
        }
    }

    /// What is wrong is said, and where.
    #[test]
    fn errors() {
        let on = r#"{"command":"any"}"#;
        let cases = [
            (r#"{"command":"Dance"}"#, r#"{"kind":"duplicate"}"#, "Dance"),
            (r#"{"comand":"any"}"#, r#"{"kind":"duplicate"}"#, "comand"),
            (on, r#"{"kind":"dance"}"#, "do: unknown variant `dance`"),
            (
                on,
                r#"{"kind":"delay"}"#,
                "do: missing field `milliseconds`",
            ),
            (
                on,
                r#"{"kind":"duplicate","twice":1}"#,
                "do: unknown field `twice`",
            ),
            (on, r#"{"kind":"status","status":"WORSE"}"#, "WORSE"),
            (on, r#"{"kind":"short","bytes":-1}"#, "do: "),
            (on, r#"{"kind":"mutate","rate":0.1,"seed":-1}"#, "do: "),
            (
                on,
                r#"{"kind":"operation","operation":{"op":"dance"}}"#,
                "do: unknown variant `dance`",
            ),
        ];
        for (on, does, part) in cases {
            let error = rule(&format!(r#"{{"on":{on},"do":{does}}}"#)).unwrap_err();
            assert!(error.contains(part), "{does}: {error}");
        }
        let mut book = FaultBook::default();
        let cases = [
            (r#"{}"#, r#"{"kind":"duplicate"}"#, RuleError::AboutNothing),
            (
                r#"{"command":"any","nth":0}"#,
                r#"{"kind":"duplicate"}"#,
                RuleError::NthIsZero,
            ),
            (
                r#"{"command":"any","vgpu":1}"#,
                r#"{"kind":"duplicate"}"#,
                RuleError::NoVgpu(1),
            ),
            (
                r#"{"event":"any"}"#,
                r#"{"kind":"wrong-id"}"#,
                RuleError::NotForEvents,
            ),
            (on, r#"{"kind":"mutate","rate":0}"#, RuleError::Rate),
            (on, r#"{"kind":"mutate","rate":1.5}"#, RuleError::Rate),
            (on, r#"{"kind":"long","bytes":100000}"#, RuleError::TooLong),
        ];
        for (on, does, wanted) in cases {
            let parsed = rule(&format!(r#"{{"on":{on},"do":{does}}}"#)).unwrap();
            assert_eq!(book.arm(parsed, &mut host()), Err(wanted), "{does}");
        }
    }
}
