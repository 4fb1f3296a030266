// SPDX-License-Identifier: GPL-2.0-only

//! What stands behind GPU addresses: an object, its allocation in the vm, and in a vm that keeps its
//! bindings resident also the residency.
//!
//! # Locks
//!
//! `Backed::residency` is held to put in and take out only; the host is asked before and after. Who
//! evicts an idle vm has closed its gate ([`vm`](crate::vm)), so nobody counts on what is taken out.

use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::allocation::{
    Allocation,
    InUse,
    Refusal,
    Residency, //
};
use crate::bo;
use crate::host_error::HostResult;
use crate::vm::Vm;

/// An object behind GPU addresses.
#[pin_data]
pub(crate) struct Backed {
    #[pin]
    residency: Mutex<Option<Residency>>,
    /// Nobody offers what the vm will make resident.
    _in_use: Option<InUse>,
    // In this order: nothing needs the allocation any more, then the object may go.
    pub(crate) allocation: Arc<Allocation>,
    _object: ARef<bo::Object>,
}

impl Backed {
    /// An object behind addresses of `vm`, not made resident by it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the object is offered, `ENOMEM`.
    pub(crate) fn new(
        vm: &Vm,
        object: ARef<bo::Object>,
        allocation: Arc<Allocation>,
    ) -> Result<Arc<Self>> {
        let in_use = if vm.manual_residency {
            None
        } else {
            Some(allocation.use_bound()?)
        };
        Arc::pin_init(
            pin_init!(Self {
                _in_use: in_use,
                residency <- new_mutex!(None, "Backed::residency"),
                allocation,
                _object: object,
            }),
            GFP_KERNEL,
        )
    }

    /// Makes it resident, unless it is.
    ///
    /// # Errors
    ///
    /// A [`Refusal`].
    pub(crate) fn make_resident(&self, vm: &Vm) -> Result<(), Refusal> {
        if self.residency.lock().is_some() {
            return Ok(());
        }
        let residency = Residency::new(vm, &self.allocation)?;
        let mut slot = self.residency.lock();
        if slot.is_some() {
            // Somebody else was faster: one is enough.
            drop(slot);
            return Ok(());
        }
        *slot = Some(residency);
        Ok(())
    }

    /// Takes its residency out.
    pub(crate) fn take_residency(&self) -> Option<Residency> {
        self.residency.lock().take()
    }

    /// Ends what is behind addresses, unless others need it still, and waits for the host.
    ///
    /// # Errors
    ///
    /// Those of [`Residency::end`].
    pub(crate) fn end(this: Arc<Self>) -> HostResult {
        match Arc::into_unique_or_drop(this) {
            Some(last) => match last.take_residency() {
                Some(residency) => residency.end(),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}
