// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds splats in a kernel log: warnings, oopses and checkers' reports, after
//! which a run has failed whatever its tests say.
//!
//! The first line of each report is what is looked for; the rest of a report
//! is not. Plans may allow a line by a piece of its text (a fault that a test
//! provokes on purpose).

/// The first lines of reports, as the kernel prints them.
const SIGNS: &[&str] = &[
    "BUG:",
    "WARNING: CPU:",
    "WARNING: possible ",
    "WARNING: suspicious ",
    "WARNING: inconsistent ",
    "WARNING: bad unlock",
    "WARNING: held lock",
    "WARNING: lock held",
    "WARNING: nested lock",
    "WARNING: at ",
    "WARNING: drivers/",
    "WARNING: kernel/",
    "WARNING: mm/",
    "WARNING: lib/",
    "WARNING: rust/",
    "KASAN: ",
    "KFENCE: ",
    "KMSAN: ",
    "KCSAN: ",
    "UBSAN: ",
    "kernel BUG at",
    "rust_kernel: panicked",
    "panicked at",
    "Oops: ",
    "Oops[",
    "general protection fault",
    "Unable to handle kernel",
    "unable to handle page fault",
    "Kernel panic",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "possible deadlock",
    "inconsistent lock state",
    "suspicious RCU usage",
    "scheduling while atomic",
    "sleeping function called from invalid context",
    "trying to register non-static key",
    "INFO: task ",
    "INFO: rcu_",
    "rcu: INFO: ",
    "self-detected stall",
    "detected stalls on",
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "workqueue lockup",
    "new suspected memory leaks",
    "unreferenced object 0x",
    "ODEBUG: ",
    "DMA-API: ",
    "refcount_t: ",
    "list_add corruption",
    "list_del corruption",
    "Bad page state",
    "Bad rss-counter",
    "cut here",
    "Call Trace:",
    "segfault at",
    "double fault",
    "Objects remaining in",
    "slab error in",
    "stack overflow",
    "lockdep is turned off",
    "Fixing recursive fault",
];

/// Lines that contain a sign and mean no harm.
const HARMLESS: &[&str] = &[
    // Announcements of the checkers themselves.
    "KernelAddressSanitizer initialized",
    "Kernel memory leak detector initialized",
    "DMA-API: preallocated",
    "DMA-API: debugging enabled by kernel config",
    "DMA-API: enable driver filter for driver",
    "DMA-API: debugging disabled",
];

/// Returns the lines of `log` that start a splat, except those containing one
/// of the `allowed` texts.
pub fn scan<'a>(log: &'a str, allowed: &[String]) -> Vec<&'a str> {
    log.lines()
        .map(str::trim_end)
        .filter(|line| SIGNS.iter().any(|sign| line.contains(sign)))
        .filter(|line| !HARMLESS.iter().any(|text| line.contains(text)))
        .filter(|line| !allowed.iter().any(|text| line.contains(text.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = include_str!("../testdata/clean.log");

    /// An ordinary boot on the debug kernel, with its checkers' announcements,
    /// is clean: a scanner that cries wolf would be switched off.
    #[test]
    fn clean_boot_is_clean() {
        assert_eq!(scan(CLEAN, &[]), Vec::<&str>::new());
    }

    /// Every block of the sample file (separated by blank lines) is one report
    /// of one checker, and each is found, alone and within a clean log.
    #[test]
    fn every_kind_of_report_is_found() {
        let dirty = include_str!("../testdata/splats.log");
        let blocks: Vec<&str> = dirty.split("\n\n").collect();
        assert!(blocks.len() >= 20, "only {} samples", blocks.len());
        for block in blocks {
            assert!(!scan(block, &[]).is_empty(), "missed:\n{block}");
            let log = format!("{CLEAN}{block}\n{CLEAN}");
            assert!(!scan(&log, &[]).is_empty(), "missed within a log:\n{block}");
        }
    }

    /// What a plan allows is passed over, and only that.
    #[test]
    fn allowed_text_is_passed_over() {
        let log = "[ 1.0] BUG: one\n[ 2.0] BUG: two\n";
        assert_eq!(scan(log, &["BUG: one".into()]), ["[ 2.0] BUG: two"]);
    }
}
