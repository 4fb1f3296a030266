// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bindings of objects to GPU addresses.

use std::sync::Arc;

use crate::bo::Bo;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::BindFlags;
use crate::ioctl;
use crate::sys;
use crate::vm::Vm;

/// What to bind of an object, and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct BindOptions {
    flags: BindFlags,
    gpu_va: Option<u64>,
    part: Option<(u64, u64)>,
}

impl BindOptions {
    /// The whole object, at an address of the host's choice.
    pub const fn new(flags: BindFlags) -> Self {
        Self {
            flags,
            gpu_va: None,
            part: None,
        }
    }

    /// At this address.
    #[must_use]
    pub const fn at(mut self, gpu_va: u64) -> Self {
        self.gpu_va = Some(gpu_va);
        self
    }

    /// Only `size` bytes from `bo_offset`, both in whole pages.
    #[must_use]
    pub const fn part(mut self, bo_offset: u64, size: u64) -> Self {
        self.part = Some((bo_offset, size));
        self
    }
}

/// Refuses objects of another file, whose handles would name something else here.
pub(crate) fn same_file(vm: &Vm, bo: &Bo, operation: &'static str) -> Result<()> {
    if Arc::ptr_eq(vm.node(), bo.node()) {
        Ok(())
    } else {
        Err(Error::local(
            ErrorKind::InvalidArgument,
            operation,
            "the object belongs to another open file; export and import it",
        ))
    }
}

/// An object, or nothing, at GPU addresses, until it is dropped. Work that still uses the addresses
/// then faults: wait for it first.
#[derive(Debug)]
#[must_use = "the binding ends when this is dropped"]
pub struct Binding {
    bo: Option<Bo>,
    gpu_va: u64,
    /// 0 once unbound.
    size: u64,
    paging_value: u64,
    vm: Vm,
}

impl Vm {
    /// Binds an object of this file in this vm, whichever vm it was made in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] for an address that is taken and for an object that is offered,
    /// [`ErrorKind::Permission`] for writing through a binding of a read-only object,
    /// [`ErrorKind::OutOfDeviceMemory`] when it cannot be made resident.
    pub fn bind(&self, bo: &Bo, options: &BindOptions) -> Result<Binding> {
        same_file(self, bo, "BIND")?;
        let (bo_offset, size) = options.part.unwrap_or((0, bo.size()));
        let arg = sys::Bind {
            bo: bo.handle(),
            flags: options.flags.bits(),
            bo_offset,
            size,
            ..Default::default()
        };
        Binding::new(self, Some(bo.clone()), options.gpu_va, arg)
    }

    /// Binds nothing to `size` bytes of addresses: reads give zeros and writes are dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] for an address that is taken.
    pub fn bind_null(&self, flags: BindFlags, gpu_va: Option<u64>, size: u64) -> Result<Binding> {
        let arg = sys::Bind {
            flags: flags.bits() | sys::BIND_NULL,
            size,
            ..Default::default()
        };
        Binding::new(self, None, gpu_va, arg)
    }
}

impl Binding {
    fn new(vm: &Vm, bo: Option<Bo>, gpu_va: Option<u64>, mut arg: sys::Bind) -> Result<Self> {
        arg.vm = vm.handle();
        if let Some(gpu_va) = gpu_va {
            arg.flags |= sys::BIND_FIXED;
            arg.gpu_va = gpu_va;
        }
        let size = arg.size;
        vm.node()
            .call::<ioctl::Bind>(&mut arg)
            .map_err(|error| error.with_bytes_to_trim(arg.bytes_to_trim))?;
        Ok(Self {
            bo,
            gpu_va: arg.gpu_va,
            size,
            paging_value: arg.paging_value,
            vm: vm.clone(),
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

    /// The object; none if nothing is bound there.
    pub const fn bo(&self) -> Option<&Bo> {
        self.bo.as_ref()
    }

    /// The vm whose addresses these are.
    pub const fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Value of the vm's paging fence at which the binding holds. Submissions wait for it by
    /// themselves.
    pub const fn paging_value(&self) -> u64 {
        self.paging_value
    }

    /// Waits until the binding holds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`], or why the vm ended.
    pub fn wait(&self, deadline: Deadline) -> Result<()> {
        self.vm.wait_paging(self.paging_value, deadline)?;
        Ok(())
    }

    /// Ends the binding and reports the outcome.
    ///
    /// # Errors
    ///
    /// Those of UNBIND.
    pub fn close(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        let size = std::mem::take(&mut self.size);
        if size == 0 {
            return Ok(());
        }
        let mut arg = sys::Bind {
            vm: self.vm.handle(),
            gpu_va: self.gpu_va,
            size,
            ..Default::default()
        };
        self.vm.node().call::<ioctl::Unbind>(&mut arg)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever wants to know calls close().
        let _ = self.release();
    }
}
