// SPDX-License-Identifier: GPL-2.0-only

//! What an open file has asked for that has yet to happen, without anybody waiting for it.
//!
//! Closing the file ends all of it.
//!
//! # Locks
//!
//! `PendingList::state` is held for list operations only.

use kernel::prelude::*;
use kernel::rbtree::{
    RBTree,
    RBTreeNodeReservation, //
};
use kernel::sync::{
    new_mutex,
    Arc,
    Mutex, //
};

/// Most of what a file may wait for.
const PENDING_MAX: usize = 1 << 14;

/// Something that can be ended early.
pub(crate) trait Cancel: Send + Sync {
    /// Ends it, unless it has just ended by itself. Sleeps.
    fn cancel(&self);
}

struct State {
    all: RBTree<u64, Arc<dyn Cancel>>,
    count: usize,
    next: u64,
}

/// The list.
#[pin_data]
pub(crate) struct PendingList {
    #[pin]
    state: Mutex<State>,
}

/// A place in the list; given up when this is dropped.
pub(crate) struct Ticket {
    list: Arc<PendingList>,
    number: u64,
}

impl PendingList {
    /// An empty list.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(
                State {
                    all: RBTree::new(),
                    count: 0,
                    next: 0,
                },
                "PendingList::state"
            ),
        })
    }

    /// Enters something.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the list is full, `ENOMEM`.
    pub(crate) fn insert(self: &Arc<Self>, what: Arc<dyn Cancel>) -> Result<Ticket> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let mut state = self.state.lock();
        if state.count >= PENDING_MAX {
            return Err(EBUSY);
        }
        let number = state.next;
        state.next += 1;
        state.count += 1;
        state.all.insert(node.into_node(number, what));
        Ok(Ticket {
            list: self.clone(),
            number,
        })
    }

    fn take_first(&self) -> Option<Arc<dyn Cancel>> {
        let mut state = self.state.lock();
        let first = state.all.keys().next().copied()?;
        state.count -= 1;
        state.all.remove(&first)
    }

    /// Ends all of it: the file is being closed, so nothing is added any more.
    pub(crate) fn cancel_all(&self) {
        while let Some(what) = self.take_first() {
            what.cancel();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let what = {
            let mut state = self.list.state.lock();
            let what = state.all.remove(&self.number);
            state.count -= usize::from(what.is_some());
            what
        };
        drop(what);
    }
}
