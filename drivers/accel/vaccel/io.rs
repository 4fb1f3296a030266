// SPDX-License-Identifier: GPL-2.0-only

//! Memory of devices that behaves like memory.
//!
//! C header: [`include/linux/io.h`](srctree/include/linux/io.h)

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::barrier::{
        smp_mb,
        Read, //
    },
};

use crate::bindings;

/// How the processor caches a mapping.
///
/// All mappings of a range have to agree on it, those of user space included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Cached.
    WriteBack,
    /// Not cached; writes may be combined and delayed.
    WriteCombined,
}

impl CacheMode {
    /// The flag of `memremap()`.
    fn as_raw(self) -> usize {
        match self {
            Self::WriteBack => bindings::VACCEL_MEMREMAP_WB,
            Self::WriteCombined => bindings::VACCEL_MEMREMAP_WC,
        }
    }
}

/// A kernel mapping of a range of physical addresses that is no system memory.
///
/// The mapping does not keep the range: its owner may give the range to somebody else, and what is
/// read here is meaningless from then on.
///
/// # Invariants
///
/// `addr` is what `memremap()` returned for `size` bytes at `phys`, cached as `mode` says.
pub struct MemRemap {
    addr: NonNull<u8>,
    phys: u64,
    size: usize,
    mode: CacheMode,
}

impl MemRemap {
    /// Maps `size` bytes at `phys`, cached as `mode` says.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that is empty or wraps around, `ENOMEM` if it cannot be mapped, which mostly
    /// means that; the kernel does not say why.
    ///
    /// # Safety
    ///
    /// The range must be I/O space that is the caller's, so that it may be read and shown to user
    /// space.
    pub unsafe fn new(phys: u64, size: usize, mode: CacheMode) -> Result<Self> {
        // CAST: `usize` has at most 64 bits.
        if size == 0 || phys.checked_add(size as u64).is_none() {
            return Err(EINVAL);
        }

        // SAFETY: By the safety requirements the range is nobody else's.
        let addr = unsafe { bindings::memremap(phys, size, mode.as_raw()) };

        // INVARIANT: As returned by `memremap()`.
        Ok(Self {
            addr: NonNull::new(addr.cast()).ok_or(ENOMEM)?,
            phys,
            size,
            mode,
        })
    }

    /// The address of the mapping.
    ///
    /// Somebody else may access the memory at any time, so there are no Rust references to it.
    pub fn as_ptr(&self) -> *mut c_void {
        self.addr.as_ptr().cast()
    }

    /// The physical address of the range.
    pub fn phys(&self) -> u64 {
        self.phys
    }

    /// The size of the range in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How the mapping is cached.
    pub fn mode(&self) -> CacheMode {
        self.mode
    }

    /// Reads a value that somebody else writes.
    ///
    /// Returns [`None`] if `offset` is not a multiple of eight within the range.
    pub fn read_u64(&self, offset: usize) -> Option<u64> {
        let end = offset.checked_add(size_of::<u64>())?;
        let ptr = self.addr.as_ptr().wrapping_add(offset).cast::<u64>();
        if end > self.size || !ptr.is_aligned() {
            return None;
        }

        // SAFETY: The pointer is aligned and within the mapping, which is valid by the type
        // invariants. The access is volatile as the value changes without our doing.
        let value = unsafe { ptr.read_volatile() };
        // What is read after this value is at least as new as what it announces.
        smp_mb(Read);
        Some(value)
    }
}

impl Drop for MemRemap {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the mapping is from `memremap()`, and it is ours.
        unsafe { bindings::memunmap(self.addr.as_ptr().cast()) };
    }
}

// SAFETY: The mapping is valid in every context, and may be removed by any thread that can sleep.
unsafe impl Send for MemRemap {}

// SAFETY: The memory is only read, by volatile accesses of a machine word.
unsafe impl Sync for MemRemap {}
