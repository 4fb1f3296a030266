// SPDX-License-Identifier: MIT OR Apache-2.0
//! Residency: by hand, for a vm made with [`VmFlags::MANUAL_RESIDENCY`](crate::VmFlags), and what
//! the host may do with memory that is not in use.
//!
//! Every operation takes a list and is all or nothing; a list longer than the interface takes
//! ([`sys::limit::RESIDENCY_MAX`]) is refused rather than split.

use zerocopy::{FromBytes, IntoBytes};

use crate::arg::ArgBo;
use crate::binding::same_file;
use crate::bo::Bo;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::flags::ResidentFlags;
use crate::ioctl;
use crate::mapping::Mapping;
use crate::sys;
use crate::vm::Vm;

/// Objects that were made resident; see [`Vm::make_resident`].
#[derive(Clone, Debug)]
#[must_use = "the objects are not there before the paging fence says so"]
pub struct Resident {
    vm: Vm,
    paging_value: u64,
}

impl Resident {
    /// Value of the vm's paging fence at which the objects are there.
    pub const fn paging_value(&self) -> u64 {
        self.paging_value
    }

    /// Waits until they are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`], or why the vm ended.
    pub fn wait(&self, deadline: Deadline) -> Result<()> {
        self.vm.wait_paging(self.paging_value, deadline)?;
        Ok(())
    }
}

/// Which offered objects the host drops first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfferPriority {
    /// These.
    Low,
    /// Then these.
    #[default]
    Normal,
    /// These last.
    High,
    /// By the priority of the object.
    Auto,
}

impl OfferPriority {
    const fn value(self) -> u32 {
        match self {
            Self::Low => sys::OFFER_PRIORITY_LOW,
            Self::Normal => sys::OFFER_PRIORITY_NORMAL,
            Self::High => sys::OFFER_PRIORITY_HIGH,
            Self::Auto => sys::OFFER_PRIORITY_AUTO,
        }
    }
}

/// What became of an object that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaimed {
    /// The content survived.
    Kept,
    /// The content is lost.
    Discarded,
    /// The memory itself is gone.
    NotCommitted,
    /// An outcome this library does not know.
    Unknown(u32),
}

impl From<u32> for Reclaimed {
    fn from(value: u32) -> Self {
        match value {
            sys::RECLAIMED_KEPT => Self::Kept,
            sys::RECLAIMED_DISCARDED => Self::Discarded,
            sys::RECLAIMED_NOT_COMMITTED => Self::NotCommitted,
            other => Self::Unknown(other),
        }
    }
}

/// Priority by which the host keeps objects: any number up to [`Priority::MAXIMUM`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u32);

impl Priority {
    /// Lowest.
    pub const MINIMUM: Self = Self(sys::PRIORITY_MINIMUM);
    /// Low.
    pub const LOW: Self = Self(sys::PRIORITY_LOW);
    /// A new object's.
    pub const NORMAL: Self = Self(sys::PRIORITY_NORMAL);
    /// High.
    pub const HIGH: Self = Self(sys::PRIORITY_HIGH);
    /// Highest.
    pub const MAXIMUM: Self = Self(sys::PRIORITY_MAXIMUM);
}

const OPERATION: &str = "RESIDENCY";

/// One RESIDENCY operation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    pub(crate) op: u32,
    pub(crate) flags: u32,
    pub(crate) priority: u32,
}

impl Request {
    pub(crate) const fn resident(flags: ResidentFlags) -> Self {
        Self {
            op: sys::RESIDENCY_RESIDENT,
            flags: flags.bits(),
            priority: 0,
        }
    }

    pub(crate) const EVICT: Self = Self::plain(sys::RESIDENCY_EVICT);
    pub(crate) const RECLAIM: Self = Self::plain(sys::RESIDENCY_RECLAIM);

    const fn plain(op: u32) -> Self {
        Self {
            op,
            flags: 0,
            priority: 0,
        }
    }

    pub(crate) const fn offer(priority: OfferPriority, decommit: bool) -> Self {
        Self {
            op: sys::RESIDENCY_OFFER,
            flags: if decommit {
                sys::OFFER_ALLOW_DECOMMIT
            } else {
                0
            },
            priority: priority.value(),
        }
    }

    /// The operation on the `count` objects that an argument object lists from `arg_offset`.
    pub(crate) fn describe(
        self,
        vm: &Vm,
        (arg_bo, arg_offset): (u32, u64),
        count: usize,
    ) -> sys::Residency {
        sys::Residency {
            vm: vm.handle(),
            op: self.op,
            flags: self.flags,
            priority: self.priority,
            arg_bo,
            // A list is not longer than the interface takes.
            count: count as u32,
            arg_offset,
            ..Default::default()
        }
    }
}

