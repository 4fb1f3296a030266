// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why something could not be delivered to the guest.

use guest_memory::MemoryError;

use super::FLAGS;
use crate::hypercall::MAX_PAYLOAD;

/// Something could not be delivered to the guest.
#[derive(Debug, thiserror::Error)]
pub enum SynicError {
    /// There is no such processor.
    #[error("no virtual processor {vp}, the machine has {count}")]
    NoProcessor {
        /// The processor named.
        vp: u32,
        /// How many there are.
        count: usize,
    },
    /// The guest has not enabled the page that is needed.
    #[error("synic {page} page of virtual processor {vp} is not enabled")]
    Disabled {
        /// The processor.
        vp: u32,
        /// "message" or "event".
        page: &'static str,
    },
    /// A message is longer than a slot.
    #[error("message of {len} bytes, limit is {MAX_PAYLOAD}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// An event flag is out of range.
    #[error("event flag {flag}, limit is {max}", max = FLAGS - 1)]
    NoFlag {
        /// The flag.
        flag: u16,
    },
    /// The guest put a page where no memory is.
    #[error("synic page of virtual processor {vp}")]
    Memory {
        /// The processor.
        vp: u32,
        /// The access that failed.
        #[source]
        source: MemoryError,
    },
    /// The interrupt could not be raised.
    #[error("cannot raise the interrupt of virtual processor {vp}")]
    Interrupt {
        /// The processor.
        vp: u32,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
