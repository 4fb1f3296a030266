// SPDX-License-Identifier: MIT OR Apache-2.0
//! Monitored fences (protocol 4.9).
//!
//! The host's own copy of a value is the one that counts; the page in the I/O space is what the
//! guest reads. Each fence has a page to itself, because guests map whole pages and ignore offsets.
//! The page is free again when the last handle of the fence is gone; queued work may keep the fence
//! itself alive longer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use crate::env::IoSpace;
use crate::va::{END_PAGE, PAGE};

/// Words cleared when a page gets a new fence.
const PAGE_WORDS: u64 = PAGE / 8;
/// GPU addresses of fences start above the address space of allocations. They are unique and never
/// 0, but the engine has no packet that uses them.
const FENCE_VA: u64 = END_PAGE * PAGE;

/// A monitored fence. Only the thread that owns the host changes it.
pub struct Fence {
    io: Arc<dyn IoSpace>,
    offset: u64,
    address: u64,
    value: AtomicU64,
    open: AtomicBool,
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence")
            .field("address", &self.address)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

impl Fence {
    /// A fence in the page at `offset` of the I/O space, which is at `base`.
    pub fn new(io: Arc<dyn IoSpace>, base: u64, offset: u64, initial: u64) -> Self {
        for word in 0..PAGE_WORDS {
            io.store_u64(word.saturating_mul(8).saturating_add(offset), 0);
        }
        let fence = Self {
            io,
            offset,
            address: base.saturating_add(offset),
            value: AtomicU64::new(0),
            open: AtomicBool::new(true),
        };
        fence.store(initial);
        fence
    }

    /// Its last handle is gone: the page is not touched any more. Whether it was there before.
    pub fn close(&self) -> bool {
        self.open.swap(false, Ordering::Relaxed)
    }

    /// Guest-physical address of its page.
    pub fn guest_physical(&self) -> u64 {
        self.address
    }

    /// GPU virtual address.
    pub fn gpu_va(&self) -> u64 {
        FENCE_VA.saturating_add(self.offset)
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Whether a wait for `value` is over.
    pub fn reached(&self, value: u64) -> bool {
        self.value() >= value
    }

    /// Sets the value, whatever it was, and publishes it.
    pub fn store(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) {
            self.io.store_u64(self.offset, value);
        }
    }

    /// Sets a higher value; a lower one only with `rewind`. Returns whether it was set.
    pub fn signal(&self, value: u64, rewind: bool) -> bool {
        if value < self.value() && !rewind {
            return false;
        }
        self.store(value);
        true
    }
}

/// A fence and a value to wait for or to signal.
#[derive(Debug, Clone)]
pub struct FenceValue {
    /// The fence.
    pub fence: Arc<Fence>,
    /// The value.
    pub value: u64,
}

impl FenceValue {
    /// Whether a wait for it is over.
    pub fn reached(&self) -> bool {
        self.fence.reached(self.value)
    }
}
