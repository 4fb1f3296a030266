// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traces by hand.

use serde_json::{json, Value};

use super::*;

/// A command on the channel of GPU 0.
fn command(transaction: u64, name: &str, fields: Value) -> String {
    let line = json!({"ns": transaction, "from": "guest", "kind": "command", "channel": "vgpu",
        "vgpu": 0, "transaction": transaction, "command": name, "fields": fields, "bytes": "00"});
    format!("{line}\n")
}

/// The answer to it.
fn answer(transaction: u64, fields: Value) -> String {
    let line = json!({"ns": transaction, "from": "host", "kind": "answer", "channel": "vgpu",
        "vgpu": 0, "transaction": transaction, "fields": fields, "bytes": "01"});
    format!("{line}\n")
}

/// Kind, name and the fields with both values.
type Found = (&'static str, String, Vec<(String, Value, Value)>);

fn differences(a: &[String], b: &[String]) -> Vec<Found> {
    let read = |lines: &[String]| read::exchanges(&lines.concat()).unwrap();
    let report = diff(&read(a), &read(b));
    assert_eq!(report.equal, report.differences.is_empty());
    let fields =
        |fields: Vec<compare::Field>| fields.into_iter().map(|f| (f.field, f.a, f.b)).collect();
    report
        .differences
        .into_iter()
        .map(|d| (d.kind, d.name, fields(d.fields)))
        .collect()
}

/// Times, transactions and bytes are of no interest, and chosen values only have to correspond, also in
/// answers that come in another order.
#[test]
fn equal() {
    let run = |first: u64, handles: [&str; 2], va: u64, turned: bool| {
        let mut lines = vec![
            command(first, "CREATEDEVICE", json!({"flags": 1})),
            command(first + 1, "CREATEDEVICE", json!({"flags": 1})),
        ];
        let answers = [
            answer(first, json!({"device": handles[0]})),
            answer(first + 1, json!({"device": handles[1]})),
        ];
        lines.extend(answers);
        if turned {
            lines.swap(2, 3);
        }
        lines.push(command(
            first + 2,
            "MAP",
            json!({"device": handles[1], "gpu_va": va, "n": 3}),
        ));
        lines
    };
    let a = run(1, ["0x40", "0x80"], 4096, false);
    let b = run(100, ["0x80", "0x40"], 8192, true);
    assert_eq!(differences(&a, &b), []);
    assert_eq!(differences(&a, &a), []);
}

/// A field that differs is named with both values; so is a handle that stands for another one than
/// before, and an answer that never came.
#[test]
fn changed() {
    let run = |flags: u32, used: &str, answered: bool| {
        let mut lines = vec![
            command(1, "CREATEDEVICE", json!({"body": {"flags": flags}})),
            command(2, "CREATEDEVICE", json!({"body": {"flags": 0}})),
            answer(1, json!({"device": "0x40"})),
        ];
        if answered {
            lines.push(answer(2, json!({"device": "0x80"})));
        }
        lines.push(command(3, "DESTROYDEVICE", json!({"device": used})));
        lines
    };
    let good = run(1, "0x40", true);
    let change = |b: &[String]| {
        let mut all = differences(&good, b);
        assert_eq!(all.len(), 1, "{all:?}");
        let (kind, name, fields) = all.remove(0);
        assert_eq!(kind, "changed");
        (name, fields)
    };
    let (name, fields) = change(&run(2, "0x40", true));
    assert_eq!(name, "CREATEDEVICE");
    assert_eq!(
        fields,
        [("fields.body.flags".to_owned(), json!(1), json!(2))]
    );
    let (name, fields) = change(&run(1, "0x80", true));
    assert_eq!(name, "DESTROYDEVICE");
    assert_eq!(
        fields,
        [("fields.device".to_owned(), json!("0x40"), json!("0x80"))]
    );
    let (name, fields) = change(&run(1, "0x40", false));
    assert_eq!(name, "CREATEDEVICE");
    assert_eq!(
        (fields[0].0.as_str(), &fields[0].2),
        ("answer", &Value::Null)
    );
}

/// What is in one trace only is said to be, and what follows is aligned again.
#[test]
fn inserted() {
    let list = |names: &[&str]| -> Vec<String> {
        (1..)
            .zip(names)
            .map(|(n, name)| command(n, name, json!({"n": *name})))
            .collect()
    };
    let found = differences(&list(&["A", "B", "C", "D"]), &list(&["A", "C", "X", "D"]));
    let found: Vec<_> = found
        .iter()
        .map(|(kind, name, _)| (*kind, name.as_str()))
        .collect();
    assert_eq!(found, [("only-a", "B"), ("only-b", "X")]);
}

/// Pages of guest memory are counted, not compared; pointers and the like correspond.
#[test]
fn pages_and_pointers() {
    let run = |pages: Value, pointer: u32| {
        [
            command(
                1,
                "SETEXISTINGSYSMEMPAGES",
                json!({"body": {"n": 1}, "tail": pages}),
            ),
            command(2, "CREATEDEVICE", json!({"body": {"error_code": pointer}})),
            command(3, "SETGUESTDATA", json!({"guest_pointer": pointer})),
        ]
    };
    let one = run(json!([7, 8]), 13);
    assert_eq!(differences(&one, &run(json!([8, 8]), 14)), []);
    let found = differences(&one, &run(json!([7]), 13));
    assert_eq!(
        found[0].2,
        [("fields.tail[0]".to_owned(), json!(2), json!(1))]
    );
}

/// What is no trace is refused with its line, and so is one with a gap.
#[test]
fn errors() {
    let good = command(1, "A", json!({}));
    for (bad, part) in [
        ("x\n", "line 2"),
        ("{}\n", "line 2: no kind"),
        ("{\"lost\":3}\n", "gap"),
    ] {
        let error = read::exchanges(&format!("{good}{bad}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// The text names the fields; equal traces have none.
#[test]
fn text() {
    let read = |n: u32| read::exchanges(&command(1, "A", json!({"n": n}))).unwrap();
    let print = |a, b| {
        let mut out = Vec::new();
        diff(&read(a), &read(b)).print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(print(1, 1), "");
    assert_eq!(
        print(1, 2),
        "! A (vgpu 0; lines 1, 1)\n    fields.n: 1 / 2\n"
    );
}

/// How many pages there are is nothing that a run chooses.
#[test]
fn counts() {
    for field in ["size_in_pages", "num_pages"] {
        let run = |pages: u64| {
            vec![command(
                1,
                "MAP",
                json!({ field: pages, "gpu_va": pages << 12 }),
            )]
        };
        let found = differences(&run(16), &run(17));
        let fields = vec![(format!("fields.{field}"), json!(16), json!(17))];
        assert_eq!(found, [("changed", "MAP".to_owned(), fields)]);
    }
}
