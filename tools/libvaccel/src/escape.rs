// SPDX-License-Identifier: MIT OR Apache-2.0
//! Opaque exchanges with the host's driver.

use std::sync::Arc;

use crate::handle::Node;
use crate::{ioctl, sys, ArgBo, Device, Error, ErrorKind, Queue, Result, Vm};

/// Sends `data` to the host's driver, about a vm and a queue of it or neither (0), and replaces it by
/// the answer.
fn escape(node: &Arc<Node>, (vm, queue): (u32, u32), flags: u32, data: &mut [u8]) -> Result<()> {
    let size = u32::try_from(data.len())
        .map_err(|_| Error::local(ErrorKind::TooLarge, "ESCAPE", "data above 4 GiB"))?;
    let bo = ArgBo::on(node, ArgBo::size_for(u64::from(size)))?;
    bo.mapping().write(0, data)?;
    let mut arg = sys::Escape {
        vm,
        queue,
        escape_flags: flags,
        arg_bo: bo.handle(),
        size,
        ..Default::default()
    };
    node.call::<ioctl::Escape>(&mut arg)?;
    bo.mapping().read(0, data)
}

impl Device {
    /// Sends `data` to the host's driver, which replaces it by its answer of the same size. What is in
    /// there, and what `flags` (D3DDDI escape flags) mean, is between a user-mode driver and its host.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HostRefused`], but only where `data` has more than 4 bytes: an answer has no place for a
    /// status. [`ErrorKind::Unsupported`] for escapes that every driver knows (flag bit 6).
    /// [`ErrorKind::InvalidArgument`] without data or with unknown flags.
    pub fn escape(&self, flags: u32, data: &mut [u8]) -> Result<()> {
        escape(self.node(), (0, 0), flags, data)
    }
}

impl Vm {
    /// As [`Device::escape`], about this vm.
    ///
    /// # Errors
    ///
    /// As [`Device::escape`].
    pub fn escape(&self, flags: u32, data: &mut [u8]) -> Result<()> {
        escape(self.node(), (self.handle(), 0), flags, data)
    }
}

impl Queue {
    /// As [`Device::escape`], about this queue.
    ///
    /// # Errors
    ///
    /// As [`Device::escape`].
    pub fn escape(&self, flags: u32, data: &mut [u8]) -> Result<()> {
        let vm = self.vm();
        escape(vm.node(), (vm.handle(), self.handle()), flags, data)
    }
}
