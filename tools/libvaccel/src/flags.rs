// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flag sets. `from_bits` refuses bits that the interface does not define.

use crate::ioctl::syncobj;
use crate::sys;

bitflags::bitflags! {
    /// How a vm works.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmFlags: u32 {
        /// User space keeps its objects resident by itself.
        const MANUAL_RESIDENCY = sys::VM_MANUAL_RESIDENCY;
    }

    /// What an object is made for.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct BoFlags: u32 {
        /// The GPU may only read it.
        const READ_ONLY = sys::BO_READ_ONLY;
        /// Host memory that may be exported as a dma-buf. Guest memory always may.
        const SHAREABLE = sys::BO_SHAREABLE;
    }

    /// What the GPU may do through a binding.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct BindFlags: u32 {
        /// Write.
        const WRITE = sys::BIND_WRITE;
        /// Fetch code.
        const EXECUTE = sys::BIND_EXECUTE;
    }

    /// In which direction caches are made right.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SyncFlags: u32 {
        /// The CPU is about to read or write.
        const FOR_CPU = sys::SYNC_FOR_CPU;
        /// The GPU is about to read or write.
        const FOR_DEVICE = sys::SYNC_FOR_DEVICE;
    }

    /// How objects are made resident.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ResidentFlags: u32 {
        /// The caller has nothing left to evict: over the budget, if there is memory.
        const CANT_TRIM = sys::RESIDENT_CANT_TRIM;
    }

    /// Events that a file asks for.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EventMask: u32 {
        /// The budget of a segment group changed, or usage crossed it.
        const BUDGET = 1 << (sys::EVENT_BUDGET & 0x1f);
        /// A vm changed state.
        const VM_STATE = 1 << (sys::EVENT_VM_STATE & 0x1f);
    }

    /// How a fence is made.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FenceFlags: u32 {
        /// May be turned into a file descriptor.
        const SHAREABLE = sys::FENCE_SHAREABLE;
        /// Its value is not mapped.
        const NO_MMAP = sys::FENCE_NO_MMAP;
    }

    /// How the submission uses an object that others use too.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AccessFlags: u32 {
        /// It writes; otherwise it reads.
        const WRITE = sys::ACCESS_WRITE;
        /// The queue waits until the object may be accessed that way.
        const WAIT = sys::ACCESS_WAIT;
    }

    /// What of a syncobj's point is waited for. None: that the fence that is there signals.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SyncObjWait: u32 {
        /// A fence that is still missing is waited for.
        const FOR_SUBMIT = syncobj::WAIT_FOR_SUBMIT;
        /// That a fence is there is enough.
        const AVAILABLE = syncobj::WAIT_AVAILABLE;
    }

    /// What the driver provides.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Argument objects and submission.
        const ARG_SUBMIT = sys::FEATURE_ARG_SUBMIT;
        /// Fence values can be mapped.
        const FENCE_MMAP = sys::FEATURE_FENCE_MMAP;
        /// Objects in host memory.
        const HOST_MEMORY = sys::FEATURE_HOST_MEMORY;
        /// Residency by hand.
        const MANUAL_RESIDENCY = sys::FEATURE_MANUAL_RESIDENCY;
        /// Fences as file descriptors.
        const FENCE_SHARING = sys::FEATURE_FENCE_SHARING;
        /// Fences to and from syncobj and sync_file.
        const SYNC_BRIDGE = sys::FEATURE_SYNC_BRIDGE;
        /// Operations as io_uring commands.
        const URING = sys::FEATURE_URING;
        /// Events by read().
        const EVENTS = sys::FEATURE_EVENTS;
        /// dma-bufs of other drivers and adapters.
        const IMPORT = sys::FEATURE_IMPORT;
        /// Reserved GPU addresses.
        const VA_RESERVE = sys::FEATURE_VA_RESERVE;
        /// Objects whose content the host may drop.
        const OFFER = sys::FEATURE_OFFER;
        /// Bindings and residency in queue order.
        const QUEUED_BIND = sys::FEATURE_QUEUED_BIND;
        /// Opaque exchanges with the host's driver.
        const ESCAPE = sys::FEATURE_ESCAPE;
    }

    /// What the host provides.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HostCaps: u64 {
        /// Guest memory as page lists.
        const PAGE_LISTS = sys::HOST_CAP_PAGE_LISTS;
        /// Asynchronous submissions.
        const ASYNC = sys::HOST_CAP_ASYNC;
        /// Hardware queues.
        const HW_QUEUES = sys::HOST_CAP_HW_QUEUES;
    }
}

/// Names of the set bits in lower case; unknown ones as numbers.
pub(crate) fn names<F: bitflags::Flags<Bits = u64>>(flags: &F) -> Vec<String> {
    let mut names: Vec<String> = flags
        .iter_names()
        .map(|(name, _)| name.to_lowercase().replace('_', "-"))
        .collect();
    let known = F::all().bits();
    let unknown = flags.bits() & !known;
    if unknown != 0 {
        names.push(format!("{unknown:#x}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a bit outside of the interface is refused rather than passed on.
    #[test]
    fn unknown_bits_are_refused() {
        assert!(BindFlags::from_bits(0x8000_0000).is_none());
        assert_eq!(BindFlags::from_bits(1), Some(BindFlags::WRITE));
    }

    /// Proves that what a newer driver announces is shown, not dropped.
    #[test]
    fn unknown_features_are_named_by_number() {
        let flags = Features::from_bits_retain(sys::FEATURE_FENCE_MMAP | 1 << 40);
        assert_eq!(names(&flags), ["fence-mmap", "0x10000000000"]);
    }
}
