// SPDX-License-Identifier: MIT OR Apache-2.0
//! The I/O space: the pages in which the guest sees fences and locked allocations.
//!
//! Both take their pages from the same space. The last page of the region is never used, because
//! guests refuse it. What is shown of an allocation is its content itself, at an address aligned as
//! well as its size allows, so that guests can map it with large pages.

use std::sync::Arc;

use crate::config::MAX_LOCKS;
use crate::env::IoSpace;
use crate::fence::Fence;
use crate::gaps::Gaps;
use crate::gpu_memory::Content;
use crate::va::PAGE;

/// Alignments that are tried for a locked allocation that is as large, in pages: 2 MiB, 64 KiB.
const ALIGNMENTS: [u64; 3] = [512, 16, 1];

/// Where an allocation is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    first: u64,
    pages: u64,
}

impl Shown {
    /// Guest-physical address.
    pub fn address(&self) -> u64 {
        self.first.saturating_mul(PAGE)
    }

    fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE)
    }
}

/// The region of guest-physical addresses.
pub struct IoPages {
    io: Arc<dyn IoSpace>,
    base: u64,
    /// Free pages, by their guest-physical numbers.
    gaps: Gaps,
    /// Bytes that locked allocations may have together.
    window: u64,
    locks: usize,
    locked_bytes: u64,
    fences: usize,
}

impl IoPages {
    /// A region of `length` bytes at `base`, of which locked allocations may have `window`.
    pub fn new(io: Arc<dyn IoSpace>, base: u64, length: u64, window: u64) -> Self {
        let page = |address: u64| address.checked_div(PAGE).unwrap_or(0);
        let end = page(base.saturating_add(length)).saturating_sub(1);
        Self {
            io,
            base,
            gaps: Gaps::new(page(base), end, 1),
            window,
            locks: 0,
            locked_bytes: 0,
            fences: 0,
        }
    }

    fn take(&mut self, pages: u64, align: u64) -> Option<u64> {
        let first = self.gaps.fit(pages, align, 0, u64::MAX)?;
        self.gaps.take(first, first.checked_add(pages)?);
        Some(first)
    }

    fn give(&mut self, first: u64, pages: u64) {
        self.gaps.give(first, first.saturating_add(pages));
    }

    /// Makes a fence in a page of its own; `None` when there is no page.
    pub fn fence(&mut self, initial: u64) -> Option<Arc<Fence>> {
        let page = self.take(1, 1)?;
        self.fences = self.fences.saturating_add(1);
        let offset = page.saturating_mul(PAGE).saturating_sub(self.base);
        let io = Arc::clone(&self.io);
        Some(Arc::new(Fence::new(io, self.base, offset, initial)))
    }

    /// Takes the page of a fence whose last handle is gone.
    pub fn release(&mut self, fence: &Fence) {
        if fence.close() {
            if let Some(page) = fence.guest_physical().checked_div(PAGE) {
                self.give(page, 1);
            }
            self.fences = self.fences.saturating_sub(1);
        }
    }

    /// Shows content to the guest; `None` when there is no room.
    pub fn show(&mut self, content: &Content) -> Option<Shown> {
        let (pages, bytes) = (content.pages(), content.bytes());
        let locked = self.locked_bytes.checked_add(bytes)?;
        if locked > self.window || self.locks >= MAX_LOCKS {
            return None;
        }
        let mut aligned = ALIGNMENTS.into_iter().filter(|align| *align <= pages);
        let first = aligned.find_map(|align| self.take(pages, align))?;
        let shown = Shown { first, pages };
        let offset = shown.address().saturating_sub(self.base);
        let place = (content.vgpu(), content.offset(0));
        if let Err(error) = self.io.show(offset, place, bytes) {
            tracing::error!(%error, "an allocation cannot be shown");
            self.give(first, pages);
            return None;
        }
        self.locks = self.locks.saturating_add(1);
        self.locked_bytes = locked;
        Some(shown)
    }

    /// Takes content out of the guest's sight.
    pub fn hide(&mut self, shown: Shown) {
        let offset = shown.address().saturating_sub(self.base);
        self.io.hide(offset, shown.bytes());
        self.give(shown.first, shown.pages);
        self.locks = self.locks.saturating_sub(1);
        self.locked_bytes = self.locked_bytes.saturating_sub(shown.bytes());
    }

    /// How many fences have a page.
    pub fn fences(&self) -> usize {
        self.fences
    }

    /// How many allocations are shown, and how many bytes.
    pub fn shown(&self) -> (usize, u64) {
        (self.locks, self.locked_bytes)
    }
}
