// SPDX-License-Identifier: GPL-2.0-only

//! The I/O space: guest-physical addresses in which the host places fences and CPU windows.
//!
//! The range is taken from the MMIO window of the VMBus and told to the host once. What the host
//! later names as an address in it is checked against it before it is mapped (protocol 4.9).

use kernel::device::Bound;
use kernel::prelude::*;
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

use crate::gpupv;
use crate::io::{
    CacheMode,
    MemRemap, //
};
use crate::logic::range;
use crate::vmbus;

/// The I/O space of a VM.
#[pin_data]
pub(crate) struct IoSpace {
    start: u64,
    size: u64,
    /// None after the end of the global channel.
    #[pin]
    range: Mutex<Option<vmbus::MmioRange>>,
}

impl IoSpace {
    /// Takes `megabytes` MiB of addresses.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the offer names no size, as the protocol has it; `ENXIO` or another error of the
    /// VMBus if its window has no room.
    pub(crate) fn allocate(device: &vmbus::Device<Bound>, megabytes: u16) -> Result<Arc<Self>> {
        if megabytes == 0 {
            return Err(ENOMEM);
        }
        let size = u64::from(megabytes) << 20;
        let range = vmbus::MmioRange::allocate(device, size, gpupv::IO_SPACE_ALIGNMENT)?;
        Arc::pin_init(
            pin_init!(Self {
                start: range.start(),
                size: range.size(),
                range <- new_mutex!(Some(range)),
            }),
            GFP_KERNEL,
        )
    }

    /// Gives the addresses back: the host does not use them any more, and a host that comes back
    /// needs as many. Mappings of old fences may outlive this; nobody believes what is read from
    /// them.
    pub(crate) fn close(&self) {
        let range = self.range.lock().take();
        drop(range);
    }

    /// First address.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Maps `size` bytes of the host's memory, which it placed at `address`.
    ///
    /// # Errors
    ///
    /// As [`IoSpace::fence_page`].
    pub(crate) fn window(&self, address: u64, size: u64, mode: CacheMode) -> Result<Arc<MemRemap>> {
        let offset = address.checked_sub(self.start()).ok_or(EIO)?;
        range::pages_inside(offset, size, self.size()).map_err(|_| EIO)?;
        let range = self.range.lock();
        // CAST: it is inside of the I/O space.
        let size = size as usize;
        let window = range.as_ref().ok_or(ENODEV)?.remap(offset, size, mode)?;
        Ok(Arc::new(window, GFP_KERNEL)?)
    }

    /// Maps the page of a fence that the host placed at `address`.
    ///
    /// # Errors
    ///
    /// `EIO` if a page at this address is not inside the I/O space, or not at the start of a page;
    /// `ENOMEM`; `ENODEV` after the end of the global channel.
    pub(crate) fn fence_page(&self, address: u64) -> Result<Arc<MemRemap>> {
        let offset = address.checked_sub(self.start()).ok_or(EIO)?;
        range::pages_inside(offset, gpupv::PAGE_SIZE, self.size()).map_err(|_| EIO)?;
        // CAST: a page.
        let size = gpupv::PAGE_SIZE as usize;
        let range = self.range.lock();
        let range = range.as_ref().ok_or(ENODEV)?;
        let page = range.remap(offset, size, CacheMode::WriteBack)?;
        Ok(Arc::new(page, GFP_KERNEL)?)
    }
}
