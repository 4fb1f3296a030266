// SPDX-License-Identifier: MIT OR Apache-2.0
//! Argument objects: memory in which bulk arguments and results of operations travel.
//!
//! The kernel copies what it needs during the operation and keeps nothing, so a slot may be reused
//! as soon as the call is back.

use std::sync::Arc;

use crate::error::Result;
use crate::handle::{Handle, Kind, Node};
use crate::ioctl;
use crate::mapping::{Access, Mapping};
use crate::sys;

/// A mapped argument object.
#[derive(Debug)]
#[must_use = "the object is closed when this is dropped"]
pub struct ArgBo {
    mapping: Mapping,
    handle: Handle,
    size: u64,
}

impl ArgBo {
    /// The file it belongs to.
    pub(crate) const fn node(&self) -> &Arc<Node> {
        self.handle.node()
    }

    pub(crate) fn on(node: &Arc<Node>, size: u64) -> Result<Self> {
        let mut arg = sys::BoCreate {
            size,
            kind: sys::BO_KIND_ARG,
            ..Default::default()
        };
        node.call::<ioctl::BoCreate>(&mut arg)?;
        let handle = Handle::new(node.clone(), Kind::Gem, arg.bo, "BO_CREATE")?;
        let mapping = Mapping::new(node.fd(), arg.mmap_offset, size, Access::ReadWrite)?;
        Ok(Self {
            mapping,
            handle,
            size,
        })
    }

    /// Smallest multiple of the page size that holds `bytes`, at least one page.
    pub(crate) fn size_for(bytes: u64) -> u64 {
        let page = u64::from(sys::limit::PAGE_SIZE);
        bytes.max(1).div_ceil(page).saturating_mul(page)
    }

    /// GEM handle.
    pub fn handle(&self) -> u32 {
        self.handle.raw()
    }

    /// Size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The memory.
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Unmaps and closes the object.
    pub fn close(self) -> Result<()> {
        let Self {
            mapping, handle, ..
        } = self;
        drop(mapping);
        handle.close()
    }
}

/// Makes sure that `slot` holds an object of at least `bytes`, and gives it out.
pub(crate) fn at_least<'a>(
    slot: &'a mut Option<ArgBo>,
    node: &Arc<Node>,
    bytes: u64,
) -> Result<&'a ArgBo> {
    let bo = match slot.take() {
        Some(bo) if bo.size >= bytes => bo,
        _ => ArgBo::on(node, ArgBo::size_for(bytes))?,
    };
    Ok(slot.insert(bo))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves the rounding on its edges.
    #[test]
    fn sizes_are_whole_pages() {
        assert_eq!(ArgBo::size_for(0), 4096);
        assert_eq!(ArgBo::size_for(4096), 4096);
        assert_eq!(ArgBo::size_for(4097), 8192);
    }
}
