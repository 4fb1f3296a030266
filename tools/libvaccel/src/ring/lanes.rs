// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of submissions to a queue by io_uring.
//!
//! The kernel keeps the order of entries, except for a list that makes memory resident: that it has
//! done by a thread of its own (IOSQE_ASYNC). So while such a submission of a queue has yet to be
//! queued, later ones of the queue are held back here. Which lists need it is known of some, of others
//! the kernel says so (EAGAIN).

use std::collections::{HashMap, VecDeque};

use crate::sys;

/// A submission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) arg: sys::Submit,
    /// For a thread of the kernel's.
    pub(super) slow: bool,
}

#[derive(Default)]
struct Lane {
    held: VecDeque<Entry>,
    /// A slow one has yet to be queued.
    busy: bool,
}

/// The queues that have submissions held back, by their handles.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<u32, Lane>,
}

impl Lanes {
    /// Takes a submission, and gives what may go to the kernel now, in order.
    pub(super) fn add(&mut self, entry: Entry) -> Vec<Entry> {
        let queue = entry.arg.queue;
        if !entry.slow && !self.lanes.contains_key(&queue) {
            return vec![entry];
        }
        self.lanes.entry(queue).or_default().held.push_back(entry);
        self.advance(queue)
    }

    /// Says that the slow submission of a queue is queued, or was refused.
    pub(super) fn queued(&mut self, queue: u32) -> Vec<Entry> {
        if let Some(lane) = self.lanes.get_mut(&queue) {
            lane.busy = false;
        }
        self.advance(queue)
    }

    /// Takes back what is held; true if it was.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.lanes.values_mut().any(|lane| {
            let place = lane.held.iter().position(|entry| entry.id == id);
            place.and_then(|place| lane.held.remove(place)).is_some()
        })
    }

    fn advance(&mut self, queue: u32) -> Vec<Entry> {
        let mut ready = Vec::new();
        let Some(lane) = self.lanes.get_mut(&queue) else {
            return ready;
        };
        while !lane.busy {
            let Some(entry) = lane.held.pop_front() else {
                self.lanes.remove(&queue);
                break;
            };
            lane.busy = entry.slow;
            ready.push(entry);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, queue: u32, slow: bool) -> Entry {
        let arg = sys::Submit {
            queue,
            ..Default::default()
        };
        Entry { id, arg, slow }
    }

    fn ids(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.id).collect()
    }

    /// Proves that nothing overtakes a slow submission of the same queue, and that other queues do.
    #[test]
    fn order() {
        let mut lanes = Lanes::default();
        assert_eq!(ids(&lanes.add(entry(1, 7, false))), [1]);
        assert_eq!(ids(&lanes.add(entry(2, 7, true))), [2]);
        assert!(lanes.add(entry(3, 7, false)).is_empty());
        assert!(lanes.add(entry(4, 7, true)).is_empty());
        assert!(lanes.add(entry(5, 7, false)).is_empty());
        assert_eq!(ids(&lanes.add(entry(6, 8, false))), [6]);
        assert_eq!(ids(&lanes.queued(7)), [3, 4]);
        assert_eq!(ids(&lanes.queued(7)), [5]);
        assert!(lanes.lanes.is_empty());
        assert!(lanes.queued(7).is_empty());
    }

    /// Proves that what is held back can be taken back, and what is not cannot.
    #[test]
    fn removal() {
        let mut lanes = Lanes::default();
        lanes.add(entry(1, 7, true));
        lanes.add(entry(2, 7, false));
        lanes.add(entry(3, 7, false));
        assert!(lanes.remove(2));
        assert!(!lanes.remove(2));
        assert!(!lanes.remove(1));
        assert_eq!(ids(&lanes.queued(7)), [3]);
    }
}
