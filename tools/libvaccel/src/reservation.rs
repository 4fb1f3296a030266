// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reserved GPU addresses, inside of which bindings replace each other.

use std::ops::Range;

use crate::binding::same_file;
use crate::bo::Bo;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::BindFlags;
use crate::ioctl;
use crate::sys;
use crate::vm::Vm;

/// Which addresses to reserve, and what unbound ones are.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReserveOptions {
    gpu_va: Option<u64>,
    zero: bool,
}

impl ReserveOptions {
    /// Addresses of the host's choice; where nothing is bound the GPU faults.
    pub const fn new() -> Self {
        Self {
            gpu_va: None,
            zero: false,
        }
    }

    /// From this address on.
    #[must_use]
    pub const fn at(mut self, gpu_va: u64) -> Self {
        self.gpu_va = Some(gpu_va);
        self
    }

    /// Where nothing is bound reads give zeros and writes are dropped.
    #[must_use]
    pub const fn zero(mut self) -> Self {
        self.zero = true;
        self
    }
}

/// GPU addresses that are the vm's until this is dropped, which also unbinds what is bound there.
/// Work that still uses the addresses then faults: wait for it first.
///
/// Bindings in here are not objects of their own: each replaces what it covers. The vm, not the
/// reservation, keeps what is bound alive; the [`Bo`] may be dropped.
#[derive(Debug)]
#[must_use = "the addresses are released when this is dropped"]
pub struct Reservation {
    gpu_va: u64,
    /// 0 once released.
    size: u64,
    vm: Vm,
}

impl Vm {
    /// Reserves `size` bytes of GPU addresses.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if an address is taken, [`ErrorKind::Unsupported`] without
    /// [`Features::VA_RESERVE`](crate::Features::VA_RESERVE).
    pub fn reserve(&self, size: u64, options: &ReserveOptions) -> Result<Reservation> {
        let mut arg = sys::VaRange {
            vm: self.handle(),
            flags: if options.zero { sys::VA_ZERO } else { 0 },
            gpu_va: options.gpu_va.unwrap_or(0),
            size,
            ..Default::default()
        };
        self.node().call::<ioctl::VaReserve>(&mut arg)?;
        Ok(Reservation {
            gpu_va: arg.gpu_va,
            size,
            vm: self.clone(),
        })
    }
}

impl Reservation {
    /// First address.
    pub const fn gpu_va(&self) -> u64 {
        self.gpu_va
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The vm.
    pub const fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Address and length of a range of the reservation.
    pub(crate) fn place(&self, range: &Range<u64>, operation: &'static str) -> Result<(u64, u64)> {
        range
            .end
            .checked_sub(range.start)
            .filter(|_| range.end <= self.size)
            .map(|length| (self.gpu_va.saturating_add(range.start), length))
            .ok_or_else(|| {
                Error::local(
                    ErrorKind::InvalidArgument,
                    operation,
                    format!("{range:?} is no range of {} reserved bytes", self.size),
                )
            })
    }

    /// Describes a binding for BIND and its queued form.
    pub(crate) fn describe(
        &self,
        offset: u64,
        bo: &Bo,
        part: &Range<u64>,
        flags: BindFlags,
    ) -> Result<sys::Bind> {
        same_file(&self.vm, bo, "BIND")?;
        let length = part.end.saturating_sub(part.start);
        let (gpu_va, size) = self.place(&(offset..offset.saturating_add(length)), "BIND")?;
        Ok(sys::Bind {
            vm: self.vm.handle(),
            bo: bo.handle(),
            flags: flags.bits() | sys::BIND_FIXED,
            gpu_va,
            bo_offset: part.start,
            size,
            ..Default::default()
        })
    }

    /// Describes a binding of nothing.
    pub(crate) fn describe_null(&self, range: &Range<u64>, flags: BindFlags) -> Result<sys::Bind> {
        let (gpu_va, size) = self.place(range, "BIND")?;
        Ok(sys::Bind {
            vm: self.vm.handle(),
            flags: flags.bits() | sys::BIND_FIXED | sys::BIND_NULL,
            gpu_va,
            size,
            ..Default::default()
        })
    }

    fn apply(&self, mut arg: sys::Bind) -> Result<u64> {
        self.vm
            .node()
            .call::<ioctl::Bind>(&mut arg)
            .map_err(|error| error.with_bytes_to_trim(arg.bytes_to_trim))?;
        Ok(arg.paging_value)
    }

    /// Binds bytes `part` of an object at `offset`, over what is there. Returns the value of the
    /// vm's paging fence at which it holds; submissions wait for it by themselves.
    ///
    /// # Errors
    ///
    /// As [`Vm::bind`], and [`ErrorKind::InvalidArgument`] for what does not fit.
    pub fn bind(&self, offset: u64, bo: &Bo, part: Range<u64>, flags: BindFlags) -> Result<u64> {
        self.apply(self.describe(offset, bo, &part, flags)?)
    }

    /// Binds nothing to `range`, over what is there: reads give zeros and writes are dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for what does not fit.
    pub fn bind_null(&self, range: Range<u64>, flags: BindFlags) -> Result<u64> {
        self.apply(self.describe_null(&range, flags)?)
    }

    /// Leaves `range` as the reservation is, whatever was bound there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] for what does not fit.
    pub fn unbind(&self, range: Range<u64>) -> Result<()> {
        let (gpu_va, size) = self.place(&range, "UNBIND")?;
        let mut arg = sys::Bind {
            vm: self.vm.handle(),
            gpu_va,
            size,
            ..Default::default()
        };
        self.vm.node().call::<ioctl::Unbind>(&mut arg)
    }

    /// Unbinds everything, releases the addresses and reports the outcome.
    ///
    /// # Errors
    ///
    /// Those of UNBIND and VA_RELEASE. The addresses then stay reserved as long as the vm exists.
    pub fn close(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        if self.size == 0 {
            return Ok(());
        }
        let unbound = self.unbind(0..self.size);
        let mut arg = sys::VaRange {
            vm: self.vm.handle(),
            gpu_va: self.gpu_va,
            size: std::mem::take(&mut self.size),
            ..Default::default()
        };
        unbound.and(self.vm.node().call::<ioctl::VaRelease>(&mut arg))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever wants to know calls close().
        let _ = self.release();
    }
}
