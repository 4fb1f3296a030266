// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the guest's SynIC is KVM's or this program's.

use kvm_bindings::{kvm_enable_cap, KVM_CAP_HYPERV_SYNIC2};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use super::{failed, KvmError};

/// Who has the Hyper-V registers of the guest, and takes its hypercalls first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// KVM.
    Kvm,
    /// This program.
    UserSpace,
}

impl Backend {
    /// The one asked for, or KVM's if there is none asked for and KVM has one.
    ///
    /// # Errors
    ///
    /// Fails if KVM does not have what it takes.
    pub fn choose(kvm: &Kvm, wanted: Option<Self>) -> Result<Self, ProbeError> {
        let has = Has {
            synic: kvm.check_extension_raw(KVM_CAP_HYPERV_SYNIC2.into()) > 0,
            user_space: [Cap::X86UserSpaceMsr, Cap::X86MsrFilter, Cap::SignalMsi]
                .into_iter()
                .all(|cap| kvm.check_extension(cap)),
        };
        has.choose(wanted)
    }
}

/// Enables KVM's SynIC of a processor.
///
/// # Errors
///
/// Fails if KVM refuses.
pub fn enable_synic(vcpu: &VcpuFd) -> Result<(), KvmError> {
    vcpu.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_HYPERV_SYNIC2,
        ..Default::default()
    })
    .map_err(failed("enable the SynIC"))
}

/// What KVM has.
struct Has {
    synic: bool,
    user_space: bool,
}

impl Has {
    fn choose(&self, wanted: Option<Backend>) -> Result<Backend, ProbeError> {
        match wanted {
            Some(Backend::Kvm) if !self.synic => Err(ProbeError::NoSynic),
            Some(Backend::UserSpace) if !self.user_space => Err(ProbeError::NoUserSpace),
            Some(wanted) => Ok(wanted),
            None if self.synic => Ok(Backend::Kvm),
            None if self.user_space => Ok(Backend::UserSpace),
            None => Err(ProbeError::Neither),
        }
    }
}

/// Checks that /dev/kvm opens and can be a host for VMBus, with the SynIC `wanted` or any.
///
/// # Errors
///
/// Says which is missing.
pub fn probe(wanted: Option<Backend>) -> Result<(), ProbeError> {
    let kvm = Kvm::new().map_err(ProbeError::Open)?;
    Backend::choose(&kvm, wanted).map(drop)
}

/// Why KVM here is no host for VMBus.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// /dev/kvm does not open.
    #[error("/dev/kvm does not open: {0}")]
    Open(kvm_ioctls::Error),
    /// KVM was built without Hyper-V support.
    #[error("KVM here has no Hyper-V SynIC (kernel option KVM_HYPERV); --synic user does without")]
    NoSynic,
    /// KVM is too old.
    #[error("KVM here leaves no registers to user space (Linux 5.10 does)")]
    NoUserSpace,
    /// KVM is too old and was built without Hyper-V support.
    #[error(
        "KVM here has neither a Hyper-V SynIC (kernel option KVM_HYPERV) nor leaves registers to \
         user space (Linux 5.10 does)"
    )]
    Neither,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KVM's SynIC is taken where there is one; what was asked for is never replaced.
    #[test]
    fn choices() {
        let choose = |synic, user_space, wanted| {
            let has = Has { synic, user_space };
            has.choose(wanted).map_err(|error| error.to_string())
        };
        assert_eq!(choose(true, true, None), Ok(Backend::Kvm));
        assert_eq!(choose(false, true, None), Ok(Backend::UserSpace));
        assert!(choose(false, false, None).is_err());
        let user = Some(Backend::UserSpace);
        assert_eq!(choose(true, true, user), Ok(Backend::UserSpace));
        assert!(choose(true, false, user).is_err());
        let error = choose(false, true, Some(Backend::Kvm)).unwrap_err();
        assert!(error.contains("--synic user"), "{error}");
    }
}
