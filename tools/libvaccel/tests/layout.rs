// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares `libvaccel::sys` with the C header: a C compiler checks every size, offset, constant
//! and request number, and a scan of the header makes sure that nothing is missing here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libvaccel::{ioctl, sys};

/// What the header takes from the kernel's drm.h, so that the test needs no kernel headers.
const DRM_H: &str = "
typedef unsigned int __u32; typedef signed int __s32; typedef unsigned long long __u64;
#define DRM_COMMAND_BASE 0x40
#define DRM_IOWR(nr, type) ((3u << 30) | ((unsigned)sizeof(type) << 16) | ('d' << 8) | (nr))
struct drm_event { __u32 type; __u32 length; };
";

fn header() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include/uapi/drm/vaccel_accel.h")
}

fn text() -> String {
    std::fs::read_to_string(header()).expect("the header is in the repository")
}

/// Compiles `asserts` behind the header; the compiler's words on failure.
fn compile(asserts: &str, mode: &str) -> Result<(), String> {
    let body = text().replace("#include \"drm.h\"", DRM_H);
    let source = format!("{body}\n#define offset(s, m) __builtin_offsetof(s, m)\n{asserts}\n");
    let mut child = Command::new("cc")
        .args([
            mode,
            "-std=gnu11",
            "-ffreestanding",
            "-fsyntax-only",
            "-x",
            "c",
            "-",
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a C compiler named cc");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin
        .write_all(source.as_bytes())
        .expect("the compiler reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the compiler ends");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn plain(field: &str) -> &str {
    field.trim_start_matches("r#")
}

fn asserts() -> String {
    let mut out = String::new();
    for layout in sys::layouts() {
        let name = layout.c_name;
        writeln!(
            out,
            "_Static_assert(sizeof(struct {name}) == {}, \"{name}\");",
            layout.size
        )
        .unwrap();
        for (field, offset, size) in layout.fields {
            let field = plain(field);
            writeln!(
                out,
                "_Static_assert(offset(struct {name}, {field}) == {offset} && \
                 sizeof(((struct {name} *)0)->{field}) == {size}, \"{name}.{field}\");"
            )
            .unwrap();
        }
    }
    for (name, value) in sys::constants_by_name() {
        writeln!(
            out,
            "_Static_assert(VACCEL_{name} == {value}ull, \"{name}\");"
        )
        .unwrap();
    }
    for (name, number, request) in ioctl::OPERATIONS {
        writeln!(
            out,
            "_Static_assert(DRM_VACCEL_{name} == {number} && \
             (unsigned)DRM_IOCTL_VACCEL_{name} == {request}u, \"{name}\");"
        )
        .unwrap();
    }
    writeln!(
        out,
        "_Static_assert(DRM_VACCEL_CANCEL == {}, \"CANCEL\");",
        ioctl::CANCEL_NUMBER
    )
    .unwrap();
    out
}

/// Proves that every size, offset, constant and request number is the C compiler's, for 64-bit and
/// 32-bit programs.
#[test]
fn agrees_with_the_c_compiler() {
    for mode in ["-m64", "-m32"] {
        if let Err(words) = compile(&asserts(), mode) {
            panic!("{mode}: {words}");
        }
    }
}

/// Proves that the comparison can fail: a size that is off by eight is found.
#[test]
fn a_wrong_layout_is_found() {
    let wrong = "_Static_assert(sizeof(struct drm_vaccel_submit) == 80, \"submit\");";
    assert!(compile(wrong, "-m64").is_err());
}

/// Proves that the tables leave nothing out: each structure with each field, each constant, each
/// operation of the header.
#[test]
fn nothing_is_missing() {
    let text = text();
    let mut structs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut constants = BTreeSet::new();
    let mut operations = BTreeSet::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("struct ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            current = Some(name.to_owned());
            structs.insert(name.to_owned(), Vec::new());
        } else if line.starts_with("};") {
            current = None;
        } else if let Some(name) = &current {
            let line = line.trim();
            if line.starts_with("__") || line.starts_with("struct ") {
                let field = line
                    .trim_end_matches(';')
                    .split_whitespace()
                    .last()
                    .unwrap();
                let field = field.split('[').next().unwrap();
                structs.get_mut(name).unwrap().push(field.to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("#define ") {
            let name = rest.split(['\t', ' ', '(']).next().unwrap();
            if let Some(name) = name.strip_prefix("VACCEL_") {
                constants.insert(name.to_owned());
            } else if let Some(name) = name.strip_prefix("DRM_VACCEL_") {
                operations.insert(name.to_owned());
            }
        }
    }
    // Not constants of the interface.
    constants.remove("IOCTL");

    let ours: BTreeMap<String, Vec<String>> = sys::layouts()
        .map(|layout| {
            let fields = layout.fields.iter().map(|field| plain(field.0).to_owned());
            (layout.c_name.to_owned(), fields.collect())
        })
        .collect();
    assert!(
        structs.len() > 30,
        "the scan found {} structures",
        structs.len()
    );
    assert_eq!(structs, ours);

    let ours: BTreeSet<String> = sys::constants_by_name().map(|c| c.0.to_owned()).collect();
    assert!(
        constants.len() > 80,
        "the scan found {} constants",
        constants.len()
    );
    assert_eq!(constants, ours);

    let mut ours: BTreeSet<String> = ioctl::OPERATIONS.iter().map(|op| op.0.to_owned()).collect();
    ours.insert("CANCEL".to_owned());
    assert_eq!(operations, ours);
}
