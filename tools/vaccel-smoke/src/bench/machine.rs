// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that was measured, and the kernel's own counts of memory.

use std::fs;

use serde::Serialize;

/// What was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Processors.
    pub cpus: usize,
    /// What the processors call themselves.
    pub cpu_model: Option<String>,
    /// The processors say that they are a hypervisor's.
    pub virtual_machine: bool,
    /// Memory.
    pub memory_bytes: u64,
    /// Huge pages for anonymous memory: the kernel's setting.
    pub huge_pages: Option<String>,
    /// Huge pages for shared memory of the kernel's own, which objects and memfds are made of.
    pub shmem_huge_pages: Option<String>,
}

impl Machine {
    /// This one.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let setting = |name: &str| {
            chosen(&read(&format!(
                "/sys/kernel/mm/transparent_hugepage/{name}"
            )))
        };
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: value(&cpuinfo, "model name").map(str::to_owned),
            virtual_machine: value(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            memory_bytes: meminfo("MemTotal"),
            huge_pages: setting("enabled"),
            shmem_huge_pages: setting("shmem_enabled"),
        }
    }
}

/// The chosen word of a list such as `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The value of `key` in a text of `key : value` lines.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// Bytes in a value such as `123 kB`.
fn bytes(value: &str) -> Option<u64> {
    let number: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(number << 10)
}

/// A count of /proc/meminfo, in bytes; 0 if the kernel has none of this name.
pub fn meminfo(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    value(&text, key).and_then(bytes).unwrap_or(0)
}

/// Page faults of this process so far that needed no disk.
pub fn faults() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    minor_faults(&text).unwrap_or(0)
}

/// The count in a line of /proc/PID/stat, whose second word may hold blanks and brackets.
fn minor_faults(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(7)?.parse().ok()
}

/// What an open file of the driver has pinned, in bytes.
pub fn pinned(descriptor: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    bytes(value(&text, "vaccel-pinned")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves how the kernel's texts are read.
    #[test]
    fn texts() {
        assert_eq!(chosen("always [madvise] never\n").unwrap(), "madvise");
        assert_eq!(chosen("nothing"), None);
        let text = "MemTotal:  12 kB\nmodel name\t: A B: C\nvaccel-pinned:\t4 KiB\n";
        assert_eq!(value(text, "MemTotal").and_then(bytes), Some(12 << 10));
        assert_eq!(value(text, "model name"), Some("A B: C"));
        assert_eq!(value(text, "vaccel-pinned").and_then(bytes), Some(4096));
        assert_eq!(value(text, "Mem"), None);
        let stat = "1 (a ) b) S 0 1 1 0 -1 4194560 1234 5 6 7 8";
        assert_eq!(minor_faults(stat), Some(1234));
    }

    /// Proves that this machine is described.
    #[test]
    fn this_machine() {
        let machine = Machine::read();
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
    }
}
