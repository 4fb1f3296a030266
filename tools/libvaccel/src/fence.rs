// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences: 64-bit values that the GPU and the CPU raise and wait for.

use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::flags::FenceFlags;
use crate::handle::{Handle, Kind, Node};
use crate::ioctl::{self, Errno};
use crate::mapping::{Access, Mapping};
use crate::sys;
use crate::vm::Vm;

/// Answer of [`Fence::query`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceState {
    /// Present value.
    pub value: u64,
    /// First error recorded on the fence.
    pub error: Option<Errno>,
    /// GPU address of the value.
    pub gpu_va: Option<u64>,
}

/// A monitored fence.
#[derive(Debug)]
#[must_use = "the fence is destroyed when this is dropped"]
pub struct Fence {
    page: Option<Mapping>,
    handle: Handle,
    gpu_va: u64,
    vm: Vm,
}

/// Waits for a fence by its handle.
pub(crate) fn wait(node: &Arc<Node>, fence: u32, value: u64, deadline: Deadline) -> Result<u64> {
    let mut arg = sys::FenceWait {
        fence,
        value,
        deadline_ns: deadline.as_ns(),
        ..Default::default()
    };
    node.call::<ioctl::FenceWait>(&mut arg)?;
    Ok(arg.observed_value)
}

impl Fence {
    pub(crate) fn new(vm: &Vm, flags: FenceFlags, initial_value: u64) -> Result<Self> {
        let mut arg = sys::FenceCreate {
            vm: vm.handle(),
            flags: flags.bits(),
            initial_value,
            ..Default::default()
        };
        vm.node().call::<ioctl::FenceCreate>(&mut arg)?;
        let handle = Handle::new(vm.node().clone(), Kind::Fence, arg.fence, "FENCE_CREATE")?;
        let page = match arg.mmap_offset {
            0 => None,
            offset => Some(Mapping::new(
                vm.node().fd(),
                offset,
                u64::from(sys::limit::PAGE_SIZE),
                Access::Read,
            )?),
        };
        Ok(Self {
            page,
            handle,
            gpu_va: arg.gpu_va,
            vm: vm.clone(),
        })
    }

    /// Handle.
    pub fn handle(&self) -> u32 {
        self.handle.raw()
    }

    /// The vm it belongs to.
    pub const fn vm(&self) -> &Vm {
        &self.vm
    }

    /// GPU address of the value, if it has one.
    pub const fn gpu_va(&self) -> Option<u64> {
        match self.gpu_va {
            0 => None,
            gpu_va => Some(gpu_va),
        }
    }

    /// The read-only page with the value, if it is mapped.
    pub const fn page(&self) -> Option<&Mapping> {
        self.page.as_ref()
    }

    /// Present value: one load where the value is mapped, else a query.
    pub fn value(&self) -> Result<u64> {
        match &self.page {
            Some(page) => page.load_u64(0),
            None => Ok(self.query()?.value),
        }
    }

    /// Value, recorded error and address as the kernel sees them.
    pub fn query(&self) -> Result<FenceState> {
        let mut arg = sys::FenceQuery {
            fence: self.handle(),
            ..Default::default()
        };
        self.vm.node().call::<ioctl::FenceQuery>(&mut arg)?;
        Ok(FenceState {
            value: arg.value,
            error: (arg.error != 0).then_some(Errno(arg.error.saturating_neg())),
            gpu_va: (arg.gpu_va != 0).then_some(arg.gpu_va),
        })
    }

    /// Raises the value from the CPU.
    pub fn signal(&self, value: u64) -> Result<()> {
        self.set(value, 0)
    }

    /// Sets the value from the CPU, also to a lower one.
    pub fn rewind(&self, value: u64) -> Result<()> {
        self.set(value, sys::SIGNAL_REWIND)
    }

    fn set(&self, value: u64, flags: u32) -> Result<()> {
        let mut arg = sys::FenceSignal {
            fence: self.handle(),
            flags,
            value,
            ..Default::default()
        };
        self.vm.node().call::<ioctl::FenceSignal>(&mut arg)
    }

    /// Waits until the value has been reached; returns the value seen.
    pub fn wait(&self, value: u64, deadline: Deadline) -> Result<u64> {
        wait(self.vm.node(), self.handle(), value, deadline)
    }

    /// Destroys the fence.
    pub fn close(self) -> Result<()> {
        let Self {
            page, handle, vm, ..
        } = self;
        drop(page);
        let closed = handle.close();
        drop(vm);
        closed
    }
}
