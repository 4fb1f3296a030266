// SPDX-License-Identifier: GPL-2.0-only

//! Flag words (protocol 3.6): one type per word, with the bits that have a meaning.
//!
//! Bits without a name are reserved. They are kept as received; [`CreateDeviceFlags::unknown`]
//! and its siblings find them.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Makes flag types: name, word, then `NAME = bit` with a line of documentation each.
macro_rules! flags {
    ($(
        $(#[$meta:meta])*
        $name:ident: $word:ident {
            $($(#[$flag_meta:meta])* $flag:ident = $bit:literal,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout,
            Immutable,
        )]
        #[repr(transparent)]
        pub struct $name($word);

        impl super::wire::Wire for $name {}

        impl $name {
            $($(#[$flag_meta])* pub const $flag: Self = Self(1 << $bit);)*

            /// No flag.
            pub const EMPTY: Self = Self(0);

            /// Every flag that has a name.
            pub const NAMED: &'static [(&'static str, Self)] =
                &[$((stringify!($flag), Self::$flag),)*];

            /// Flags from their word, reserved bits included.
            pub const fn from_bits(bits: $word) -> Self {
                Self(bits)
            }

            /// The whole word.
            pub const fn bits(self) -> $word {
                self.0
            }

            /// Whether all of `flags` are set.
            pub const fn contains(self, flags: Self) -> bool {
                self.0 & flags.0 == flags.0
            }

            /// Both sets together.
            pub const fn union(self, flags: Self) -> Self {
                Self(self.0 | flags.0)
            }

            /// The bits that have no name.
            pub const fn unknown(self) -> $word {
                self.0 & !(0 $(| Self::$flag.0)*)
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, flags: Self) -> Self {
                self.union(flags)
            }
        }
    )*};
}

flags! {
    /// What the guest tells about itself in the PCI configuration window.
    GuestCaps: u32 {
        /// The guest is a WSL2 VM.
        WSL2 = 0,
    }

    /// What the host tells about itself in the PCI configuration window.
    HostCaps: u32 {
        /// Backing store may be given as page numbers.
        MAP_GUEST_MEMORY = 0,
    }

    /// What kind of adapter this is. A guest has no use for it.
    DeviceTypes: u32 {
        /// Shows the firmware's output.
        POST_DEVICE = 0,
        /// Certainly shows the firmware's output.
        POST_DEVICE_CERTAIN = 1,
        /// Done in software.
        SOFTWARE_DEVICE = 2,
        /// Software GPU.
        SOFT_GPU_DEVICE = 3,
        /// Software rasteriser.
        WARP_DEVICE = 4,
        /// Basic display driver.
        BDD_DEVICE = 5,
        /// Wireless display.
        SUPPORT_MIRACAST = 6,
        /// Linked adapters of different kinds.
        MISMATCHED_LDA = 7,
        /// Display without a GPU.
        INDIRECT_DISPLAY_DEVICE = 8,
        /// A console.
        XBOX_ONE_DEVICE = 9,
        /// Clones by child id.
        CHILD_ID_SUPPORT_DWM_CLONE = 10,
        /// Clones by child id, second form.
        CHILD_ID_SUPPORT_DWM_CLONE2 = 11,
        /// Drives a built-in panel.
        HAS_INTERNAL_PANEL = 12,
        /// Virtual GPU of an older kind.
        RFX_VGPU_DEVICE = 13,
        /// Virtual render device.
        VIRTUAL_RENDER_DEVICE = 14,
        /// Keeps the display of the boot phase.
        SUPPORT_PRESERVE_BOOT_DISPLAY = 15,
        /// The firmware's frame buffer.
        IS_UEFI_FRAME_BUFFER = 16,
        /// Can be unplugged.
        REMOVABLE_DEVICE = 17,
        /// Virtual monitor.
        VIRTUAL_MONITOR_DEVICE = 18,
    }

    /// Capabilities of an adapter. Bits 7 and 8 are a number, the hardware support state.
    AdapterCaps: u32 {
        /// The VM is protected from its host.
        SECURE_VIRTUAL_MACHINE = 0,
        /// The VM was reset.
        VIRTUAL_MACHINE_RESET = 1,
        /// Sharing with the host's display is there.
        IS_VAIL_SUPPORTED = 2,
        /// Hardware scheduling is on.
        HW_SCH_ENABLED = 3,
        /// Hardware scheduling is possible.
        HW_SCH_CAPABLE = 4,
        /// The VM's memory is backed by virtual memory of the host.
        VA_BACKED_VM = 5,
        /// The host takes messages without reply; switches the whole VM (protocol 2.5).
        ASYNC_MSG_ENABLED = 6,
    }

    /// What an adapter is, as answered to [`QueryType::ADAPTER_TYPE`](super::QueryType).
    AdapterTypeFlags: u32 {
        /// Can render or compute.
        RENDER_SUPPORTED = 0,
        /// Can display.
        DISPLAY_SUPPORTED = 1,
        /// Done in software.
        SOFTWARE_DEVICE = 2,
        /// Shows the firmware's output.
        POST_DEVICE = 3,
        /// The discrete GPU of a pair.
        HYBRID_DISCRETE = 4,
        /// The integrated GPU of a pair.
        HYBRID_INTEGRATED = 5,
        /// Display without a GPU.
        INDIRECT_DISPLAY_DEVICE = 6,
        /// Virtual.
        PARAVIRTUALIZED = 7,
        /// Works with arbitrary code guard.
        ACG_SUPPORTED = 8,
        /// Display timings can be set.
        SUPPORT_SET_TIMINGS_FROM_VIDPN = 9,
        /// Can be detached.
        DETACHABLE = 10,
        /// Can compute and nothing else.
        COMPUTE_ONLY = 11,
        /// A prototype.
        PROTOTYPE = 12,
    }

    /// How a device is created.
    CreateDeviceFlags: u32 {
        /// Legacy driver model.
        LEGACY_MODE = 0,
        /// Wants vertical synchronisation.
        REQUEST_VSYNC = 1,
        /// No time limit for its work.
        DISABLE_GPU_TIMEOUT = 2,
        /// Belongs to the graphics device interface.
        GDI_DEVICE = 3,
    }

    /// What a reset changed.
    DeviceResetState: u32 {
        /// The desktop was switched.
        DESKTOP_SWITCHED = 0,
    }

    /// How a context is created.
    CreateContextFlags: u32 {
        /// Work is accepted and not done.
        NULL_RENDERING = 0,
        /// The private data is initial data.
        INITIAL_DATA = 1,
        /// No time limit for its work.
        DISABLE_GPU_TIMEOUT = 2,
        /// Only waits and signals.
        SYNCHRONIZATION_ONLY = 3,
        /// Work goes through hardware queues.
        HW_QUEUE_SUPPORTED = 4,
    }

    /// How a hardware queue is created.
    CreateHwQueueFlags: u32 {
        /// No time limit for its work.
        DISABLE_GPU_TIMEOUT = 0,
    }

    /// How allocations are created.
    CreateAllocationFlags: u32 {
        /// Makes a resource around them.
        CREATE_RESOURCE = 0,
        /// Can be shared.
        CREATE_SHARED = 1,
        /// Without access control.
        NON_SECURE = 2,
        /// Protected content.
        CREATE_PROTECTED = 3,
        /// Sharing is restricted.
        RESTRICT_SHARED_ACCESS = 4,
        /// Backed by memory of the guest.
        EXISTING_SYSMEM = 5,
        /// Shared by NT handles.
        NT_SECURITY_SHARING = 6,
        /// The GPU only reads.
        READ_ONLY = 7,
        /// The CPU writes combined.
        CREATE_WRITE_COMBINED = 8,
        /// The CPU accesses cached.
        CREATE_CACHED = 9,
        /// A back buffer.
        SWAP_CHAIN_BACK_BUFFER = 10,
        /// Used by several adapters.
        CROSS_ADAPTER = 11,
        /// Opens one that several adapters use.
        OPEN_CROSS_ADAPTER = 12,
        /// Only part of the set is shared.
        PARTIAL_SHARED_CREATION = 13,
        /// Starts as zeros.
        ZEROED = 14,
        /// Writes are watched.
        WRITE_WATCH = 15,
        /// The private data is a standard description.
        STANDARD_ALLOCATION = 16,
        /// Backed by a section.
        EXISTING_SECTION = 17,
    }

    /// What an allocation became. A guest needs `CACHED` only.
    AllocationFlags: u32 {
        /// Primary.
        PRIMARY = 0,
        /// Primary of the display driver.
        CDD_PRIMARY = 1,
        /// Primary of a display-only driver.
        DOD_PRIMARY = 2,
        /// Overlay.
        OVERLAY = 3,
        /// Capture buffer.
        CAPTURE = 5,
        /// Backed by memory of the guest.
        EXISTING_SYSMEM = 11,
        /// Stereo.
        STEREO = 12,
        /// Can be flipped directly.
        DIRECT_FLIP = 13,
        /// Protected by hardware.
        HARDWARE_PROTECTED = 14,
        /// Protected.
        PROTECTED = 18,
        /// The CPU maps it cached; otherwise write-combined.
        CACHED = 19,
        /// Independent primary.
        INDEPENDENT_PRIMARY = 20,
    }

    /// Properties asked of one allocation.
    AllocationInfoFlags: u32 {
        /// Primary.
        PRIMARY = 0,
        /// Stereo.
        STEREO = 1,
        /// The priority is given.
        OVERRIDE_PRIORITY = 2,
    }

    /// How a standard allocation is made: no bit has a meaning.
    StandardAllocationFlags: u32 {}

    /// How allocations are destroyed.
    DestroyAllocationFlags: u32 {
        /// The caller knows that no work uses them.
        ASSUME_NOT_IN_USE = 0,
        /// Return only when they are gone.
        SYNCHRONOUS_DESTROY = 1,
        /// For the system.
        SYSTEM_USE_ONLY = 31,
    }

    /// How allocations are made resident.
    MakeResidentFlags: u32 {
        /// The process cannot free more.
        CANT_TRIM_FURTHER = 0,
        /// Failure is no option.
        MUST_SUCCEED = 1,
    }

    /// How allocations are evicted.
    EvictFlags: u32 {
        /// Only if memory is short.
        EVICT_ONLY_IF_NECESSARY = 0,
        /// Content was not changed.
        NOT_WRITTEN_TO = 1,
    }

    /// How allocations are offered.
    OfferFlags: u32 {
        /// At once.
        OFFER_IMMEDIATELY = 0,
        /// Memory may be given back entirely.
        ALLOW_DECOMMIT = 1,
    }

    /// A property of an allocation that can be changed.
    UpdatePropertyFlags: u32 {
        /// Accessed by physical address.
        ACCESSED_PHYSICALLY = 0,
    }

    /// Which properties a change applies to.
    PropertyMask: u32 {
        /// [`UpdatePropertyFlags::ACCESSED_PHYSICALLY`].
        ACCESSED_PHYSICALLY = 0,
        /// The set of segments.
        SUPPORTED_SEGMENT_SET = 1,
        /// The preferred segments.
        PREFERRED_SEGMENT = 2,
    }

    /// How an allocation is locked: no bit has a meaning.
    Lock2Flags: u32 {}

    /// Protection of a range of GPU addresses.
    Protection: u64 {
        /// Can be written.
        WRITE = 0,
        /// Can be executed.
        EXECUTE = 1,
        /// Reads as zero.
        ZERO = 2,
        /// Cannot be accessed.
        NO_ACCESS = 3,
        /// For the system.
        SYSTEM_USE_ONLY = 4,
    }

    /// How an update of GPU addresses is queued.
    UpdateGpuVaFlags: u32 {
        /// Does not wait for the fence.
        DO_NOT_WAIT = 0,
    }

    /// Properties of a sync object.
    SyncObjectFlags: u32 {
        /// Can be shared.
        SHARED = 0,
        /// Shared by NT handles.
        NT_SECURITY_SHARING = 1,
        /// Used by several adapters.
        CROSS_ADAPTER = 2,
        /// Signalled when work starts.
        TOP_OF_PIPELINE = 3,
        /// The opener does not signal.
        NO_SIGNAL = 4,
        /// The opener does not wait.
        NO_WAIT = 5,
        /// Keeps its value when the GPU is reset.
        NO_SIGNAL_MAX_VALUE_ON_TDR = 6,
        /// The GPU does not access it.
        NO_GPU_ACCESS = 7,
    }

    /// How sync objects are signalled.
    SignalFlags: u32 {
        /// When work is submitted, not when it is done.
        SIGNAL_AT_SUBMISSION = 0,
        /// Queues an event for the guest's CPU.
        ENQUEUE_CPU_EVENT = 1,
        /// The value may go back.
        ALLOW_FENCE_REWIND = 2,
        /// Internal.
        INTERNAL = 31,
    }

    /// How a CPU waits.
    WaitFromCpuFlags: u32 {
        /// For any of the fences instead of all.
        WAIT_ANY = 0,
    }

    /// How a command buffer is submitted.
    SubmitFlags: u32 {
        /// Accepted and not done.
        NULL_RENDERING = 0,
        /// A redirected present.
        PRESENT_REDIRECTED = 1,
    }

    /// How an escape is done.
    EscapeFlags: u32 {
        /// Accesses hardware.
        HARDWARE_ACCESS = 0,
        /// Asks for the device's status.
        DEVICE_STATUS_QUERY = 1,
        /// Changes the frame latency.
        CHANGE_FRAME_LATENCY = 2,
        /// Does not synchronise with the adapter.
        NO_ADAPTER_SYNCHRONIZATION = 3,
        /// Carries data of the VM.
        VIRTUAL_MACHINE_DATA = 5,
        /// The data is a known escape.
        DRIVER_KNOWN_ESCAPE = 6,
        /// The data is an escape all drivers know.
        DRIVER_COMMON_ESCAPE = 7,
    }

    /// What a page fault was.
    PageFaultFlags: u32 {
        /// A write.
        WRITE = 0,
        /// The fence is not valid.
        FENCE_INVALID = 1,
        /// The adapter must be reset.
        ADAPTER_RESET_REQUIRED = 2,
        /// The engine must be reset.
        ENGINE_RESET_REQUIRED = 3,
        /// The hardware is in a fatal state.
        FATAL_HARDWARE_ERROR = 4,
        /// The IOMMU reported it.
        IOMMU = 5,
        /// The hardware context is known.
        HW_CONTEXT_VALID = 6,
        /// The process is known.
        PROCESS_HANDLE_VALID = 7,
    }

    /// Code of a fault: bit 0 tells whose code the other bits are.
    FaultErrorCode: u32 {
        /// The code in bits 1 to 31 is the device's own.
        IS_DEVICE_SPECIFIC = 0,
    }

    /// Properties of a clock reading.
    ClockFlags: u32 {
        /// Done by a context management processor.
        CONTEXT_MANAGEMENT_PROCESSOR = 0,
    }

    /// Properties of a feature; bits 1 to 3 are a number, the virtualisation mode.
    FeatureFlags: u16 {
        /// The system knows it.
        SUPPORTED = 0,
        /// Not bound to an adapter.
        GLOBAL = 4,
        /// A driver's.
        DRIVER_FEATURE = 5,
        /// Internal.
        INTERNAL = 6,
    }

    /// State of a feature.
    FeatureState: u16 {
        /// On.
        ENABLED = 0,
        /// Known.
        KNOWN_FEATURE = 1,
        /// The driver has it.
        SUPPORTED_BY_DRIVER = 2,
        /// The configuration allows it.
        SUPPORTED_ON_CONFIG = 3,
    }
}

impl AdapterCaps {
    /// The hardware support state, 0 to 3.
    pub const fn hw_support_state(self) -> u32 {
        self.0 >> 7 & 3
    }
}

impl FaultErrorCode {
    /// The code: the device's own, or a general one.
    pub const fn code(self) -> u32 {
        self.0 >> 1
    }
}

impl FeatureFlags {
    /// The virtualisation mode, 0 to 7.
    pub const fn virtualization_mode(self) -> u16 {
        self.0 >> 1 & 7
    }
}
