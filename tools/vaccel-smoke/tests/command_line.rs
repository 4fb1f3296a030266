// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the program on a machine without an accelerator, which is what build machines are. Where
//! there is one, the tests that need its absence say so and check nothing.

use std::process::{Command, Output};

fn smoke(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vaccel-smoke"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn has_accelerator() -> bool {
    std::fs::read_dir("/sys/class/accel").is_ok_and(|mut nodes| nodes.next().is_some())
}

/// Proves that every command ends with 77 without a device, says why on standard error, and leaves
/// standard output to results.
#[test]
fn no_device_is_77() {
    if has_accelerator() {
        eprintln!("this machine has an accelerator: nothing checked");
        return;
    }
    for arguments in [
        vec!["list"],
        vec!["info"],
        vec!["run"],
        vec!["run", "--tap", "fill"],
        vec!["run", "--device", "accel0"],
        vec!["info", "--device", "0000:00:02.0"],
    ] {
        let output = smoke(&arguments);
        assert_eq!(output.status.code(), Some(77), "{arguments:?}");
        let words = text(&output.stderr);
        assert!(
            words.starts_with("vaccel-smoke: no vaccel accelerator"),
            "{words}"
        );
        assert!(words.contains("modprobe vaccel"), "{words}");
    }
    let listed = smoke(&["list", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(document["schema"], 1);
    assert_eq!(document["devices"], serde_json::json!([]));
}

/// Proves that mistakes of the user are 2, also without a device, and name the cure.
#[test]
fn mistakes_are_2() {
    for arguments in [
        vec!["run", "no-such-test"],
        vec!["run", "--device", "first"],
        vec!["run", "--timeout", "0"],
        vec!["run", "--tap", "--json"],
        vec!["launch"],
        vec![],
    ] {
        let output = smoke(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let words = text(&smoke(&["run", "no-such-test"]).stderr);
    assert!(words.contains("digits"), "{words}");
}

/// Proves that help, version and the list of tests need no device, and that help documents the
/// exit status.
#[test]
fn help_needs_no_device() {
    let help = smoke(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("77"));
    assert_eq!(smoke(&["--version"]).status.code(), Some(0));
    let tests = smoke(&["list-tests"]);
    assert_eq!(tests.status.code(), Some(0));
    for name in [
        "fill",
        "copy",
        "vector-add",
        "gemm",
        "reduce",
        "spin",
        "fence",
        "digits",
    ] {
        assert!(text(&tests.stdout).contains(name), "{name}");
    }
}

/// Proves that a node of another kind is refused as such.
#[test]
fn other_nodes_are_refused() {
    let output = smoke(&["info", "--device", "/dev/null"]);
    assert!([77, 2].contains(&output.status.code().unwrap_or(0)));
    assert!(!output.stderr.is_empty());
}
