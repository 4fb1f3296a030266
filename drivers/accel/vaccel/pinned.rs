// SPDX-License-Identifier: GPL-2.0-only

//! Guest memory that a file has pinned for the host, and how much it may pin.
//!
//! Pages that the host can reach cannot be swapped or moved. They are charged to the file for which
//! the host was told of them, from then until the host has let go.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::mm;

/// Bytes that one file may pin: the module parameter, or half of the memory of the VM.
pub(crate) fn limit() -> u64 {
    match crate::module_parameters::pin_limit_mib.value() {
        0 => mm::total_ram() / 2,
        mebibytes => mebibytes.saturating_mul(1 << 20),
    }
}

/// What one file has pinned, in bytes.
#[derive(Default)]
pub(crate) struct Account(AtomicU64);

impl Account {
    /// Bytes pinned now.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Charges `bytes`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if that is above the limit.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Pinned> {
        let add = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= limit());
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .map_err(|_| ENOSPC)?;
        Ok(Pinned {
            account: self.clone(),
            bytes,
        })
    }
}

/// A charge, until it is dropped.
pub(crate) struct Pinned {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
