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

/// The argument of BIND.
pub(crate) fn describe(vm: &Vm, bo: &Bo, options: &BindOptions) -> Result<sys::Bind> {
    same_file(vm, bo, "BIND")?;
    let (bo_offset, size) = options.part.unwrap_or((0, bo.size()));
    let arg = sys::Bind {
        vm: vm.handle(),
        bo: bo.handle(),
        flags: options.flags.bits(),
        bo_offset,
        size,
        ..Default::default()
    };
    Ok(at(arg, options.gpu_va))
}

/// The argument of BIND for nothing.
pub(crate) fn describe_null(
    vm: &Vm,
    flags: BindFlags,
    gpu_va: Option<u64>,
    size: u64,
) -> sys::Bind {
    let arg = sys::Bind {
        vm: vm.handle(),
        flags: flags.bits() | sys::BIND_NULL,
        size,
        ..Default::default()
    };
    at(arg, gpu_va)
}

fn at(mut arg: sys::Bind, gpu_va: Option<u64>) -> sys::Bind {
    if let Some(gpu_va) = gpu_va {
        arg.flags |= sys::BIND_FIXED;
        arg.gpu_va = gpu_va;
    }
    arg
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
        let arg = describe(self, bo, options)?;
        Binding::new(self, Some(bo.clone()), arg)
    }

    /// Binds nothing to `size` bytes of addresses: reads give zeros and writes are dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] for an address that is taken.
    pub fn bind_null(&self, flags: BindFlags, gpu_va: Option<u64>, size: u64) -> Result<Binding> {
        Binding::new(self, None, describe_null(self, flags, gpu_va, size))
    }
}

impl Binding {
    fn new(vm: &Vm, bo: Option<Bo>, mut arg: sys::Bind) -> Result<Self> {
        vm.node()
            .call::<ioctl::Bind>(&mut arg)
            .map_err(|error| error.with_bytes_to_trim(arg.bytes_to_trim))?;
        Ok(Self::made(vm.clone(), bo, &arg))
    }

    /// Takes over what BIND has made.
    pub(crate) const fn made(vm: Vm, bo: Option<Bo>, arg: &sys::Bind) -> Self {
        Self {
            bo,
            gpu_va: arg.gpu_va,
            size: arg.size,
            paging_value: arg.paging_value,
            vm,
        }
    }

    /// The argument of UNBIND, which is the caller's to run from here on.
    pub(crate) fn disown(&mut self) -> sys::Bind {
        sys::Bind {
            vm: self.vm.handle(),
            gpu_va: self.gpu_va,
            size: std::mem::take(&mut self.size),
            ..Default::default()
        }
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
        if self.size == 0 {
            return Ok(());
        }
        let mut arg = self.disown();
        self.vm.node().call::<ioctl::Unbind>(&mut arg)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever wants to know calls close().
        let _ = self.release();
    }
}
