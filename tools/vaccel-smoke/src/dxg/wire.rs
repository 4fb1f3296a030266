// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers and structures of `/dev/dxg`, field by field with the place of each.
//!
//! Addresses are numbers here. A structure that is not laid out as it says does not build.

/// Declares structures: name and size, then each field with its type and offset.
macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident, $size:literal {
        $($field:ident: $type:ty = $offset:literal,)*
    })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default)]
            pub struct $name {
                $(
                    #[doc = concat!("At byte ", $offset, ".")]
                    pub $field: $type,
                )*
            }
            const _: () = {
                assert!(size_of::<$name>() == $size);
                $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
            };
        )*
    };
}

structures! {
    /// An adapter that there is.
    AdapterInfo, 20 {
        adapter: u32 = 0,
        luid: [u32; 2] = 4,
        sources: u32 = 12,
        move_regions: u32 = 16,
    }
    /// Which adapters there are; without room, how many.
    EnumAdapters, 24 {
        filter: u64 = 0,
        count: u32 = 8,
        reserved: u32 = 12,
        adapters: u64 = 16,
    }
    /// An adapter by its LUID.
    OpenAdapter, 12 {
        luid: [u32; 2] = 0,
        adapter: u32 = 8,
    }
    /// The one handle of a call that ends something.
    Handle, 4 {
        handle: u32 = 0,
    }
    /// A block of information about the adapter.
    QueryAdapter, 24 {
        adapter: u32 = 0,
        kind: u32 = 4,
        data: u64 = 8,
        size: u32 = 16,
    }
    /// What a process may use.
    QueryMemory, 56 {
        process: u64 = 0,
        adapter: u32 = 8,
        group: u32 = 12,
        budget: u64 = 16,
        usage: u64 = 24,
        reservation: u64 = 32,
        available: u64 = 40,
        physical_adapter: u32 = 48,
    }
    /// A device; the buffers are those of old interfaces.
    CreateDevice, 64 {
        adapter: u32 = 0,
        adapter_high: u32 = 4,
        flags: u32 = 8,
        device: u32 = 12,
        command_buffer: u64 = 16,
        command_buffer_size: u32 = 24,
        reserved: u32 = 28,
        allocations: u64 = 32,
        allocations_size: u32 = 40,
        reserved_1: u32 = 44,
        patches: u64 = 48,
        patches_size: u32 = 56,
        reserved_2: u32 = 60,
    }
    /// A context with GPU addresses.
    CreateContext, 40 {
        device: u32 = 0,
        node: u32 = 4,
        engines: u32 = 8,
        flags: u32 = 12,
        private: u64 = 16,
        private_size: u32 = 24,
        client: u32 = 28,
        context: u32 = 32,
    }
    /// A queue for what moves memory.
    CreatePagingQueue, 32 {
        device: u32 = 0,
        priority: i32 = 4,
        queue: u32 = 8,
        fence: u32 = 12,
        fence_address: u64 = 16,
        physical_adapter: u32 = 24,
    }
    /// What a standard allocation is of.
    StandardAllocation, 24 {
        kind: u32 = 0,
        reserved: u32 = 4,
        size: u64 = 8,
        flags: u32 = 16,
        reserved_1: u32 = 20,
    }
    /// One allocation of those that are made together.
    AllocationInfo, 96 {
        allocation: u32 = 0,
        memory: u64 = 8,
        private: u64 = 16,
        private_size: u32 = 24,
        source: u32 = 28,
        flags: u32 = 32,
        gpu_va: u64 = 40,
        priority: u64 = 48,
        reserved: [u64; 5] = 56,
    }
    /// Allocations.
    CreateAllocation, 72 {
        device: u32 = 0,
        resource: u32 = 4,
        share: u32 = 8,
        reserved: u32 = 12,
        runtime: u64 = 16,
        runtime_size: u32 = 24,
        reserved_1: u32 = 28,
        standard: u64 = 32,
        private_size: u32 = 40,
        count: u32 = 44,
        allocations: u64 = 48,
        flags: u32 = 56,
        reserved_2: u32 = 60,
        runtime_handle: u64 = 64,
    }
    /// Gives allocations up.
    DestroyAllocation, 24 {
        device: u32 = 0,
        resource: u32 = 4,
        allocations: u64 = 8,
        count: u32 = 16,
        flags: u32 = 20,
    }
    /// Keeps allocations where the GPU reaches them.
    MakeResident, 48 {
        queue: u32 = 0,
        count: u32 = 4,
        allocations: u64 = 8,
        priorities: u64 = 16,
        flags: u32 = 24,
        fence_value: u64 = 32,
        bytes_to_trim: u64 = 40,
    }
    /// Gives an allocation GPU addresses.
    MapAddress, 104 {
        queue: u32 = 0,
        base: u64 = 8,
        minimum: u64 = 16,
        maximum: u64 = 24,
        allocation: u32 = 32,
        first_page: u64 = 40,
        pages: u64 = 48,
        protection: u64 = 56,
        driver_protection: u64 = 64,
        reserved: u32 = 72,
        reserved_1: u64 = 80,
        gpu_va: u64 = 88,
        fence_value: u64 = 96,
    }
    /// Takes GPU addresses back.
    FreeAddress, 24 {
        adapter: u32 = 0,
        reserved: u32 = 4,
        base: u64 = 8,
        size: u64 = 16,
    }
    /// A monitored fence, within the structure for all synchronisation objects.
    CreateFence, 96 {
        device: u32 = 0,
        reserved: u32 = 4,
        kind: u32 = 8,
        flags: u32 = 12,
        initial_value: u64 = 16,
        fence_address: u64 = 24,
        gpu_va: u64 = 32,
        engines: u32 = 40,
        unused: [u64; 4] = 48,
        shared: u32 = 80,
        reserved_1: u32 = 84,
        fence: u32 = 88,
        reserved_2: u32 = 92,
    }
    /// Signals fences from the CPU.
    CpuSignal, 32 {
        device: u32 = 0,
        count: u32 = 4,
        fences: u64 = 8,
        values: u64 = 16,
        flags: u32 = 24,
    }
    /// Waits for fences on the CPU; without an event, within the call.
    CpuWait, 40 {
        device: u32 = 0,
        count: u32 = 4,
        fences: u64 = 8,
        values: u64 = 16,
        event: u64 = 24,
        flags: u32 = 32,
    }
    /// Signals fences behind what a context was given.
    GpuSignal, 80 {
        context: u32 = 0,
        count: u32 = 4,
        fences: u64 = 8,
        values: u64 = 16,
        reserved: [u64; 7] = 24,
    }
    /// Runs a command buffer.
    SubmitCommand, 384 {
        command: u64 = 0,
        command_size: u32 = 8,
        flags: u32 = 12,
        present_token: u64 = 16,
        count: u32 = 24,
        contexts: [[u32; 8]; 8] = 28,
        reserved: u32 = 284,
        private: u64 = 288,
        private_size: u32 = 296,
        primaries_count: u32 = 300,
        primaries: [u32; 16] = 304,
        history_count: u32 = 368,
        reserved_1: u32 = 372,
        history: u64 = 376,
    }
}