/// The list as the interface takes it.
pub(crate) fn entries(vm: &Vm, objects: &[&Bo]) -> Result<Vec<sys::ResidencyEntry>> {
    for bo in objects {
        same_file(vm, bo, OPERATION)?;
    }
    let most = sys::limit::RESIDENCY_MAX as usize;
    if objects.len() > most {
        return Err(Error::local(
            ErrorKind::TooLarge,
            OPERATION,
            format!("{} objects, at most {most}", objects.len()),
        ));
    }
    let entries = objects.iter().map(|bo| sys::ResidencyEntry {
        bo: bo.handle(),
        result: 0,
    });
    Ok(entries.collect())
}

/// The outcomes that RECLAIM has left in a list of `count` at `offset`.
pub(crate) fn reclaimed(args: &Mapping, offset: usize, count: usize) -> Result<Vec<Reclaimed>> {
    let mut bytes = vec![0; count * size_of::<sys::ResidencyEntry>()];
    args.read(offset, &mut bytes)?;
    let entries = bytes
        .chunks_exact(size_of::<sys::ResidencyEntry>())
        .filter_map(|chunk| sys::ResidencyEntry::read_from_bytes(chunk).ok());
    Ok(entries.map(|entry| Reclaimed::from(entry.result)).collect())
}

impl Vm {
    /// Makes objects resident, all or none. Counted per object: each needs an [`Vm::evict`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfDeviceMemory`] over the budget; [`Error::bytes_to_trim`] says how much has
    /// to be evicted first. [`ErrorKind::Busy`] for an object that is offered.
    pub fn make_resident(&self, objects: &[&Bo]) -> Result<Resident> {
        self.make_resident_with(objects, ResidentFlags::empty())
    }

    /// As [`Vm::make_resident`], with flags.
    ///
    /// # Errors
    ///
    /// As [`Vm::make_resident`].
    pub fn make_resident_with(&self, objects: &[&Bo], flags: ResidentFlags) -> Result<Resident> {
        let (paging_value, _) = self.residency(Request::resident(flags), objects)?;
        Ok(Resident {
            vm: self.clone(),
            paging_value,
        })
    }

    /// Undoes one [`Vm::make_resident`] of each object.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] or [`ErrorKind::Busy`] for an object that is not resident by
    /// hand.
    pub fn evict(&self, objects: &[&Bo]) -> Result<()> {
        self.residency(Request::EVICT, objects).map(drop)
    }

    /// Lets the host drop the content of objects, and with `decommit` their memory, until they are
    /// reclaimed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] for an object that is offered already, resident by hand, or bound in a
    /// vm that keeps its objects resident.
    /// [`ErrorKind::InvalidArgument`] for memory of the host that was made shareable.
    pub fn offer(&self, objects: &[&Bo], priority: OfferPriority, decommit: bool) -> Result<()> {
        self.residency(Request::offer(priority, decommit), objects)
            .map(drop)
    }

    /// Takes objects back; says for each what became of it. Waits on nothing: a queue's work that is
    /// submitted afterwards finds them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfDeviceMemory`] if the host has no memory for them; they stay offered.
    /// [`ErrorKind::InvalidArgument`] for an object that was never used in this vm.
    pub fn reclaim(&self, objects: &[&Bo]) -> Result<Vec<Reclaimed>> {
        let (_, args) = self.residency(Request::RECLAIM, objects)?;
        reclaimed(args.mapping(), 0, objects.len())
    }

    /// Sets the priority by which the host keeps objects.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] above [`Priority::MAXIMUM`].
    pub fn set_priority(&self, objects: &[&Bo], priority: Priority) -> Result<()> {
        let request = Request {
            op: sys::RESIDENCY_PRIORITY,
            priority: priority.0,
            ..Default::default()
        };
        self.residency(request, objects).map(drop)
    }

    /// Runs a request; the paging value, and the list with its results.
    fn residency(&self, request: Request, objects: &[&Bo]) -> Result<(u64, ArgBo)> {
        let list = entries(self, objects)?;
        let bytes = list.as_slice().as_bytes();
        let args = ArgBo::on(self.node(), ArgBo::size_for(bytes.len() as u64))?;
        args.mapping().write(0, bytes)?;
        let mut arg = request.describe(self, (args.handle(), 0), objects.len());
        self.node()
            .call::<ioctl::Residency>(&mut arg)
            .map_err(|error| error.with_bytes_to_trim(arg.bytes_to_trim))?;
        Ok((arg.paging_value, args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that outcomes are told apart, one of a newer driver included.
    #[test]
    fn outcomes() {
        assert_eq!(Reclaimed::from(0), Reclaimed::Kept);
        assert_eq!(Reclaimed::from(2), Reclaimed::NotCommitted);
        assert_eq!(Reclaimed::from(7), Reclaimed::Unknown(7));
        assert!(Priority::LOW < Priority::NORMAL);
    }
}
