// SPDX-License-Identifier: GPL-2.0-only

//! The I/O space: guest-physical addresses in which the host places fences and CPU windows.
//!
//! The range is taken from the MMIO window of the VMBus and told to the host once. What the host
//! later names as an address in it is checked against it before it is mapped (protocol 4.9).

use kernel::device::Bound;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::gpupv;
use crate::io::MemRemap;
use crate::logic::range;
use crate::vmbus;

/// The I/O space of a VM.
pub(crate) struct IoSpace {
    range: vmbus::MmioRange,
}

impl IoSpace {
    /// Takes `megabytes` MiB of addresses.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the offer names no size, as the protocol has it; `ENXIO` or another error of the
    /// VMBus if its window has no room.
    pub(crate) fn allocate(device: &vmbus::Device<Bound>, megabytes: u16) -> Result<Self> {
        if megabytes == 0 {
            return Err(ENOMEM);
        }
        let size = u64::from(megabytes) << 20;
        Ok(Self {
            range: vmbus::MmioRange::allocate(device, size, gpupv::IO_SPACE_ALIGNMENT)?,
        })
    }

    /// First address.
    pub(crate) fn start(&self) -> u64 {
        self.range.start()
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.range.size()
    }

    /// Maps the page of a fence that the host placed at `address`.
    ///
    /// # Errors
    ///
    /// `EIO` if a page at this address is not inside the I/O space, or not at the start of a page;
    /// `ENOMEM`.
    pub(crate) fn fence_page(&self, address: u64) -> Result<Arc<MemRemap>> {
        let offset = address.checked_sub(self.start()).ok_or(EIO)?;
        range::pages_inside(offset, gpupv::PAGE_SIZE, self.size()).map_err(|_| EIO)?;
        // CAST: a page.
        let page = self.range.remap(offset, gpupv::PAGE_SIZE as usize)?;
        Ok(Arc::new(page, GFP_KERNEL)?)
    }
}
