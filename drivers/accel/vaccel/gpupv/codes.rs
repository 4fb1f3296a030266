// SPDX-License-Identifier: GPL-2.0-only

//! Enumerations (protocol 3.8): one type each, with the values that have a meaning.
//!
//! They stay numbers, because a peer may send any: match against the constants, and treat the rest
//! as unknown.

use core::fmt;

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Makes enumerations: name, word, then `NAME = value` with a line of documentation each.
macro_rules! codes {
    ($(
        $(#[$meta:meta])*
        $name:ident: $word:ident {
            $($(#[$code_meta:meta])* $code:ident = $value:literal,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
        )]
        #[repr(transparent)]
        pub struct $name($word);

        impl super::wire::Wire for $name {}

        impl $name {
            $($(#[$code_meta])* pub const $code: Self = Self($value);)*

            /// Every value that has a name.
            pub const NAMED: &'static [(&'static str, Self)] =
                &[$((stringify!($code), Self::$code),)*];

            /// A value from its number.
            pub const fn from_raw(raw: $word) -> Self {
                Self(raw)
            }

            /// The number.
            pub const fn raw(self) -> $word {
                self.0
            }

            /// The name, when there is one.
            pub fn name(self) -> Option<&'static str> {
                Self::NAMED
                    .iter()
                    .find(|(_, value)| *value == self)
                    .map(|(name, _)| *name)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }
    )*};
}

codes! {
    /// Why a device is flushed.
    FlushReason: u32 {
        /// It is about to be destroyed.
        DEVICE_TERMINATE = 4,
    }

    /// Which state of a device is asked for.
    DeviceStateType: u32 {
        /// Execution.
        EXECUTION = 1,
        /// Presentation.
        PRESENT = 2,
        /// Reset.
        RESET = 3,
        /// Presentation by the desktop manager.
        PRESENT_DWM = 4,
        /// Page fault.
        PAGE_FAULT = 5,
        /// Presentation queue.
        PRESENT_QUEUE = 6,
    }

    /// How a device is doing.
    ExecutionState: u32 {
        /// Well.
        ACTIVE = 1,
        /// It was reset.
        RESET = 2,
        /// It hangs.
        HUNG = 3,
        /// It was stopped.
        STOPPED = 4,
        /// It ran out of memory.
        ERROR_OUT_OF_MEMORY = 5,
        /// It failed to access memory.
        ERROR_DMA_FAULT = 6,
        /// It accessed an address without memory.
        ERROR_DMA_PAGE_FAULT = 7,
    }

    /// Why a guest puts a device in error.
    DeviceErrorReason: u32 {
        /// No particular reason.
        GENERIC = 0x8000_0000,
        /// The user-mode driver failed.
        DRIVER_ERROR = 0x8000_0006,
    }

    /// A stage of the rendering pipeline.
    PipelineStage: u32 {
        /// Unknown.
        UNKNOWN = 0,
        /// Input assembler.
        INPUT_ASSEMBLER = 1,
        /// Vertex shader.
        VERTEX_SHADER = 2,
        /// Geometry shader.
        GEOMETRY_SHADER = 3,
        /// Stream output.
        STREAM_OUTPUT = 4,
        /// Rasteriser.
        RASTERIZER = 5,
        /// Pixel shader.
        PIXEL_SHADER = 6,
        /// Output merger.
        OUTPUT_MERGER = 7,
    }

    /// A fault code that is not the device's own.
    GeneralErrorCode: u32 {
        /// Page fault.
        PAGE_FAULT = 0,
        /// Invalid instruction.
        INVALID_INSTRUCTION = 1,
    }

    /// Who creates a context or a sync object.
    ClientHint: u32 {
        /// Unknown.
        UNKNOWN = 0,
        /// OpenGL.
        OPENGL = 1,
        /// The display driver.
        CDD = 2,
        /// Direct3D 7.
        DX7 = 7,
        /// Direct3D 8.
        DX8 = 8,
        /// Direct3D 9.
        DX9 = 9,
        /// Direct3D 10 and later.
        DX10 = 10,
    }

    /// Priority of a paging queue.
    PagingQueuePriority: i32 {
        /// Below normal.
        BELOW_NORMAL = -1,
        /// Normal.
        NORMAL = 0,
        /// Above normal.
        ABOVE_NORMAL = 1,
    }

    /// What an escape is for.
    EscapeType: u32 {
        /// Private to the driver.
        DRIVER_PRIVATE = 0,
        /// Memory manager.
        VIDMM = 1,
        /// Scheduler.
        VIDSCH = 3,
        /// Device.
        DEVICE = 4,
        /// Tests.
        DRT_TEST = 8,
    }

    /// An escape every driver knows.
    KnownEscapeType: u32 {
        /// Translates an allocation handle.
        TRANSLATE_ALLOCATION_HANDLE = 0,
        /// Translates a resource handle.
        TRANSLATE_RESOURCE_HANDLE = 1,
        /// Use of CPU events.
        CPU_EVENT_USAGE = 2,
        /// Builds a test command buffer.
        BUILD_TEST_COMMAND_BUFFER = 3,
    }

    /// Kind of a GDI surface.
    GdiSurfaceType: u32 {
        /// None.
        INVALID = 0,
        /// Texture.
        TEXTURE = 1,
        /// Staging, CPU-visible.
        STAGING_CPU_VISIBLE = 2,
        /// Staging.
        STAGING = 3,
        /// Look-up table.
        LOOKUP_TABLE = 4,
        /// Existing system memory.
        EXISTING_SYSMEM = 5,
        /// Texture, CPU-visible.
        TEXTURE_CPU_VISIBLE = 6,
        /// Texture for several adapters.
        TEXTURE_CROSS_ADAPTER = 7,
        /// Texture for several adapters, CPU-visible.
        TEXTURE_CPU_VISIBLE_CROSS_ADAPTER = 8,
    }

    /// Format of a surface.
    SurfaceFormat: u32 {
        /// Unknown.
        UNKNOWN = 0,
    }

    /// Kind of a standard allocation, as the host's driver knows them.
    DriverStandardAllocationType: u32 {
        /// Shared primary surface.
        SHARED_PRIMARY_SURFACE = 1,
        /// Shadow surface.
        SHADOW_SURFACE = 2,
        /// Staging surface.
        STAGING_SURFACE = 3,
        /// GDI surface.
        GDI_SURFACE = 4,
    }

    /// Kind of a standard allocation, as a guest asks for it.
    StandardAllocationType: u32 {
        /// Memory of the guest as a heap.
        EXISTING_HEAP = 1,
        /// For several adapters.
        CROSS_ADAPTER = 2,
    }

    /// Kind of a sync object.
    SyncObjectType: u32 {
        /// Mutex.
        MUTEX = 1,
        /// Semaphore.
        SEMAPHORE = 2,
        /// Fence without a value in memory.
        FENCE = 3,
        /// Tells the guest's CPU.
        CPU_NOTIFICATION = 4,
        /// Fence whose value is in memory.
        MONITORED_FENCE = 5,
        /// The same, driven by the host's clock.
        PERIODIC_MONITORED_FENCE = 6,
    }

    /// Where an allocation is.
    ResidencyStatus: u32 {
        /// In the GPU's memory.
        RESIDENT_IN_GPU_MEMORY = 1,
        /// In memory shared with the CPU.
        RESIDENT_IN_SHARED_MEMORY = 2,
        /// Nowhere.
        NOT_RESIDENT = 3,
    }

    /// Kind of an operation on GPU addresses.
    GpuVaOperationType: u32 {
        /// Maps an allocation.
        MAP = 0,
        /// Unmaps.
        UNMAP = 1,
        /// Copies mappings.
        COPY = 2,
        /// Maps an allocation with a protection.
        MAP_PROTECT = 3,
    }

    /// What accesses to a reserved range do.
    ReservationType: u32 {
        /// Fault.
        NO_ACCESS = 0,
        /// Read zero.
        ZERO = 1,
        /// Nothing is committed.
        NO_COMMIT = 2,
    }

    /// A group of memory segments.
    MemorySegmentGroup: u32 {
        /// The GPU's own.
        LOCAL = 0,
        /// The rest.
        NON_LOCAL = 1,
    }

    /// What is asked of an adapter. Other numbers are passed through.
    QueryType: u32 {
        /// Private to the user-mode driver.
        UM_DRIVER_PRIVATE = 0,
        /// [`AdapterTypeFlags`](super::AdapterTypeFlags).
        ADAPTER_TYPE = 15,
        /// The same, for rendering.
        ADAPTER_TYPE_RENDER = 57,
    }

    /// How dear an offered allocation is.
    OfferPriority: u32 {
        /// Goes first.
        LOW = 1,
        /// Normal.
        NORMAL = 2,
        /// Goes last.
        HIGH = 3,
        /// The host decides.
        AUTO = 4,
    }

    /// What became of an offered allocation.
    ReclaimResult: u32 {
        /// Content is there.
        OK = 0,
        /// Content is lost.
        DISCARDED = 1,
        /// Has no memory.
        NOT_COMMITTED = 2,
    }

    /// Which statistics are asked for.
    StatisticsType: u32 {
        /// Adapter.
        ADAPTER = 0,
        /// Process.
        PROCESS = 1,
        /// Process on an adapter.
        PROCESS_ADAPTER = 2,
        /// Segment.
        SEGMENT = 3,
        /// Process in a segment.
        PROCESS_SEGMENT = 4,
        /// Node.
        NODE = 5,
        /// Process on a node.
        PROCESS_NODE = 6,
        /// Video source.
        VIDPN_SOURCE = 7,
        /// Process on a video source.
        PROCESS_VIDPN_SOURCE = 8,
        /// Process in a segment group.
        PROCESS_SEGMENT_GROUP = 9,
        /// Physical adapter.
        PHYSICAL_ADAPTER = 10,
    }

    /// A feature of the host.
    FeatureId: u32 {
        /// Hardware scheduling.
        HWSCH = 0,
        /// Memory management by pages.
        PAGE_BASED_MEMORY_MANAGER = 32,
        /// Tests in kernel mode.
        KERNEL_MODE_TESTING = 33,
    }

    /// Width of the data in SETGUESTDATA.
    GuestDataType: u32 {
        /// 32 bits.
        DWORD = 0,
        /// 64 bits.
        UINT64 = 1,
    }
}
