// SPDX-License-Identifier: MIT OR Apache-2.0
//! What in a kernel log means that something broke. The one list of this program.

/// Texts of which none may be in a line.
const SPLATS: &[&str] = &[
    // The head of every WARN and BUG report.
    "------------[ cut here ]------------",
    "kernel BUG at",
    "BUG: ",
    "Oops",
    "Kernel panic",
    "general protection fault",
    "double fault",
    "Unable to handle kernel",
    "scheduling while atomic",
    "sleeping function called from invalid context",
    // Sanitizers.
    "KASAN:",
    "KCSAN:",
    "KMSAN:",
    "UBSAN:",
    "KFENCE:",
    "ODEBUG:",
    "DMA-API:",
    // lockdep.
    "possible circular locking dependency",
    "possible recursive locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "bad unlock balance",
    "lock held when returning to user space",
    "held lock freed",
    "suspicious RCU usage",
    "Invalid wait context",
    "turning off the locking correctness validator",
    "DEBUG_LOCKS_WARN_ON",
    // Hangs.
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "detected stall",
    "detected expedited stall",
    "workqueue lockup",
    // Reference counts, lists, slabs.
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "Objects remaining",
    "Poison overwritten",
    "Redzone overwritten",
    "kmemleak: ",
    // Rust.
    "rust_kernel: panicked",
    "panicked at",
];

/// Lines that contain one of the above and mean nothing.
const HARMLESS: &[&str] = &[
    // State of the checker, not a report.
    "kmemleak: Kernel memory leak detector initialized",
    "kmemleak: Automatic memory scanning thread",
    "kmemleak: Early log buffer exceeded",
    "kmemleak: Memory pool initialized",
    "DMA-API: preallocated",
    "DMA-API: debugging enabled by kernel config",
    "DMA-API: enable driver filter for driver",
];

/// Taint bits that only a report sets: machine check, bad page, died, warning. That of a soft lockup is
/// not one: sw_sync sets it with each fence that is made, and a lockup has a line of its own.
const REPORT_TAINTS: u64 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 9;

/// Whether a line is the sign of a fault, given what the plan allows.
pub fn is_splat(line: &str, allowed: &[String]) -> bool {
    SPLATS.iter().any(|splat| line.contains(splat))
        && !HARMLESS.iter().any(|text| line.contains(text))
        && !allowed.iter().any(|text| line.contains(text.as_str()))
}

/// The taint bits in `/proc/sys/kernel/tainted` that mean a fault.
pub fn report_taints(text: &str) -> u64 {
    text.trim().parse::<u64>().unwrap_or(0) & REPORT_TAINTS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that reports of each checker are found.
    #[test]
    fn reports_are_found() {
        for line in [
            "WARNING: CPU: 0 PID: 1 at x.c:3\n------------[ cut here ]------------",
            "BUG: KASAN: slab-use-after-free in vaccel_x+0x1/0x2 [vaccel]",
            "WARNING: possible circular locking dependency detected",
            "INFO: task vaccel-smoke:71 blocked for more than 120 seconds.",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [vaccel-selftest:7]",
            "BUG: sleeping function called from invalid context at kernel/mutex.c:1",
            "UBSAN: shift-out-of-bounds in a.c:1:2",
            "rust_kernel: panicked at lib.rs:4:5:",
            "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        ] {
            assert!(is_splat(line, &[]), "{line}");
        }
    }

    /// Proves that an ordinary boot is quiet, with the warnings that processors of virtual
    /// machines cause.
    #[test]
    fn ordinary_lines_pass() {
        for line in [
            "Speculative Return Stack Overflow: WARNING: See https://kernel.org/doc/...",
            "vaccel: loading out-of-tree module taints kernel.",
            "kmemleak: Kernel memory leak detector initialized (mem pool available: 15000)",
            "Console: colour dummy device 80x25",
            "debug: unmapping init [mem 0xffffffff83a00000-0xffffffff83bfffff]",
        ] {
            assert!(!is_splat(line, &[]), "{line}");
        }
    }

    /// Proves that the plan can allow a line it provokes, and no other.
    #[test]
    fn allowed_lines() {
        let allowed = vec!["vaccel-test".to_owned()];
        assert!(!is_splat("BUG: vaccel-test", &allowed));
        assert!(is_splat("BUG: other", &allowed));
    }

    /// Proves that the taints of an unsigned out-of-tree module, and of sw_sync, are not faults, and a
    /// warning is.
    #[test]
    fn taints() {
        assert_eq!(report_taints("12288\n"), 0);
        assert_eq!(report_taints("278528\n"), 0);
        assert_eq!(report_taints("12800\n"), 512);
        assert_eq!(report_taints(""), 0);
    }
}