/// Number of `EnumAdapters3`.
pub const ENUM_ADAPTERS: u32 = 0x3e;
/// Its filter: compute accelerators too, which are left out otherwise.
pub const WITH_COMPUTE_ONLY: u64 = 1;
/// Number of `OpenAdapterFromLuid`.
pub const OPEN_ADAPTER: u32 = 0x01;
/// Number of `CloseAdapter`.
pub const CLOSE_ADAPTER: u32 = 0x15;
/// Number of `QueryAdapterInfo`.
pub const QUERY_ADAPTER: u32 = 0x09;
/// Number of `QueryVideoMemoryInfo`.
pub const QUERY_MEMORY: u32 = 0x0a;
/// Number of `CreateDevice`.
pub const CREATE_DEVICE: u32 = 0x02;
/// Number of `DestroyDevice`.
pub const DESTROY_DEVICE: u32 = 0x19;
/// Number of `CreateContextVirtual`.
pub const CREATE_CONTEXT: u32 = 0x04;
/// Number of `DestroyContext`.
pub const DESTROY_CONTEXT: u32 = 0x05;
/// Number of `CreatePagingQueue`.
pub const CREATE_PAGING_QUEUE: u32 = 0x07;
/// Number of `DestroyPagingQueue`.
pub const DESTROY_PAGING_QUEUE: u32 = 0x1c;
/// Number of `CreateAllocation`.
pub const CREATE_ALLOCATION: u32 = 0x06;
/// Number of `DestroyAllocation2`.
pub const DESTROY_ALLOCATION: u32 = 0x13;
/// Number of `MakeResident`.
pub const MAKE_RESIDENT: u32 = 0x0b;
/// Number of `MapGpuVirtualAddress`.
pub const MAP_ADDRESS: u32 = 0x0c;
/// Number of `FreeGpuVirtualAddress`.
pub const FREE_ADDRESS: u32 = 0x20;
/// Number of `CreateSynchronizationObject`.
pub const CREATE_FENCE: u32 = 0x10;
/// Number of `DestroySynchronizationObject`.
pub const DESTROY_FENCE: u32 = 0x1d;
/// Number of `SignalSynchronizationObjectFromCpu`.
pub const CPU_SIGNAL: u32 = 0x31;
/// Number of `WaitForSynchronizationObjectFromCpu`.
pub const CPU_WAIT: u32 = 0x3a;
/// Number of `SignalSynchronizationObjectFromGpu`.
pub const GPU_SIGNAL: u32 = 0x32;
/// Number of `SubmitCommand`.
pub const SUBMIT_COMMAND: u32 = 0x0f;

