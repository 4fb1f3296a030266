// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lints the repository as a whole: each file names its licence, and none
//! names a machine: no folder of the machine it was written on, no package
//! mirror or registry.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context as _};

use crate::report::{Status, Test};

/// Files whose format has no comments, or that are a licence themselves.
const NO_SPDX: &[&str] = &[
    "json", "npy", "npz", "csv", "bin", "lock", "log", "png", "gz",
];
/// Folders under which test data lies, whose licence a file beside it names.
const DATA: &[&str] = &["/data/", "/testdata/", "/corpus/", "LICENSES/"];
/// What no file says. Spelled in two halves, so that this file doesn't either.
const MACHINE: &[(&str, &str)] = &[
    ("/work", "/main"),
    ("/work", "/shared"),
    ("/roo", "t/."),
    ("deb.de", "bian.org"),
    ("ftp.de", "bian.org"),
    ("static.cra", "tes.io"),
    ("index.cra", "tes.io"),
    ("proxy.gol", "ang.org"),
];

/// Lints the files git knows under `repo`, one test a rule.
///
/// # Errors
///
/// git can't list them.
pub fn run(repo: &Path) -> anyhow::Result<Vec<Test>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .output()
        .context("git: cannot be started")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let mut no_licence = Vec::new();
    let mut machine = Vec::new();
    let mut files = 0;
    for name in output.stdout.split(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(name);
        let Ok(bytes) = fs::read(repo.join(name.as_ref())) else {
            continue;
        };
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        files += 1;
        if wants_licence(&name) && !has_licence(&text) {
            no_licence.push(name.to_string());
        }
        machine.extend(machine_names(&text).map(|(line, found)| format!("{name}:{line}: {found}")));
    }
    Ok(vec![
        verdict(
            "files are listed",
            if files > 0 {
                vec![]
            } else {
                vec!["none".into()]
            },
        ),
        verdict("every file names its licence", no_licence),
        verdict("no file names a machine or mirror", machine),
    ])
}

fn verdict(name: &str, found: Vec<String>) -> Test {
    if found.is_empty() {
        Test::new(name, Status::Pass)
    } else {
        Test::new(name, Status::Fail).because(found.join(", "))
    }
}

fn wants_licence(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    !(NO_SPDX.contains(&extension)
        || file.starts_with("LICENSE")
        || DATA.iter().any(|folder| name.contains(folder)))
}

/// The line stands among the first ones, after an interpreter line perhaps.
fn has_licence(text: &str) -> bool {
    text.lines()
        .take(3)
        .any(|line| line.contains("SPDX-License-Identifier: "))
}

fn machine_names(text: &str) -> impl Iterator<Item = (usize, String)> + '_ {
    text.lines().enumerate().flat_map(|(index, line)| {
        MACHINE
            .iter()
            .map(|(a, b)| format!("{a}{b}"))
            .filter(move |name| line.contains(name.as_str()))
            .map(move |name| (index + 1, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources need the line, data and lock files don't.
    #[test]
    fn licence_rule() {
        assert!(wants_licence("tools/dev/src/main.rs") && wants_licence("Makefile"));
        assert!(wants_licence(".ci/run"));
        assert!(!wants_licence("tools/Cargo.lock") && !wants_licence("LICENSE-MIT"));
        assert!(!wants_licence("tools/vaccel-smoke/data/a.npy"));
        assert!(has_licence("#!/bin/sh\n# SPDX-License-Identifier: MIT\n"));
        assert!(!has_licence("// nothing\n"));
    }

    /// A machine's name is found with its line.
    #[test]
    fn machine_rule() {
        let text = format!("a\nsee {}{}/x\n", "/work", "/main");
        let found: Vec<_> = machine_names(&text).collect();
        assert_eq!(found, [(2, format!("{}{}", "/work", "/main"))]);
        assert_eq!(machine_names("/usr/share/doc").count(), 0);
    }
}
