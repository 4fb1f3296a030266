// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPUID leaves the guest sees.
//!
//! Starts from what KVM supports, then: the KVM signature leaves are replaced by Hyper-V's (a
//! Linux guest that sees both chooses KVM), only the enlightenments listed here are offered,
//! topology says one core a processor, and, for machines whose virtualisation is emulated, XSAVE
//! and everything that needs it is hidden. Leaf layouts: Hyper-V TLFS section 2, AMD and Intel
//! manuals.

use kvm_bindings::kvm_cpuid_entry2;

/// First and last leaf of the range hypervisors use for themselves.
const HYPERVISOR_LEAVES: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_FFFF;
const HV_VENDOR: u32 = 0x4000_0000;
const HV_INTERFACE: u32 = 0x4000_0001;
const HV_FEATURES: u32 = 0x4000_0003;
const HV_RECOMMENDATIONS: u32 = 0x4000_0004;
const HV_LIMITS: u32 = 0x4000_0005;
const HV_HARDWARE: u32 = 0x4000_0006;
/// "Hv#1".
const HV_INTERFACE_1: u32 = 0x3123_7648;

/// Privileges offered with KVM's Hyper-V, leaf 3 EAX: VP runtime, reference counter, SynIC, synthetic timers, APIC
/// assist, hypercall MSRs, VP index, reference TSC page, frequency MSRs.
const PRIVILEGES_LOW: u32 = 0x7F | 1 << 9 | 1 << 11;
/// Privileges offered, leaf 3 EBX: post messages, signal events.
const PRIVILEGES_HIGH: u32 = 1 << 4 | 1 << 5;
/// Features offered, leaf 3 EDX: frequency MSRs, guest crash MSRs, direct synthetic timers.
const FEATURES: u32 = 1 << 8 | 1 << 10 | 1 << 19;
/// Recommendations, leaf 4 EAX: relaxed timing, no automatic end of interrupt.
const RECOMMENDATIONS: u32 = 1 << 5 | 1 << 9;

/// What this program does itself: reference counter, SynIC, hypercall MSRs, VP index, reference TSC
/// page, frequency MSRs; of the features, frequency and guest crash MSRs.
const USER_SPACE_PRIVILEGES: u32 = 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11;
const USER_SPACE_FEATURES: u32 = 1 << 8 | 1 << 10;

/// What VMBus in the guest cannot do without, in leaf 3 EAX and EBX.
const NEEDED: (u32, u32) = (1 << 2 | 1 << 5 | 1 << 6, PRIVILEGES_HIGH);

/// KVM here lacks an enlightenment.
#[derive(Debug, thiserror::Error)]
#[error(
    "this KVM offers Hyper-V privileges {have_low:#x}/{have_high:#x}, \
     VMBus needs {need_low:#x}/{need_high:#x} (kernel option KVM_HYPERV)",
    need_low = NEEDED.0, need_high = NEEDED.1
)]
pub struct MissingEnlightenments {
    /// Leaf 3 EAX.
    pub have_low: u32,
    /// Leaf 3 EBX.
    pub have_high: u32,
}

/// The machine the leaves describe.
#[derive(Debug, Clone, Copy)]
pub struct Topology {
    /// Number of virtual processors.
    pub vcpus: u8,
    /// Hide XSAVE and what depends on it.
    pub hide_xsave: bool,
}

/// The Hyper-V leaves of a machine whose Hyper-V is in user space, in place of those of KVM.
pub fn user_space_leaves() -> Vec<kvm_cpuid_entry2> {
    (HV_VENDOR..=HV_HARDWARE)
        .map(|function| {
            let leaf = kvm_cpuid_entry2 {
                function,
                ..Default::default()
            };
            match function {
                HV_FEATURES => kvm_cpuid_entry2 {
                    eax: USER_SPACE_PRIVILEGES,
                    ebx: PRIVILEGES_HIGH,
                    edx: USER_SPACE_FEATURES,
                    ..leaf
                },
                _ => leaf,
            }
        })
        .collect()
}

