// SPDX-License-Identifier: MIT OR Apache-2.0
//! Places for arguments that stay as they are until the operation has ended.
//!
//! Small ones share argument objects, which stay for the next; what is larger than a place gets an
//! object of its own.

use std::sync::{Arc, Mutex, PoisonError};

use crate::arg::ArgBo;
use crate::error::Result;
use crate::handle::Node;
use crate::mapping::Mapping;

/// Bytes of a place.
pub(super) const PLACE: u64 = 4096;
/// Places in an object.
const PLACES: u64 = 64;

type Free = Mutex<Vec<(Arc<ArgBo>, u64)>>;

/// The places of a ring.
#[derive(Debug, Default)]
pub(super) struct Args {
    free: Arc<Free>,
}

/// A part of an argument object, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    bo: Arc<ArgBo>,
    offset: u64,
    /// Where it goes.
    free: Option<Arc<Free>>,
}

impl Args {
    /// A place of at least `bytes`.
    pub(super) fn place(&self, node: &Arc<Node>, bytes: u64) -> Result<Place> {
        if bytes > PLACE {
            let bo = Arc::new(ArgBo::on(node, ArgBo::size_for(bytes))?);
            return Ok(Place {
                bo,
                offset: 0,
                free: None,
            });
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (bo, offset) = match free.pop() {
            Some(place) => place,
            None => {
                let bo = Arc::new(ArgBo::on(node, PLACE * PLACES)?);
                free.extend((1..PLACES).rev().map(|place| (bo.clone(), place * PLACE)));
                (bo, 0)
            }
        };
        Ok(Place {
            bo,
            offset,
            free: Some(self.free.clone()),
        })
    }
}

impl Place {
    pub(super) fn handle(&self) -> u32 {
        self.bo.handle()
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn mapping(&self) -> &Mapping {
        self.bo.mapping()
    }

    /// Writes from the start.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<()> {
        self.mapping().write(self.offset as usize, bytes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(free) = &self.free {
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
            free.push((self.bo.clone(), self.offset));
        }
    }
}
