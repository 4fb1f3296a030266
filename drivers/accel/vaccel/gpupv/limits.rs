// SPDX-License-Identifier: GPL-2.0-only

//! Sizes and limits both sides must agree on (protocol 2.3, 3 and 4).

/// The largest message, extended header included.
pub const MAX_MESSAGE: usize = 131_072;
/// The largest reply payload that fits in the largest VMBus packet.
pub const MAX_REPLY: usize = MAX_MESSAGE - 16;
/// The page size on the wire: page numbers, sizes in pages, fence pages.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in each direction of a channel's ring.
pub const RING_SIZE: usize = 256 * 1024;
/// Alignment of the I/O space in guest-physical memory.
pub const IO_SPACE_ALIGNMENT: u64 = 65_536;
/// UTF-16 units of a process name, the final zero included.
pub const PROCESS_NAME_UNITS: usize = 261;
/// Allocations in one CREATEALLOCATION.
pub const MAX_CREATE_ALLOCATIONS: u32 = 1024;
/// Allocations in one MAKERESIDENT, EVICT, OFFERALLOCATIONS or RECLAIMALLOCATIONS.
pub const MAX_RESIDENCY_ALLOCATIONS: u32 = 10_240;
/// Contexts in one SUBMITCOMMAND.
pub const MAX_BROADCAST_CONTEXTS: usize = 64;
/// Sync objects in one wait.
pub const MAX_WAIT_OBJECTS: u32 = 32;
/// Sync objects in one signal.
pub const MAX_SIGNAL_OBJECTS: u32 = 32;
/// Allocations a SUBMITCOMMAND can list as written.
pub const MAX_WRITTEN_PRIMARIES: usize = 16;
/// History buffers in one SUBMITCOMMAND.
pub const MAX_HISTORY_BUFFERS: u32 = 1024;
/// Page numbers in one SETEXISTINGSYSMEMPAGES.
pub const MAX_PAGES_PER_MESSAGE: usize = 15_867;
/// Operations in one UPDATEGPUVIRTUALADDRESS that fit in the largest message.
pub const MAX_UPDATE_OPERATIONS: u32 = 2046;
/// The largest test command buffer.
pub const MAX_TEST_BUFFER: u32 = 4096;
/// The largest private data of a test command buffer.
pub const MAX_TEST_BUFFER_PRIVATE: u32 = 1024;
/// The first guest event id; 0 is never one.
pub const FIRST_GUEST_EVENT: u64 = 2;
