// SPDX-License-Identifier: MIT OR Apache-2.0
//! GPU address spaces.
//!
//! Clones of a [`Vm`] are the same vm. Queues, fences, objects and bindings hold one, so that the
//! handle is given up after the last of them; [`Vm::close`] reports if it was not the last.

use std::sync::Arc;

use crate::bo::{Bo, BoOptions};
use crate::deadline::Deadline;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::{self, Fence};
use crate::flags::{FenceFlags, VmFlags};
use crate::handle::{Handle, Kind, Node};
use crate::ioctl;
use crate::queue::{Queue, QueueOptions};
use crate::sys;

/// Whether a vm works, or what ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No error.
    Active,
    /// The host reset the adapter or an engine.
    Reset,
    /// A job did not end in time.
    Hung,
    /// The adapter was stopped or removed.
    Stopped,
    /// The host ran out of memory under a job.
    OutOfMemory,
    /// A command buffer was malformed.
    DmaFault,
    /// A job touched memory that is not mapped or not resident.
    PageFault,
    /// A state this library does not know.
    Unknown(u32),
}

impl From<u32> for State {
    fn from(value: u32) -> Self {
        match value {
            sys::STATE_ACTIVE => Self::Active,
            sys::STATE_RESET => Self::Reset,
            sys::STATE_HUNG => Self::Hung,
            sys::STATE_STOPPED => Self::Stopped,
            sys::STATE_OUT_OF_MEMORY => Self::OutOfMemory,
            sys::STATE_DMA_FAULT => Self::DmaFault,
            sys::STATE_PAGE_FAULT => Self::PageFault,
            other => Self::Unknown(other),
        }
    }
}

/// The first page fault of a vm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// GPU address.
    pub gpu_va: u64,
    /// Flags as the host reports them; bit 0: write.
    pub flags: u32,
}

/// Answer of [`Vm::query`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmState {
    /// State.
    pub state: State,
    /// The fault, in state [`State::PageFault`].
    pub fault: Option<PageFault>,
    /// Last value of the paging fence that an operation asked for.
    pub paging_value: u64,
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    paging_fence: u32,
    flags: VmFlags,
}

/// A GPU address space with its queues, fences and bindings.
#[derive(Clone, Debug)]
#[must_use = "the vm is destroyed when its last user is dropped"]
pub struct Vm {
    inner: Arc<Inner>,
}

impl Vm {
    pub(crate) fn new(device: &Device, flags: VmFlags) -> Result<Self> {
        let node = device.node();
        let mut arg = sys::VmCreate {
            flags: flags.bits(),
            ..Default::default()
        };
        node.call::<ioctl::VmCreate>(&mut arg)?;
        let handle = Handle::new(node.clone(), Kind::Vm, arg.vm, "VM_CREATE")?;
        Ok(Self {
            inner: Arc::new(Inner {
                handle,
                paging_fence: arg.paging_fence,
                flags,
            }),
        })
    }

    /// The file it belongs to.
    pub fn device(&self) -> Device {
        Device::of(self.node().clone())
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        self.inner.handle.node()
    }

    /// Handle.
    pub fn handle(&self) -> u32 {
        self.inner.handle.raw()
    }

    /// Whether its residency is by hand.
    pub fn is_manual(&self) -> bool {
        self.inner.flags.contains(VmFlags::MANUAL_RESIDENCY)
    }

    /// Handle of the paging fence, which can be waited for but not signalled or destroyed.
    pub fn paging_fence(&self) -> u32 {
        self.inner.paging_fence
    }

    /// Reads the state.
    pub fn query(&self) -> Result<VmState> {
        let mut arg = sys::VmQuery {
            vm: self.handle(),
            ..Default::default()
        };
        self.node().call::<ioctl::VmQuery>(&mut arg)?;
        let state = State::from(arg.state);
        Ok(VmState {
            state,
            fault: (state == State::PageFault).then_some(PageFault {
                gpu_va: arg.fault_gpu_va,
                flags: arg.fault_flags,
            }),
            paging_value: arg.paging_value,
        })
    }

    /// Waits until the paging fence has reached `value`, as BIND and RESIDENCY report it.
    pub fn wait_paging(&self, value: u64, deadline: Deadline) -> Result<u64> {
        let waited = fence::wait(self.node(), self.paging_fence(), value, deadline)?;
        Ok(waited.value)
    }

    /// Makes a queue.
    pub fn create_queue(&self, options: &QueueOptions) -> Result<Queue> {
        Queue::new(self, options)
    }

    /// Makes a fence.
    pub fn create_fence(&self, flags: FenceFlags, initial_value: u64) -> Result<Fence> {
        Fence::new(self, flags, initial_value)
    }

    /// Makes a buffer object, which this vm's host device owns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfDeviceMemory`] when the limit of pinned memory is reached (no host status) or
    /// the host has no memory, [`ErrorKind::HostRefused`] when it does not take the driver data.
    pub fn create_bo(&self, options: &BoOptions) -> Result<Bo> {
        Bo::new(self, options)
    }

    /// Destroys the vm. Refused while queues, fences, objects or bindings of it exist; it then goes
    /// with the last of them.
    pub fn close(self) -> Result<()> {
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner.handle.close(),
            Err(inner) => Err(Error::local(
                ErrorKind::Busy,
                "VM_DESTROY",
                format!("{} users are left", Arc::strong_count(&inner) - 1),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that a state of a newer driver is kept, not mistaken for a known one.
    #[test]
    fn unknown_states_are_kept() {
        assert_eq!(State::from(1), State::Active);
        assert_eq!(State::from(0), State::Unknown(0));
        assert_eq!(State::from(99), State::Unknown(99));
    }
}
