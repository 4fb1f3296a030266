// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses how the guest's processors are run.
//!
//! That /dev/kvm opens says little: a KVM without hardware virtualisation behind it opens too, and
//! fails at instructions every distribution kernel uses. The processor's vmx or svm flag decides,
//! and whether KVM has what VMBus needs.

use std::fmt;
use std::fs;

use crate::cli::{AccelArg, RunArgs};

/// How the guest's processors are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    /// KVM on this machine.
    Kvm,
    /// KVM inside a machine emulated by QEMU; says why.
    Tcg(String),
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kvm => f.write_str("accelerator: KVM"),
            Self::Tcg(reason) => write!(f, "accelerator: TCG with emulated SVM ({reason})"),
        }
    }
}

/// Chooses by what was asked for and what this machine has.
pub fn choose(args: &RunArgs) -> Accelerator {
    match args.accel {
        _ if args.count_instructions => {
            Accelerator::Tcg("asked for, with a clock that counts instructions".into())
        }
        AccelArg::Kvm => Accelerator::Kvm,
        AccelArg::Tcg => Accelerator::Tcg("asked for".into()),
        AccelArg::Auto => {
            let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let probe = vmm::kvm::probe(args.synic.backend()).map_err(|error| error.to_string());
            detect(&cpuinfo, probe)
        }
    }
}

fn detect(cpuinfo: &str, probe: Result<(), String>) -> Accelerator {
    let has_flag = cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_ascii_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm");
    match (has_flag, probe) {
        (false, _) => Accelerator::Tcg("no vmx/svm on this machine".into()),
        (true, Err(reason)) => Accelerator::Tcg(reason),
        (true, Ok(())) => Accelerator::Kvm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KVM is chosen only with both the processor flag and a good probe; the reason is named.
    #[test]
    fn detection() {
        let amd = "processor : 0\nflags\t\t: fpu svm npt\n";
        let none = "model name : has svm in its name\nflags\t\t: fpu svml\n";
        assert_eq!(detect(amd, Ok(())), Accelerator::Kvm);
        assert_eq!(
            detect(amd, Err("/dev/kvm does not open".into())).to_string(),
            "accelerator: TCG with emulated SVM (/dev/kvm does not open)"
        );
        assert_eq!(
            detect(none, Ok(())).to_string(),
            "accelerator: TCG with emulated SVM (no vmx/svm on this machine)"
        );
    }
}
