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

/// What a wait has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// Value of the fence.
    pub value: u64,
    /// First error recorded on the fence: that of something that was imported into it, which raised
    /// it all the same.
    pub error: Option<Errno>,
}

/// A recorded error, which the interface has as a negative number.
pub(crate) fn recorded(error: i32) -> Option<Errno> {
    (error != 0).then_some(Errno(error.saturating_neg()))
}

/// A monitored fence.
#[derive(Debug)]
#[must_use = "the fence is destroyed when this is dropped"]
pub struct Fence {
    page: Option<Mapping>,
    handle: Arc<Handle>,
    gpu_va: u64,
    vm: Vm,
}

/// Waits for a fence by its handle.
pub(crate) fn wait(node: &Arc<Node>, fence: u32, value: u64, deadline: Deadline) -> Result<Waited> {
    let mut arg = sys::FenceWait {
        fence,
        value,
        deadline_ns: deadline.as_ns(),
        ..Default::default()
    };
    node.call::<ioctl::FenceWait>(&mut arg)?;
    Ok(Waited {
        value: arg.observed_value,
        error: recorded(arg.error),
    })
}

/// Asks for the state of a fence by what keeps it.
pub(crate) fn query(fence: &Handle) -> Result<FenceState> {
    let mut arg = sys::FenceQuery {
        fence: fence.raw(),
        ..Default::default()
    };
    fence.node().call::<ioctl::FenceQuery>(&mut arg)?;
    Ok(FenceState {
        value: arg.value,
        error: recorded(arg.error),
        gpu_va: (arg.gpu_va != 0).then_some(arg.gpu_va),
    })
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
        Self::made(vm, arg.fence, arg.gpu_va, arg.mmap_offset, "FENCE_CREATE")
    }

    /// Takes over the fence that an operation made in `vm`.
    pub(crate) fn made(
        vm: &Vm,
        raw: u32,
        gpu_va: u64,
        mmap_offset: u64,
        operation: &'static str,
    ) -> Result<Self> {
        let handle = Arc::new(Handle::new(vm.node().clone(), Kind::Fence, raw, operation)?);
        let page = match mmap_offset {
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
            gpu_va,
            vm: vm.clone(),
        })
    }

    /// Handle.
    pub fn handle(&self) -> u32 {
        self.handle.raw()
    }

    /// What keeps the handle.
    pub(crate) const fn hold(&self) -> &Arc<Handle> {
        &self.handle
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
        query(&self.handle)
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

    /// Waits until the value has been reached.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) at the deadline,
    /// [`ErrorKind::VmError`](crate::ErrorKind::VmError) if the vm is in error,
    /// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the adapter is gone. An error
    /// recorded on the fence is none: [`Waited::error`] has it.
    pub fn wait(&self, value: u64, deadline: Deadline) -> Result<Waited> {
        wait(self.vm.node(), self.handle(), value, deadline)
    }

    /// Destroys the fence. Refused while a pending operation of a
    /// [`Ring`](crate::ring::Ring) names it; it then goes with the last of them.
    pub fn close(self) -> Result<()> {
        let Self {
            page, handle, vm, ..
        } = self;
        drop(page);
        let closed = handle.close_shared();
        drop(vm);
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a recorded error is an errno like any other, and 0 none.
    #[test]
    fn recorded_errors() {
        assert_eq!(recorded(0), None);
        assert_eq!(recorded(-libc::ETIME), Some(Errno(libc::ETIME)));
        assert_eq!(recorded(i32::MIN), Some(Errno(i32::MAX)));
    }
}