/// Builds the leaves of all processors; [`for_vcpu`] makes them those of one.
///
/// # Errors
///
/// Fails if `hyperv`, the leaves KVM supports, lacks what VMBus needs.
pub fn build(
    supported: &[kvm_cpuid_entry2],
    hyperv: &[kvm_cpuid_entry2],
    topology: Topology,
) -> Result<Vec<kvm_cpuid_entry2>, MissingEnlightenments> {
    let mut leaves: Vec<_> = supported
        .iter()
        .filter(|leaf| !HYPERVISOR_LEAVES.contains(&leaf.function))
        // Extended topology, deterministic caches: rebuilt or left out.
        .filter(|leaf| !matches!(leaf.function, 0xB | 0x1F | 0x8000_0026))
        .filter(|leaf| !(topology.hide_xsave && leaf.function == 0xD))
        .copied()
        .collect();
    for leaf in &mut leaves {
        describe(leaf, topology);
    }
    leaves.extend(extended_topology(topology));
    leaves.extend(hyperv_leaves(hyperv, topology)?);
    Ok(leaves)
}

/// Puts the APIC id of one processor into the leaves that carry it.
pub fn for_vcpu(leaves: &mut [kvm_cpuid_entry2], apic_id: u8) {
    let id = u32::from(apic_id);
    for leaf in leaves {
        match leaf.function {
            1 => leaf.ebx = leaf.ebx & 0x00FF_FFFF | id << 24,
            0xB => leaf.edx = id,
            0x8000_001E => {
                leaf.eax = id;
                leaf.ebx = id;
                leaf.ecx = 0;
            }
            _ => {}
        }
    }
}

/// Bits of an APIC id that number the cores.
fn core_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

fn describe(leaf: &mut kvm_cpuid_entry2, topology: Topology) {
    const HYPERVISOR: u32 = 1 << 31;
    const MULTI_THREADING: u32 = 1 << 28;
    let vcpus = u32::from(topology.vcpus);
    match (leaf.function, leaf.index) {
        (1, _) => {
            leaf.ecx |= HYPERVISOR;
            leaf.ebx = leaf.ebx & 0xFF00_FFFF | vcpus << 16;
            leaf.edx &= !MULTI_THREADING;
            if vcpus > 1 {
                leaf.edx |= MULTI_THREADING;
            }
            if topology.hide_xsave {
                // FMA, XSAVE, OSXSAVE, AVX, F16C.
                leaf.ecx &= !(1 << 12 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29);
            }
        }
        (7, 0) if topology.hide_xsave => {
            // AVX2, every AVX-512 part, protection keys, VAES, VPCLMULQDQ, AMX.
            leaf.ebx &= !(1 << 5 | 1 << 16 | 1 << 17 | 1 << 21 | 0xD << 26 | 3 << 30);
            leaf.ecx &= !(1 << 1 | 1 << 3 | 1 << 6 | 1 << 9 | 1 << 10 | 3 << 11 | 1 << 14);
            leaf.edx &= !(3 << 2 | 1 << 8 | 7 << 22);
        }
        (7, _) if topology.hide_xsave => leaf.eax = 0,
        (0x8000_0001, _) if topology.hide_xsave => {
            // XOP, FMA4.
            leaf.ecx &= !(1 << 11 | 1 << 16);
        }
        (0x8000_0008, _) => {
            leaf.ecx = vcpus.saturating_sub(1) | core_bits(topology.vcpus) << 12;
        }
        _ => {}
    }
}

/// Leaf 0xB: one thread a core, all cores in one package.
fn extended_topology(topology: Topology) -> [kvm_cpuid_entry2; 2] {
    const SIGNIFICANT_INDEX: u32 = 1;
    let level = |index, shift, count, kind: u32| kvm_cpuid_entry2 {
        function: 0xB,
        index,
        flags: SIGNIFICANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: index | kind << 8,
        ..Default::default()
    };
    [
        level(0, 0, 1, 1),
        level(1, core_bits(topology.vcpus), u32::from(topology.vcpus), 2),
    ]
}

