// SPDX-License-Identifier: MIT OR Apache-2.0
//! Residency by hand, for a vm made with [`VmFlags::MANUAL_RESIDENCY`](crate::VmFlags).

use zerocopy::IntoBytes;

use crate::arg::ArgBo;
use crate::bo::Bo;
use crate::error::{Error, ErrorKind, Result};
use crate::ioctl;
use crate::sys;
use crate::vm::Vm;

impl Vm {
    /// Makes objects resident; returns the value of the paging fence at which they are.
    pub fn make_resident(&self, objects: &[&Bo]) -> Result<u64> {
        self.residency(sys::RESIDENCY_RESIDENT, objects)
    }

    /// Undoes one [`Vm::make_resident`].
    pub fn evict(&self, objects: &[&Bo]) -> Result<()> {
        self.residency(sys::RESIDENCY_EVICT, objects).map(|_| ())
    }

    fn residency(&self, op: u32, objects: &[&Bo]) -> Result<u64> {
        let list: Vec<sys::ResidencyEntry> = objects
            .iter()
            .map(|bo| sys::ResidencyEntry {
                bo: bo.handle(),
                result: 0,
            })
            .collect();
        let count = u32::try_from(list.len())
            .ok()
            .filter(|count| *count <= sys::limit::RESIDENCY_MAX)
            .ok_or_else(|| {
                Error::local(
                    ErrorKind::TooLarge,
                    "RESIDENCY",
                    format!(
                        "{} objects, at most {}",
                        list.len(),
                        sys::limit::RESIDENCY_MAX
                    ),
                )
            })?;
        let bytes = list.as_slice().as_bytes();
        let args = ArgBo::on(self.node(), ArgBo::size_for(bytes.len() as u64))?;
        args.mapping().write(0, bytes)?;
        let mut arg = sys::Residency {
            vm: self.handle(),
            op,
            arg_bo: args.handle(),
            count,
            ..Default::default()
        };
        self.node().call::<ioctl::Residency>(&mut arg)?;
        Ok(arg.paging_value)
    }
}
