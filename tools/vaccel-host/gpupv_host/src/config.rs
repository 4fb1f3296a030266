// SPDX-License-Identifier: MIT OR Apache-2.0
//! What kind of host this is, what GPUs it has, and the limits that keep a guest from exhausting
//! it.

use engine::{BuiltIn, Engine};
use gpupv::{Guid, Luid};

use crate::choices::Choices;
use crate::segment::PerSegment;

/// Virtual GPUs of one VM.
pub const MAX_VGPUS: usize = 16;
/// Host processes of one VM.
pub const MAX_PROCESSES: usize = 256;
/// Objects of all kinds of one process.
pub const MAX_OBJECTS: usize = 262_144;
/// Objects of all kinds of the whole VM.
pub const MAX_VM_OBJECTS: usize = 524_288;
/// Ranges in one GPU virtual address space.
pub const MAX_VA_RANGES: usize = 262_144;
/// Ranges in all GPU virtual address spaces of the VM.
pub const MAX_VM_VA_RANGES: usize = 524_288;
/// Guest pages named as backing store in the whole VM: 32 GiB worth.
pub const MAX_PINNED_PAGES: u64 = 1 << 23;
/// Work queued to one context.
pub const MAX_QUEUED_WORK: usize = 4096;
/// Work queued to all contexts of the VM.
pub const MAX_VM_QUEUED_WORK: usize = 65_536;
/// Changes of GPU addresses queued to all contexts of the VM.
pub const MAX_VM_QUEUED_CHANGES: usize = 262_144;
/// Handles of the whole VM by which resources and fences are shared.
pub const MAX_SHARED_OBJECTS: usize = 4096;
/// CPU waits of the whole VM that have not been answered.
pub const MAX_CPU_WAITS: usize = 4096;
/// Completions held back until a job ends, in the whole VM.
pub const MAX_HELD_COMPLETIONS: usize = 4096;

/// Allocations that are locked at a time, in the whole VM. Each costs the host a mapping.
pub const MAX_LOCKS: usize = 16_384;

/// Bytes of allocations in host memory that a virtual GPU has unless configured otherwise.
pub const DEFAULT_COMMIT_LIMIT: u64 = 8 << 30;

/// How an operation of a paging queue is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagingMode {
    /// Done at once: status 0 and a fence value that is already reached.
    Immediate,
    /// Status PENDING and a fence value that is reached after the reply, as Windows hosts do.
    Pending,
}

/// Properties of the host that all its GPUs share.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Interface version offered in the configuration window: 40, or lower for a legacy host. 0
    /// offers none, which guests take as version 27.
    pub version: u32,
    /// Accept backing store as page lists (SETEXISTINGSYSMEMPAGES), and say so from version 40 on.
    pub map_guest_memory: bool,
    /// Tell guests to send submissions, signals and waits asynchronously on the global channel.
    pub async_messages: bool,
    /// Size of the I/O space in the offer of the global channel, in MiB.
    pub mmio_megabytes: u16,
    /// Bytes of the I/O space that locked allocations may have together; all of it if not given.
    pub lock_window: Option<u64>,
    /// How paging operations are reported.
    pub paging: PagingMode,
    /// The fences of a device that fails jump to the highest value (unless created with
    /// `NO_SIGNAL_MAX_VALUE_ON_TDR`), as that flag and the behaviour of Direct3D suggest.
    pub max_value_on_error: bool,
    /// Milliseconds that a job may run before its device hangs; 0: any time.
    pub tdr_ms: u32,
    /// What the documents leave open.
    pub choices: Choices,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            version: 40,
            map_guest_memory: true,
            async_messages: false,
            mmio_megabytes: 64,
            lock_window: None,
            paging: PagingMode::Pending,
            max_value_on_error: true,
            tdr_ms: 0,
            choices: Choices::default(),
        }
    }
}

/// One virtual GPU.
#[derive(Debug, Clone)]
pub struct VgpuConfig {
    /// Instance GUID of its VMBus channel; the first 8 bytes are the LUID that ties the channel to
    /// the PCI function.
    pub channel_instance: Guid,
    /// LUID that routes its messages (extended header).
    pub vgpu_luid: Luid,
    /// LUID of the adapter on the host.
    pub host_adapter_luid: Luid,
    /// Description shown to users, cut to 79 UTF-16 units.
    pub name: String,
    /// Compute accelerator (PCI device 008A) rather than render device (008E).
    pub compute_only: bool,
    /// Bytes a process may have resident in a segment group without being told to trim.
    pub budget: PerSegment<u64>,
    /// Bytes all processes together can have resident in a segment group.
    pub memory: PerSegment<u64>,
    /// Bytes all allocations that are not guest memory can have together.
    pub commit_limit: u64,
    /// File name of the user-mode driver, as guests are told.
    pub umd_file_name: String,
    /// Folder of the driver on the host, as guests are told.
    pub driver_store: String,
    /// The same folder as the guest sees it.
    pub guest_driver_store: String,
    /// Version of the driver: four numbers of 16 bits, the first one highest.
    pub driver_version: u64,
    /// What its engine says about itself.
    pub engine: vaccel_isa::AdapterInfo,
}

impl VgpuConfig {
    /// The `number`-th GPU of a VM, with LUIDs made from the number, 1 GiB of memory in each segment
    /// group, all of it as budget, and the built-in engine.
    pub fn numbered(number: u32) -> Self {
        const GIB: u64 = 1 << 30;
        let low = 0x0001_0000_u32.wrapping_add(number);
        let instance = (u128::from(low) << 96) | 0x5641_0000_8000_0000_0000_0000;
        Self {
            channel_instance: Guid::from_text(instance),
            vgpu_luid: Luid::new(low, 0x10),
            host_adapter_luid: Luid::new(low, 0x20),
            name: format!("vaccel virtual GPU {number}"),
            compute_only: true,
            budget: PerSegment::both(GIB),
            memory: PerSegment::both(GIB),
            commit_limit: DEFAULT_COMMIT_LIMIT,
            umd_file_name: "libvaccel.so".into(),
            driver_store: "\\SystemRoot\\System32\\DriverStore\\FileRepository\\vaccel".into(),
            guest_driver_store: "/usr/lib/wsl/drivers/vaccel".into(),
            driver_version: 1 << 48,
            engine: BuiltIn.info(),
        }
    }
}
