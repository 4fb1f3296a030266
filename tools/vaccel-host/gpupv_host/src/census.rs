// SPDX-License-Identifier: MIT OR Apache-2.0
//! The object census: how much of what a guest made is still there. With no process open all of it
//! is zero, whatever happened before; tests of leaks rest on that.

use serde::{Deserialize, Serialize};

use crate::object::Kind;
use crate::Host;

/// How many objects of each kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Host processes.
    pub processes: u64,
    /// Devices.
    pub devices: u64,
    /// Execution contexts.
    pub contexts: u64,
    /// Hardware queues.
    pub hw_queues: u64,
    /// Paging queues.
    pub paging_queues: u64,
    /// Allocations.
    pub allocations: u64,
    /// Resources.
    pub resources: u64,
    /// Handles of the whole VM: names of shared fences, NT handles of fences and resources, and
    /// those of the host.
    pub shared_objects: u64,
    /// Handles of processes for sync objects, fences of paging and hardware queues included.
    pub sync_objects: u64,
    /// Pages of the I/O space that fences have.
    pub fence_pages: u64,
    /// Ranges of GPU virtual addresses, reserved or mapped.
    pub va_ranges: u64,
    /// Guest pages the host may access, or waits to give back.
    pub pinned_pages: u64,
    /// Bytes of allocations in host memory.
    pub committed_bytes: u64,
    /// Allocations that the guest's CPU sees in the I/O space.
    pub locks: u64,
    /// Bytes of those.
    pub locked_bytes: u64,
    /// Bytes made resident.
    pub resident_bytes: u64,
    /// Those in the GPUs' own memory.
    pub resident_local_bytes: u64,
    /// Those in the host's memory.
    pub resident_non_local_bytes: u64,
    /// Bytes offered, whether they were dropped or not.
    pub offered_bytes: u64,
    /// Bytes of memory reserved by processes.
    pub reserved_bytes: u64,
    /// CPU waits without an answer.
    pub cpu_waits: u64,
    /// Work queued to contexts and hardware queues.
    pub queued_work: u64,
    /// Jobs on an engine.
    pub running_jobs: u64,
    /// Completions held back until a job ends.
    pub held_completions: u64,
}

impl Census {
    /// Whether nothing is left.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

fn count(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

impl Host {
    /// Counts everything.
    pub fn census(&self) -> Census {
        let mut census = Census {
            processes: count(self.processes.len()),
            shared_objects: count(self.shared.len().saturating_add(self.exported.len())),
            pinned_pages: self.pinned_pages,
            committed_bytes: self.vgpus.iter().map(|vgpu| vgpu.memory.committed()).sum(),
            cpu_waits: count(self.cpu_waits.len()),
            running_jobs: count(self.vgpus.iter().filter(|v| v.running.is_some()).count()),
            held_completions: count(self.held.len()),
            ..Census::default()
        };
        if let Some(pages) = &self.io {
            census.fence_pages = count(pages.fences());
            let (locks, bytes) = pages.shown();
            (census.locks, census.locked_bytes) = (count(locks), bytes);
        }
        let add = |to: &mut u64, value: u64| *to = to.saturating_add(value);
        for (_, process) in self.processes.iter() {
            for space in process.spaces.values() {
                add(&mut census.va_ranges, count(space.ranges()));
            }
            for bytes in process.usage.values() {
                add(&mut census.resident_local_bytes, bytes.local);
                add(&mut census.resident_non_local_bytes, bytes.non_local);
                add(&mut census.resident_bytes, bytes.local);
                add(&mut census.resident_bytes, bytes.non_local);
            }
            for bytes in process.reservations.values() {
                add(&mut census.reserved_bytes, bytes.local);
                add(&mut census.reserved_bytes, bytes.non_local);
            }
            for (_, object) in process.objects.iter() {
                let counter = match &object.kind {
                    Kind::Device(_) => &mut census.devices,
                    Kind::Context(context) => {
                        add(&mut census.queued_work, count(context.work.queue.len()));
                        &mut census.contexts
                    }
                    Kind::HwQueue(queue) => {
                        add(&mut census.queued_work, count(queue.work.queue.len()));
                        &mut census.hw_queues
                    }
                    Kind::PagingQueue(_) => &mut census.paging_queues,
                    Kind::Allocation(allocation) => {
                        if allocation.offer.is_some() {
                            add(&mut census.offered_bytes, allocation.bytes());
                        }
                        &mut census.allocations
                    }
                    Kind::Resource(_) => &mut census.resources,
                    Kind::Sync(_) | Kind::Plain(_) => &mut census.sync_objects,
                };
                add(counter, 1);
            }
        }
        census
    }
}
