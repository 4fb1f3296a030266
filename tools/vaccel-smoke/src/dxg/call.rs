// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of `/dev/dxg`: arguments in words of the program, addresses only within.
//!
//! A call gives the errno of a failure, or the number it came back with: 0, or a status such as "not
//! done yet".

#![allow(
    unsafe_code,
    reason = "ioctl(2) with addresses in its structures is the boundary this module exists for"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::wire;

/// A page of memory at a page's place.
#[repr(C, align(4096))]
#[derive(Clone, Debug)]
pub struct Page(pub [u8; 4096]);

/// Calls `number`.
///
/// # Safety
///
/// `T` has to be the structure of that number, and every address in it 0 or that of memory which the
/// call may use in the way it does.
unsafe fn call<T>(node: BorrowedFd<'_>, number: u32, arg: &mut T) -> io::Result<i32> {
    let request = libc::Ioctl::from(wire::request(number, size_of::<T>()));
    // SAFETY: the descriptor is open for the borrow, and the request says how large `arg` is; the
    // rest is the caller's word.
    let status = unsafe { libc::ioctl(node.as_raw_fd(), request, std::ptr::from_mut(arg)) };
    if status < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}

/// Calls that end something.
pub fn end(node: BorrowedFd<'_>, number: u32, handle: u32) -> io::Result<i32> {
    let mut arg = wire::Handle { handle };
    // SAFETY: the structure is a number; one that `number` does not take is refused by the size in
    // the request.
    unsafe { call(node, number, &mut arg) }
}

/// The adapters that there are.
pub fn adapters(node: BorrowedFd<'_>) -> io::Result<Vec<wire::AdapterInfo>> {
    let mut arg = wire::EnumAdapters {
        filter: wire::WITH_COMPUTE_ONLY,
        ..wire::EnumAdapters::default()
    };
    // SAFETY: without room only the number is written.
    unsafe { call(node, wire::ENUM_ADAPTERS, &mut arg)? };
    let mut found = vec![wire::AdapterInfo::default(); arg.count as usize];
    arg.adapters = found.as_mut_ptr() as u64;
    // SAFETY: there is room for as many as `count` says, and they may be written.
    unsafe { call(node, wire::ENUM_ADAPTERS, &mut arg)? };
    found.truncate(arg.count as usize);
    Ok(found)
}

/// Opens the adapter with this LUID.
pub fn open_adapter(node: BorrowedFd<'_>, luid: [u32; 2]) -> io::Result<u32> {
    let mut arg = wire::OpenAdapter { luid, adapter: 0 };
    // SAFETY: there is no address in it.
    unsafe { call(node, wire::OPEN_ADAPTER, &mut arg)? };
    Ok(arg.adapter)
}

/// Asks the adapter's own driver for a block of information.
pub fn query_private(node: BorrowedFd<'_>, adapter: u32, block: &mut [u8]) -> io::Result<i32> {
    let mut arg = wire::QueryAdapter {
        adapter,
        kind: wire::QUERY_PRIVATE,
        data: block.as_mut_ptr() as u64,
        size: u32::try_from(block.len()).unwrap_or(0),
    };
    // SAFETY: the address is that of `size` bytes or more, which may be written.
    unsafe { call(node, wire::QUERY_ADAPTER, &mut arg) }
}

/// Asks the host what the process may use of its memory.
pub fn query_memory(node: BorrowedFd<'_>, adapter: u32) -> io::Result<i32> {
    let mut arg = wire::QueryMemory {
        adapter,
        group: wire::GROUP_NON_LOCAL,
        ..Default::default()
    };
    // SAFETY: there is no address in it; the process is this one.
    unsafe { call(node, wire::QUERY_MEMORY, &mut arg) }
}

/// Makes a device.
pub fn create_device(node: BorrowedFd<'_>, adapter: u32) -> io::Result<u32> {
    let mut arg = wire::CreateDevice {
        adapter,
        ..Default::default()
    };
    // SAFETY: the addresses are results.
    unsafe { call(node, wire::CREATE_DEVICE, &mut arg)? };
    Ok(arg.device)
}

/// Makes a context on node 0, without driver data.
pub fn create_context(node: BorrowedFd<'_>, device: u32) -> io::Result<u32> {
    let mut arg = wire::CreateContext {
        device,
        ..Default::default()
    };
    // SAFETY: the one address is 0, with 0 bytes.
    unsafe { call(node, wire::CREATE_CONTEXT, &mut arg)? };
    Ok(arg.context)
}

/// Makes a paging queue; returns it and its fence.
pub fn create_paging_queue(node: BorrowedFd<'_>, device: u32) -> io::Result<(u32, u32)> {
    let mut arg = wire::CreatePagingQueue {
        device,
        ..Default::default()
    };
    // SAFETY: the address is a result, of a page that the call maps anew.
    unsafe { call(node, wire::CREATE_PAGING_QUEUE, &mut arg)? };
    Ok((arg.queue, arg.fence))
}

/// Makes a monitored fence of value 0.
pub fn create_fence(node: BorrowedFd<'_>, device: u32) -> io::Result<u32> {
    let mut arg = wire::CreateFence {
        device,
        kind: wire::MONITORED_FENCE,
        ..Default::default()
    };
    // SAFETY: the address is a result, of a page that the call maps anew.
    unsafe { call(node, wire::CREATE_FENCE, &mut arg)? };
    Ok(arg.fence)
}