/// Type of a monitored fence.
pub const MONITORED_FENCE: u32 = 5;
/// Kind of a standard allocation over the program's memory.
pub const EXISTING_HEAP: u32 = 1;
/// Flag of allocations: the memory is there.
pub const ALLOCATION_EXISTING: u32 = 1 << 5;
/// Flag of allocations: a standard one.
pub const ALLOCATION_STANDARD: u32 = 1 << 16;
/// Protection of GPU addresses: may be written.
pub const PROTECTION_WRITE: u64 = 1 << 0;
/// Protection of GPU addresses: may be executed.
pub const PROTECTION_EXECUTE: u64 = 1 << 1;
/// The host's memory, as a group of segments.
pub const GROUP_NON_LOCAL: u32 = 1;
/// What kind of information the adapter's own driver answers.
pub const QUERY_PRIVATE: u32 = 0;

/// Request number of an ioctl with a structure of `size` bytes.
pub const fn request(number: u32, size: usize) -> u32 {
    const TYPE: u32 = b'G' as u32;
    (3 << 30) | ((size as u32) << 16) | (TYPE << 8) | number
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves each request number, which holds the number of the call, its type and the size of its
    /// structure, as computed by hand.
    #[test]
    fn requests() {
        const HANDLE: usize = size_of::<Handle>();
        let all = [
            (OPEN_ADAPTER, size_of::<OpenAdapter>(), 0xc00c_4701),
            (CREATE_DEVICE, size_of::<CreateDevice>(), 0xc040_4702),
            (CREATE_CONTEXT, size_of::<CreateContext>(), 0xc028_4704),
            (DESTROY_CONTEXT, HANDLE, 0xc004_4705),
            (
                CREATE_ALLOCATION,
                size_of::<CreateAllocation>(),
                0xc048_4706,
            ),
            (
                CREATE_PAGING_QUEUE,
                size_of::<CreatePagingQueue>(),
                0xc020_4707,
            ),
            (QUERY_ADAPTER, size_of::<QueryAdapter>(), 0xc018_4709),
            (QUERY_MEMORY, size_of::<QueryMemory>(), 0xc038_470a),
            (MAKE_RESIDENT, size_of::<MakeResident>(), 0xc030_470b),
            (MAP_ADDRESS, size_of::<MapAddress>(), 0xc068_470c),
            (SUBMIT_COMMAND, size_of::<SubmitCommand>(), 0xc180_470f),
            (CREATE_FENCE, size_of::<CreateFence>(), 0xc060_4710),
            (
                DESTROY_ALLOCATION,
                size_of::<DestroyAllocation>(),
                0xc018_4713,
            ),
            (CLOSE_ADAPTER, HANDLE, 0xc004_4715),
            (DESTROY_DEVICE, HANDLE, 0xc004_4719),
            (DESTROY_PAGING_QUEUE, HANDLE, 0xc004_471c),
            (DESTROY_FENCE, HANDLE, 0xc004_471d),
            (FREE_ADDRESS, size_of::<FreeAddress>(), 0xc018_4720),
            (CPU_SIGNAL, size_of::<CpuSignal>(), 0xc020_4731),
            (GPU_SIGNAL, size_of::<GpuSignal>(), 0xc050_4732),
            (CPU_WAIT, size_of::<CpuWait>(), 0xc028_473a),
            (ENUM_ADAPTERS, size_of::<EnumAdapters>(), 0xc018_473e),
        ];
        for (number, size, expected) in all {
            assert_eq!(request(number, size), expected, "{number:#x}");
        }
    }
}
