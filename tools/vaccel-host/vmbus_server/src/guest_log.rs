// SPDX-License-Identifier: MIT OR Apache-2.0
//! Log lines that a guest can cause.
//!
//! A guest could fill the log by connecting or by breaking the protocol over and over. The first
//! [`LIMIT`] lines of each level are logged, the others only counted; there is no clock here to let them
//! through again later. The number of complaints is part of the snapshot.

use std::fmt;

/// Lines of each level that are logged.
const LIMIT: u64 = 64;

/// Logs what the guest does.
#[derive(Debug, Default)]
pub(crate) struct GuestLog {
    complaints: u64,
    notes: u64,
}

impl GuestLog {
    /// Something that a well-behaved guest does not do.
    pub(crate) fn complain(&mut self, what: fmt::Arguments<'_>) {
        self.complaints = self.complaints.saturating_add(1);
        if self.complaints <= LIMIT {
            tracing::warn!("{what}");
        }
        if self.complaints == LIMIT {
            tracing::warn!("further complaints about this guest are only counted");
        }
    }

    /// A milestone.
    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.notes = self.notes.saturating_add(1);
        if self.notes <= LIMIT {
            tracing::info!("{what}");
        }
        if self.notes == LIMIT {
            tracing::info!("further milestones of this guest are not logged");
        }
    }

    /// Complaints so far, those not logged included.
    pub(crate) fn complaints(&self) -> u64 {
        self.complaints
    }
}