/// Raises a fence from the CPU.
pub fn cpu_signal(node: BorrowedFd<'_>, device: u32, fence: u32, value: u64) -> io::Result<i32> {
    let mut arg = wire::CpuSignal {
        device,
        count: 1,
        fences: &raw const fence as u64,
        values: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: both addresses are those of one element, which is only read.
    unsafe { call(node, wire::CPU_SIGNAL, &mut arg) }
}

/// Waits within the call until a fence has a value.
pub fn cpu_wait(node: BorrowedFd<'_>, device: u32, fence: u32, value: u64) -> io::Result<i32> {
    let mut arg = wire::CpuWait {
        device,
        count: 1,
        fences: &raw const fence as u64,
        values: &raw const value as u64,
        ..Default::default()
    };
    // SAFETY: both addresses are those of one element, which is only read, and before the call is
    // back.
    unsafe { call(node, wire::CPU_WAIT, &mut arg) }
}

/// Raises a fence behind what the context was given.
pub fn gpu_signal(node: BorrowedFd<'_>, context: u32, fence: u32, value: u64) -> io::Result<i32> {
    let mut arg = wire::GpuSignal {
        context,
        count: 1,
        fences: &raw const fence as u64,
        values: &raw const value as u64,
        ..Default::default()
    };
    // SAFETY: both addresses are those of one element, which is only read.
    unsafe { call(node, wire::GPU_SIGNAL, &mut arg) }
}

/// Runs the command buffer of `size` bytes at `gpu_va`, without driver data.
pub fn submit(node: BorrowedFd<'_>, context: u32, gpu_va: u64, size: u32) -> io::Result<i32> {
    let mut arg = wire::SubmitCommand {
        command: gpu_va,
        command_size: size,
        count: 1,
        ..Default::default()
    };
    arg.contexts[0][0] = context;
    // SAFETY: the addresses of this program are 0, with 0 elements.
    unsafe { call(node, wire::SUBMIT_COMMAND, &mut arg) }
}

/// Makes an allocation of memory that the caller keeps, untouched, until it is destroyed.
pub fn create_allocation(
    node: BorrowedFd<'_>,
    device: u32,
    memory: &mut [Page],
) -> io::Result<u32> {
    let mut standard = wire::StandardAllocation {
        kind: wire::EXISTING_HEAP,
        size: size_of_val(memory) as u64,
        ..Default::default()
    };
    let mut info = wire::AllocationInfo {
        memory: memory.as_mut_ptr() as u64,
        ..Default::default()
    };
    let mut arg = wire::CreateAllocation {
        device,
        standard: &raw mut standard as u64,
        count: 1,
        allocations: &raw mut info as u64,
        flags: wire::ALLOCATION_EXISTING | wire::ALLOCATION_STANDARD,
        ..Default::default()
    };
    // SAFETY: `standard` and `info` are one element each, and may be written. The memory is there
    // for as long as the GPU knows of it: `objects::Allocation` owns it, and gives it to nobody.
    unsafe { call(node, wire::CREATE_ALLOCATION, &mut arg)? };
    Ok(info.allocation)
}

/// Gives an allocation up.
pub fn destroy_allocation(node: BorrowedFd<'_>, device: u32, allocation: u32) -> io::Result<i32> {
    let mut arg = wire::DestroyAllocation {
        device,
        allocations: &raw const allocation as u64,
        count: 1,
        ..Default::default()
    };
    // SAFETY: the address is that of one element, which is only read.
    unsafe { call(node, wire::DESTROY_ALLOCATION, &mut arg) }
}

/// Makes an allocation resident; returns the value of the paging fence that says it is.
pub fn make_resident(node: BorrowedFd<'_>, queue: u32, allocation: u32) -> io::Result<u64> {
    let mut arg = wire::MakeResident {
        queue,
        count: 1,
        allocations: &raw const allocation as u64,
        ..Default::default()
    };
    // SAFETY: the address is that of one element, which is only read; there are no priorities.
    unsafe { call(node, wire::MAKE_RESIDENT, &mut arg)? };
    Ok(arg.fence_value)
}

/// Gives an allocation addresses; returns them and the value of the paging fence that they are
/// there with.
pub fn map_address(
    node: BorrowedFd<'_>,
    queue: u32,
    allocation: u32,
    pages: u64,
) -> io::Result<(u64, u64)> {
    let mut arg = wire::MapAddress {
        queue,
        allocation,
        pages,
        protection: wire::PROTECTION_WRITE | wire::PROTECTION_EXECUTE,
        ..Default::default()
    };
    // SAFETY: the addresses are the GPU's.
    unsafe { call(node, wire::MAP_ADDRESS, &mut arg)? };
    Ok((arg.gpu_va, arg.fence_value))
}

/// Takes addresses back.
pub fn free_address(node: BorrowedFd<'_>, adapter: u32, base: u64, size: u64) -> io::Result<i32> {
    let mut arg = wire::FreeAddress {
        adapter,
        base,
        size,
        reserved: 0,
    };
    // SAFETY: the addresses are the GPU's.
    unsafe { call(node, wire::FREE_ADDRESS, &mut arg) }
}
