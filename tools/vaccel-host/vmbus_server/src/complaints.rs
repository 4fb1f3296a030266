// SPDX-License-Identifier: MIT OR Apache-2.0
//! Log lines that a guest can cause.
//!
//! A guest could fill the log by breaking the protocol over and over. The first [`LIMIT`] complaints
//! are logged, the others only counted; there is no clock here to let them through again later. The
//! count is part of the snapshot.

use std::fmt;

/// Complaints that are logged.
const LIMIT: u64 = 64;

/// Logs and counts complaints about the guest.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    count: u64,
}

impl Complaints {
    /// Logs `what` unless too much was logged already.
    pub(crate) fn add(&mut self, what: fmt::Arguments<'_>) {
        self.count = self.count.saturating_add(1);
        if self.count <= LIMIT {
            tracing::warn!("{what}");
        }
        if self.count == LIMIT {
            tracing::warn!("further complaints about this guest are only counted");
        }
    }

    /// Complaints so far, those not logged included.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}
