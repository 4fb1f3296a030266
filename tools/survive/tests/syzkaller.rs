// SPDX-License-Identifier: MIT OR Apache-2.0
//! The description for syzkaller against the header: its own compiler is not at hand, so this is what
//! keeps it complete.

use std::collections::BTreeMap;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn header() -> String {
    // Without its comments.
    let text = read("include/uapi/drm/vaccel_accel.h");
    let mut parts = text.split("/*");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once("*/").map_or("", |(_, rest)| rest));
    }
    out
}

fn description() -> String {
    read("tools/syzkaller/dev_vaccel.txt")
}

/// Name and bytes of each field of each structure.
type Structures = BTreeMap<String, Vec<(String, u32)>>;

/// From "struct NAME {" to "};", one field a line.
fn of_header(text: &str) -> Structures {
    let mut all = Structures::new();
    let mut name = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("struct drm_vaccel_") {
            name = rest
                .strip_suffix(" {")
                .map(|rest| format!("drm_vaccel_{rest}"));
        } else if line == "};" {
            name = None;
        } else if let (Some(name), Some((kind, field))) =
            (&name, line.trim_end_matches(';').rsplit_once(' '))
        {
            let bytes = match kind {
                "__u32" | "__s32" => 4,
                "__u64" | "struct drm_event" => 8,
                other => panic!("{name}: {other}"),
            };
            let (field, count) = match field.trim_end_matches(']').split_once('[') {
                Some((field, count)) => (field, count.parse().unwrap()),
                None => (field, 1),
            };
            let fields = all.entry(name.clone()).or_default();
            fields.push((field.to_owned(), bytes * count));
        }
    }
    all
}

fn bytes_of(kind: &str) -> u32 {
    if let Some(array) = kind.strip_prefix("array[") {
        let (element, count) = array.trim_end_matches(']').rsplit_once(", ").unwrap();
        return bytes_of(element) * count.parse::<u32>().unwrap();
    }
    match kind {
        _ if kind.contains("int64") || kind == "vaccel_offset" => 8,
        _ if kind.contains("int32") => 4,
        // Handles and descriptors.
        _ if kind.starts_with("vaccel_") || kind.starts_with("fd") => 4,
        other => panic!("{other}"),
    }
}

/// From "NAME {" to "}", one field a line.
fn of_description(text: &str) -> Structures {
    let mut all = Structures::new();
    let mut name = None;
    for line in text.lines() {
        match line.strip_suffix(" {") {
            Some(start) => name = Some(start.to_owned()),
            None if line == "}" => name = None,
            None => {}
        }
        let mut words = line.split('\t').filter(|word| !word.is_empty());
        if let (Some(name), true) = (&name, line.starts_with('\t')) {
            let field = words.next().unwrap().to_owned();
            let bytes = bytes_of(words.next().unwrap());
            all.entry(name.clone()).or_default().push((field, bytes));
        }
    }
    all
}

/// Proves that each structure of the header is described, field by field, with the same sizes.
#[test]
fn structures() {
    let described = of_description(&description());
    let all = of_header(&header());
    assert!(all.len() > 30, "the header has {} structures", all.len());
    for (name, fields) in all {
        assert_eq!(described.get(&name), Some(&fields), "{name}");
    }
}

/// Proves that each ioctl and each command of io_uring is described, with its structure.
#[test]
fn operations() {
    let (header, description) = (header(), description());
    let mut ioctls = 0;
    for part in header.split("DRM_IOCTL_VACCEL_").skip(1) {
        let (name, rest) = part.split_once(" =").unwrap();
        let structure = rest.split_once(");").map_or(rest, |(rest, _)| rest);
        let structure = structure.rsplit(", ").next().unwrap();
        let structure = structure.split(')').next().unwrap();
        let line = format!(
            "ioctl$DRM_IOCTL_VACCEL_{name}(fd fd_vaccel, cmd const[DRM_IOCTL_VACCEL_{name}], \
             arg ptr[inout, {structure}])"
        );
        assert!(description.lines().any(|other| other == line), "{line}");
        ioctls += 1;
    }
    assert_eq!(ioctls, libvaccel::ioctl::OPERATIONS.len());
    let commands = header.split("VACCEL_URING_CMD_").skip(1);
    for name in commands.filter_map(|part| part.split_once(" =").map(|(name, _)| name)) {
        assert!(
            description.contains(&format!("VACCEL_URING_CMD_{name}")),
            "{name}"
        );
    }
}

/// Beginnings of the constants that the driver gives, and of limits: nothing to be chosen.
const GIVEN: &[&str] = &[
    "VACCEL_FEATURE_",
    "VACCEL_HOST_CAP_",
    "VACCEL_STATE_",
    "VACCEL_RECLAIMED_",
    "VACCEL_EVENT_",
    "VACCEL_URING_RECORDED",
    "VACCEL_PAGE_SIZE",
    "VACCEL_IOCTL",
];

/// Proves that each constant that a program can choose is described.
#[test]
fn constants() {
    let (header, description) = (header(), description());
    let words: Vec<&str> = description
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    let defined = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .filter_map(|line| line.split([' ', '\t', '(']).next())
        .filter(|name| name.starts_with("VACCEL_") && !name.ends_with("_MAX"))
        .filter(|name| !GIVEN.iter().any(|given| name.starts_with(given)));
    let mut count = 0;
    for name in defined {
        assert!(words.contains(&name), "{name}");
        count += 1;
    }
    assert!(count > 60, "the header has {count} constants");
}
