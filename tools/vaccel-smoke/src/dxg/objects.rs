// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the calls make, given up when it is dropped.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use vaccel_isa::{AdapterInfo, ADAPTER_INFO_BYTES};

use super::call::{self, Page};
use super::wire;

/// An open adapter.
#[derive(Debug)]
pub struct Adapter {
    node: File,
    handle: u32,
    luid: [u32; 2],
}

impl Adapter {
    /// Opens the first adapter of the node; none if there is no adapter.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Option<Arc<Self>>> {
        let node = File::open(path)?;
        let Some(first) = call::adapters(node.as_fd())?.first().copied() else {
            return Ok(None);
        };
        let handle = call::open_adapter(node.as_fd(), first.luid)?;
        Ok(Some(Arc::new(Self {
            node,
            handle,
            luid: first.luid,
        })))
    }

    fn node(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
    }

    /// How many adapters there are, which the driver knows by itself.
    pub fn count(&self) -> io::Result<usize> {
        Ok(call::adapters(self.node())?.len())
    }

    /// Asks the host what the process may use.
    pub fn query_memory(&self) -> io::Result<()> {
        call::query_memory(self.node(), self.handle).map(drop)
    }

    /// LUID, high part first.
    pub fn luid(&self) -> String {
        format!("{:08x}{:08x}", self.luid[1], self.luid[0])
    }

    /// Whether the engine runs command buffers of the open ISA.
    pub fn is_open(&self) -> bool {
        let mut block = [0; ADAPTER_INFO_BYTES];
        call::query_private(self.node(), self.handle, &mut block).is_ok()
            && AdapterInfo::from_bytes(&block).is_some()
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        // The file closes with this, and everything with that.
        let _ = call::end(self.node(), wire::CLOSE_ADAPTER, self.handle);
    }
}

/// A device with a paging queue.
#[derive(Debug)]
pub struct Device {
    adapter: Arc<Adapter>,
    handle: u32,
    paging: Paging,
}

/// A paging queue and its fence; goes with its device.
#[derive(Clone, Copy, Debug)]
struct Paging {
    queue: u32,
    fence: u32,
}

impl Device {
    /// A device on `adapter`.
    pub fn new(adapter: &Arc<Adapter>) -> io::Result<Arc<Self>> {
        let handle = call::create_device(adapter.node(), adapter.handle)?;
        let mut device = Self {
            adapter: Arc::clone(adapter),
            handle,
            paging: Paging { queue: 0, fence: 0 },
        };
        let (queue, fence) = call::create_paging_queue(device.node(), handle)?;
        device.paging = Paging { queue, fence };
        Ok(Arc::new(device))
    }

    fn node(&self) -> BorrowedFd<'_> {
        self.adapter.node()
    }

    /// Waits until the paging queue has come to `value`.
    fn paged(&self, value: u64) -> io::Result<()> {
        call::cpu_wait(self.node(), self.handle, self.paging.fence, value).map(drop)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let queue = self.paging.queue;
        if queue != 0 {
            let _ = call::end(self.node(), wire::DESTROY_PAGING_QUEUE, queue);
        }
        let _ = call::end(self.node(), wire::DESTROY_DEVICE, self.handle);
    }
}

/// A context.
#[derive(Debug)]
pub struct Context {
    device: Arc<Device>,
    handle: u32,
}

impl Context {
    /// A context on the first node of `device`.
    pub fn new(device: &Arc<Device>) -> io::Result<Self> {
        Ok(Self {
            handle: call::create_context(device.node(), device.handle)?,
            device: Arc::clone(device),
        })
    }

    /// Raises `fence` behind what was given before.
    pub fn signal(&self, fence: &Fence, value: u64) -> io::Result<()> {
        call::gpu_signal(self.device.node(), self.handle, fence.handle, value).map(drop)
    }

    /// Runs a command buffer at the start of `code`.
    pub fn submit(&self, code: &Allocation, size: u32) -> io::Result<()> {
        call::submit(self.device.node(), self.handle, code.gpu_va, size).map(drop)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = call::end(self.device.node(), wire::DESTROY_CONTEXT, self.handle);
    }
}

/// A monitored fence.
#[derive(Debug)]
pub struct Fence {
    device: Arc<Device>,
    handle: u32,
}

impl Fence {
    /// A fence of value 0.
    pub fn new(device: &Arc<Device>) -> io::Result<Self> {
        Ok(Self {
            handle: call::create_fence(device.node(), device.handle)?,
            device: Arc::clone(device),
        })
    }

    /// Raises it from the CPU.
    pub fn signal(&self, value: u64) -> io::Result<()> {
        let Device { handle, .. } = *self.device;
        call::cpu_signal(self.device.node(), handle, self.handle, value).map(drop)
    }

    /// Waits for a value, however long.
    pub fn wait(&self, value: u64) -> io::Result<()> {
        let Device { handle, .. } = *self.device;
        call::cpu_wait(self.device.node(), handle, self.handle, value).map(drop)
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let _ = call::end(self.device.node(), wire::DESTROY_FENCE, self.handle);
    }
}

/// Memory of the program that the GPU has addresses for.
#[derive(Debug)]
pub struct Allocation {
    device: Arc<Device>,
    handle: u32,
    gpu_va: u64,
    /// What it is made of; nobody sees it as long as the GPU may.
    memory: Vec<Page>,
}

impl Allocation {
    /// Takes the memory over, makes it resident and gives it addresses.
    pub fn new(device: &Arc<Device>, mut memory: Vec<Page>) -> io::Result<Self> {
        let handle = call::create_allocation(device.node(), device.handle, &mut memory)?;
        // From here on what is there is given up if something fails.
        let mut allocation = Self {
            device: Arc::clone(device),
            handle,
            gpu_va: 0,
            memory,
        };
        let queue = device.paging.queue;
        device.paged(call::make_resident(device.node(), queue, handle)?)?;
        let pages = allocation.memory.len() as u64;
        let (gpu_va, value) = call::map_address(device.node(), queue, handle, pages)?;
        allocation.gpu_va = gpu_va;
        device.paged(value)?;
        Ok(allocation)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let device = &self.device;
        let size = size_of_val(self.memory.as_slice()) as u64;
        if self.gpu_va != 0 {
            let adapter = device.adapter.handle;
            let _ = call::free_address(device.node(), adapter, self.gpu_va, size);
        }
        if call::destroy_allocation(device.node(), device.handle, self.handle).is_err() {
            // The host may still write there.
            std::mem::forget(std::mem::take(&mut self.memory));
        }
    }
}
