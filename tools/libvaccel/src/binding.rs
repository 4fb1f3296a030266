// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bindings of objects to GPU addresses.

use crate::bo::Bo;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::flags::BindFlags;
use crate::ioctl;
use crate::sys;

/// Part of an object at GPU addresses, until it is dropped. Work that still uses the addresses
/// then faults: wait for it first.
#[derive(Debug)]
#[must_use = "the binding ends when this is dropped"]
pub struct Binding {
    bo: Bo,
    gpu_va: u64,
    /// 0 once unbound.
    size: u64,
    paging_value: u64,
}

impl Binding {
    pub(crate) fn new(
        bo: &Bo,
        flags: BindFlags,
        gpu_va: Option<u64>,
        bo_offset: u64,
        size: u64,
    ) -> Result<Self> {
        let fixed = if gpu_va.is_some() { sys::BIND_FIXED } else { 0 };
        let mut arg = sys::Bind {
            vm: bo.vm().handle(),
            bo: bo.handle(),
            flags: flags.bits() | fixed,
            gpu_va: gpu_va.unwrap_or(0),
            bo_offset,
            size,
            ..Default::default()
        };
        bo.vm().node().call::<ioctl::Bind>(&mut arg)?;
        Ok(Self {
            bo: bo.clone(),
            gpu_va: arg.gpu_va,
            size,
            paging_value: arg.paging_value,
        })
    }

    /// First address.
    pub const fn gpu_va(&self) -> u64 {
        self.gpu_va
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The object.
    pub const fn bo(&self) -> &Bo {
        &self.bo
    }

    /// Value of the vm's paging fence at which the binding holds. Submissions wait for it by
    /// themselves.
    pub const fn paging_value(&self) -> u64 {
        self.paging_value
    }

    /// Waits until the binding holds.
    pub fn wait(&self, deadline: Deadline) -> Result<()> {
        self.bo.vm().wait_paging(self.paging_value, deadline)?;
        Ok(())
    }

    /// Ends the binding and reports the outcome.
    pub fn close(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        let size = std::mem::take(&mut self.size);
        if size == 0 {
            return Ok(());
        }
        let mut arg = sys::Bind {
            vm: self.bo.vm().handle(),
            gpu_va: self.gpu_va,
            size,
            ..Default::default()
        };
        self.bo.vm().node().call::<ioctl::Unbind>(&mut arg)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever wants to know calls close().
        let _ = self.release();
    }
}
