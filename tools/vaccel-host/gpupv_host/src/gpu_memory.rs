// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of a virtual GPU: where the contents of allocations lie that are not guest memory.
//!
//! One sparse stretch of host memory a GPU, in which each content has a contiguous range. Address
//! space is plenty; what is limited is the sum of the sizes, as if every page were touched. A range
//! is zero when it is handed out: it is discarded before it is free again.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::env::{HostMemory, HostMemoryError, VgpuId};
use crate::gaps::Gaps;
use crate::va::PAGE;

/// The bytes of an allocation, of all allocations that share them.
pub struct Content {
    memory: Arc<dyn HostMemory>,
    vgpu: VgpuId,
    first: u64,
    pages: u64,
    /// It counts as committed. Only the thread that owns the host changes it.
    committed: AtomicBool,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("vgpu", &self.vgpu)
            .field("first", &self.first)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

impl Content {
    /// Size in pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whose memory it is in.
    pub fn vgpu(&self) -> VgpuId {
        self.vgpu
    }

    /// That memory.
    pub fn memory(&self) -> &dyn HostMemory {
        self.memory.as_ref()
    }

    /// Where in that memory a page of the content is.
    pub fn offset(&self, page: u64) -> u64 {
        self.first.saturating_add(page).saturating_mul(PAGE)
    }

    /// Makes it zero, at no cost.
    pub fn discard(&self) -> Result<(), HostMemoryError> {
        self.memory.discard(self.offset(0), self.bytes())
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE)
    }
}

/// The memory of one virtual GPU.
pub struct GpuMemory {
    vgpu: VgpuId,
    /// There once the first content was made.
    memory: Option<Arc<dyn HostMemory>>,
    gaps: Gaps,
    committed: u64,
    limit: u64,
}

impl GpuMemory {
    /// No memory yet, and at most `limit` bytes of it.
    pub fn new(vgpu: VgpuId, limit: u64) -> Self {
        Self {
            vgpu,
            memory: None,
            gaps: Gaps::default(),
            committed: 0,
            limit,
        }
    }

    /// Whether it still needs [`GpuMemory::attach`].
    pub fn is_detached(&self) -> bool {
        self.memory.is_none()
    }

    /// Gives it the memory it hands out.
    pub fn attach(&mut self, memory: Arc<dyn HostMemory>) {
        let pages = memory.len().checked_div(PAGE).unwrap_or(0);
        self.gaps = Gaps::new(0, pages, 1);
        self.memory = Some(memory);
    }

    /// Bytes that do not fit beside what there is already.
    pub fn missing(&self, bytes: u64) -> u64 {
        let wanted = self.committed.saturating_add(bytes);
        wanted.saturating_sub(self.limit)
    }

    /// Content of `pages` zeroed pages; `None` when there is no room.
    pub fn create(&mut self, pages: u64) -> Option<Content> {
        let bytes = pages.checked_mul(PAGE)?;
        if self.missing(bytes) != 0 {
            return None;
        }
        let memory = Arc::clone(self.memory.as_ref()?);
        let first = self.gaps.fit(pages, 1, 0, u64::MAX)?;
        self.gaps.take(first, first.checked_add(pages)?);
        self.committed = self.committed.saturating_add(bytes);
        Some(Content {
            memory,
            vgpu: self.vgpu,
            first,
            pages,
            committed: AtomicBool::new(true),
        })
    }

    /// No longer counts content as committed, if it did.
    pub fn decommit(&mut self, content: &Content) {
        if content.committed.swap(false, Ordering::Relaxed) {
            self.committed = self.committed.saturating_sub(content.bytes());
        }
    }

    /// Counts content as committed again, if it did not; there must be room for it.
    pub fn commit(&mut self, content: &Content) {
        if !content.committed.swap(true, Ordering::Relaxed) {
            self.committed = self.committed.saturating_add(content.bytes());
        }
    }

    /// Takes content back that nothing uses any more.
    pub fn destroy(&mut self, content: &Content) {
        self.decommit(content);
        match content.discard() {
            Ok(()) => {
                let end = content.first.saturating_add(content.pages);
                self.gaps.give(content.first, end);
            }
            // Nobody may see what was in it: it is not handed out again.
            Err(error) => tracing::error!(%error, "memory of a GPU is lost"),
        }
    }

    /// Bytes of the contents there are.
    pub fn committed(&self) -> u64 {
        self.committed
    }
}
