// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bindings and residency. These end when the memory is where it shall be.

use zerocopy::IntoBytes;

use crate::binding::{self, BindOptions, Binding};
use crate::bo::Bo;
use crate::error::Result;
use crate::flags::{BindFlags, ResidentFlags};
use crate::ioctl;
use crate::residency::{self, OfferPriority, Reclaimed, Request};
use crate::ring::args::Place;
use crate::ring::command::{Command, Success};
use crate::ring::{Pending, Ring};
use crate::sys;
use crate::vm::Vm;

impl Ring {
    /// Binds an object of this file in a vm; ends when the binding holds.
    ///
    /// # Errors
    ///
    /// As [`Vm::bind`].
    pub fn bind(&self, vm: &Vm, bo: &Bo, options: &BindOptions) -> Pending<Binding> {
        self.or_refused(|| {
            let arg = binding::describe(vm, bo, options)?;
            self.bind_described(vm, Some(bo.clone()), arg)
        })
    }

    /// Binds nothing to `size` bytes of addresses.
    ///
    /// # Errors
    ///
    /// As [`Vm::bind_null`].
    pub fn bind_null(
        &self,
        vm: &Vm,
        flags: BindFlags,
        gpu_va: Option<u64>,
        size: u64,
    ) -> Pending<Binding> {
        self.or_refused(|| {
            let arg = binding::describe_null(vm, flags, gpu_va, size);
            self.bind_described(vm, None, arg)
        })
    }

    fn bind_described(
        &self,
        vm: &Vm,
        bo: Option<Bo>,
        mut arg: sys::Bind,
    ) -> Result<Pending<Binding>> {
        self.own(vm.node(), "BIND")?;
        let vm = vm.clone();
        let command = Command::Bind {
            arg,
            paging_fence: vm.paging_fence(),
        };
        Ok(self.begin(command, move |outcome| {
            arg.gpu_va = outcome.of_memory::<ioctl::Bind>()?.extra;
            Ok(Binding::made(vm, bo, &arg))
        }))
    }

    /// Ends a binding. If that fails, the addresses are taken until the vm goes.
    ///
    /// # Errors
    ///
    /// As [`Binding::close`].
    pub fn unbind(&self, mut binding: Binding) -> Pending<()> {
        self.or_refused(|| {
            self.own(binding.vm().node(), "UNBIND")?;
            let command = Command::Unbind {
                arg: binding.disown(),
                paging_fence: binding.vm().paging_fence(),
            };
            Ok(self.begin(command, move |outcome| {
                drop(binding);
                outcome.of::<ioctl::Unbind>().map(drop)
            }))
        })
    }

    /// Makes objects resident, all or none; ends when they are. To drop the future does not undo it.
    ///
    /// # Errors
    ///
    /// As [`Vm::make_resident`].
    pub fn make_resident(&self, vm: &Vm, objects: &[&Bo], flags: ResidentFlags) -> Pending<()> {
        self.residency(vm, objects, Request::resident(flags), |_, _| Ok(()))
    }

    /// Undoes one [`Ring::make_resident`] of each object. Gives how many bytes more the host would
    /// like to have.
    ///
    /// # Errors
    ///
    /// As [`Vm::evict`].
    pub fn evict(&self, vm: &Vm, objects: &[&Bo]) -> Pending<u64> {
        self.residency(vm, objects, Request::EVICT, |success, _| Ok(success.extra))
    }

    /// Lets the host drop the content of objects until they are reclaimed.
    ///
    /// # Errors
    ///
    /// As [`Vm::offer`].
    pub fn offer(
        &self,
        vm: &Vm,
        objects: &[&Bo],
        priority: OfferPriority,
        decommit: bool,
    ) -> Pending<()> {
        let request = Request::offer(priority, decommit);
        self.residency(vm, objects, request, |_, _| Ok(()))
    }

    /// Takes objects back; says for each what became of it.
    ///
    /// # Errors
    ///
    /// As [`Vm::reclaim`].
    pub fn reclaim(&self, vm: &Vm, objects: &[&Bo]) -> Pending<Vec<Reclaimed>> {
        let count = objects.len();
        self.residency(vm, objects, Request::RECLAIM, move |_, place| {
            residency::reclaimed(place.mapping(), place.offset() as usize, count)
        })
    }

    fn residency<T: 'static>(
        &self,
        vm: &Vm,
        objects: &[&Bo],
        request: Request,
        result: impl FnOnce(Success, &Place) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        self.or_refused(|| {
            self.own(vm.node(), "RESIDENCY")?;
            let entries = residency::entries(vm, objects)?;
            let bytes = entries.as_slice().as_bytes();
            let place = self.place(bytes.len() as u64)?;
            place.write(bytes)?;
            let arg = request.describe(vm, (place.handle(), place.offset()), objects.len());
            let command = Command::Residency {
                arg,
                paging_fence: vm.paging_fence(),
            };
            let objects: Vec<Bo> = objects.iter().map(|bo| (*bo).clone()).collect();
            let kept = (vm.clone(), objects);
            Ok(self.begin(command, move |outcome| {
                drop(kept);
                result(outcome.of_memory::<ioctl::Residency>()?, &place)
            }))
        })
    }
}