fn hyperv_leaves(
    hyperv: &[kvm_cpuid_entry2],
    topology: Topology,
) -> Result<Vec<kvm_cpuid_entry2>, MissingEnlightenments> {
    let mut leaves: Vec<_> = hyperv
        .iter()
        .filter(|leaf| (HV_VENDOR..=HV_HARDWARE).contains(&leaf.function))
        .copied()
        .collect();
    let mut have = (0, 0);
    for leaf in &mut leaves {
        match leaf.function {
            HV_VENDOR => {
                let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
                leaf.eax = HV_HARDWARE;
                leaf.ebx = word(b"Micr");
                leaf.ecx = word(b"osof");
                leaf.edx = word(b"t Hv");
            }
            HV_INTERFACE => leaf.eax = HV_INTERFACE_1,
            HV_FEATURES => {
                leaf.eax &= PRIVILEGES_LOW;
                leaf.ebx &= PRIVILEGES_HIGH;
                leaf.ecx = 0;
                leaf.edx &= FEATURES;
                have = (leaf.eax, leaf.ebx);
            }
            HV_RECOMMENDATIONS => {
                leaf.eax = RECOMMENDATIONS;
                // Never notify about long spin-lock waits.
                leaf.ebx = u32::MAX;
                leaf.ecx = 0;
            }
            HV_LIMITS => leaf.eax = u32::from(topology.vcpus),
            HV_HARDWARE => leaf.eax = 0,
            _ => {}
        }
    }
    if have.0 & NEEDED.0 != NEEDED.0 || have.1 & NEEDED.1 != NEEDED.1 {
        return Err(MissingEnlightenments {
            have_low: have.0,
            have_high: have.1,
        });
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Topology = Topology {
        vcpus: 2,
        hide_xsave: true,
    };

    fn leaf(function: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        }
    }

    fn built(topology: Topology) -> Vec<kvm_cpuid_entry2> {
        let supported = [1, 7, 0xB, 0xD, 0x4000_0000, 0x4000_0001, 0x8000_0008].map(leaf);
        let hyperv: Vec<_> = (0x4000_0000..=0x4000_000A).map(leaf).collect();
        build(&supported, &hyperv, topology).unwrap()
    }

    fn find(leaves: &[kvm_cpuid_entry2], function: u32) -> Vec<&kvm_cpuid_entry2> {
        leaves
            .iter()
            .filter(|leaf| leaf.function == function)
            .collect()
    }

    /// The guest sees Hyper-V's signature once and KVM's not at all.
    #[test]
    fn hypervisor_is_hyper_v() {
        let leaves = built(TWO);
        let vendor = find(&leaves, HV_VENDOR);
        assert_eq!(vendor.len(), 1);
        let name: Vec<u8> = [vendor[0].ebx, vendor[0].ecx, vendor[0].edx]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        assert_eq!(name, b"Microsoft Hv");
        assert!(find(&leaves, 0x4000_000A).is_empty());
        assert_eq!(find(&leaves, HV_FEATURES)[0].ebx, PRIVILEGES_HIGH);
    }

    /// Hiding XSAVE removes its leaf and every instruction set that needs it, and nothing else does.
    #[test]
    fn xsave_is_hidden_on_request() {
        let hidden = built(TWO);
        assert!(find(&hidden, 0xD).is_empty());
        assert_eq!(find(&hidden, 1)[0].ecx & (1 << 26 | 1 << 28), 0);
        assert_eq!(find(&hidden, 7)[0].ebx & (1 << 5), 0);
        let shown = built(Topology {
            hide_xsave: false,
            ..TWO
        });
        assert_eq!(find(&shown, 0xD).len(), 1);
        assert_ne!(find(&shown, 1)[0].ecx & 1 << 26, 0);
    }

    /// Each processor carries its own APIC id in every leaf that has one.
    #[test]
    fn apic_ids() {
        let mut leaves = built(TWO);
        for_vcpu(&mut leaves, 1);
        assert_eq!(find(&leaves, 1)[0].ebx >> 24, 1);
        assert!(find(&leaves, 0xB).iter().all(|leaf| leaf.edx == 1));
    }

    /// Nothing is offered in user space that is not done there, and all that VMBus needs is.
    #[test]
    fn user_space() {
        let leaves = build(&[], &user_space_leaves(), TWO).unwrap();
        let features = find(&leaves, HV_FEATURES);
        assert_eq!(features.len(), 1);
        assert_eq!(features[0].eax, USER_SPACE_PRIVILEGES);
        // Synthetic timers, APIC registers.
        assert_eq!(features[0].eax & (1 << 3 | 1 << 4), 0);
        assert_eq!(features[0].ebx, PRIVILEGES_HIGH);
        assert_eq!(features[0].edx, USER_SPACE_FEATURES);
        assert_eq!(find(&leaves, HV_INTERFACE)[0].eax, HV_INTERFACE_1);
        assert_eq!(find(&leaves, HV_LIMITS)[0].eax, 2);
    }

    /// A KVM without SynIC is refused with the privileges it has.
    #[test]
    fn missing_synic() {
        let mut features = leaf(HV_FEATURES);
        features.eax = 1;
        let error = build(&[], &[features], TWO).unwrap_err();
        assert!(error.to_string().contains("0x1/"), "{error}");
    }
}
