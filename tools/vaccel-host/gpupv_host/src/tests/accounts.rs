// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted agrees with what there is, whatever happens to memory in whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gpupv::*;
use proptest::prelude::*;
use vaccel_isa::{AllocationData, Segment};

use super::guest::*;
use crate::object::Kind;

/// Something that is done to memory. Numbers pick one of what there is.
#[derive(Debug, Clone)]
enum Op {
    Create {
        pages: u64,
        far: bool,
        count: usize,
    },
    Pages,
    Destroy {
        at: usize,
        assume: bool,
    },
    Resident {
        at: usize,
        insist: bool,
    },
    Evict {
        at: usize,
    },
    Lock {
        at: usize,
    },
    Unlock {
        at: usize,
    },
    Offer {
        at: usize,
        priority: u32,
        flags: u32,
    },
    Reclaim {
        at: usize,
    },
    Pressure {
        pages: u64,
    },
    Share {
        at: usize,
    },
    Unshare {
        at: usize,
    },
    Open {
        at: usize,
    },
    Map {
        at: usize,
    },
    Update {
        at: usize,
        gone: bool,
    },
    Submit {
        at: usize,
    },
    Run,
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0_usize..16;
    prop_oneof![
        4 => (1_u64..600, any::<bool>(), 1_usize..4)
            .prop_map(|(pages, far, count)| Op::Create { pages, far, count }),
        1 => Just(Op::Pages),
        2 => (at(), any::<bool>()).prop_map(|(at, assume)| Op::Destroy { at, assume }),
        4 => (at(), any::<bool>()).prop_map(|(at, insist)| Op::Resident { at, insist }),
        2 => at().prop_map(|at| Op::Evict { at }),
        2 => at().prop_map(|at| Op::Lock { at }),
        1 => at().prop_map(|at| Op::Unlock { at }),
        4 => (at(), 1_u32..5, 0_u32..4)
            .prop_map(|(at, priority, flags)| Op::Offer { at, priority, flags }),
        3 => at().prop_map(|at| Op::Reclaim { at }),
        1 => (1_u64..900).prop_map(|pages| Op::Pressure { pages }),
        1 => at().prop_map(|at| Op::Share { at }),
        1 => at().prop_map(|at| Op::Unshare { at }),
        1 => at().prop_map(|at| Op::Open { at }),
        2 => at().prop_map(|at| Op::Map { at }),
        2 => (at(), any::<bool>()).prop_map(|(at, gone)| Op::Update { at, gone }),
        2 => at().prop_map(|at| Op::Submit { at }),
        1 => Just(Op::Run),
    ]
}

/// A conversation about memory.
struct Memory {
    guest: Guest,
    setup: Setup,
    allocations: Vec<Handle>,
    resources: Vec<Handle>,
    names: Vec<(Handle, u32)>,
    addresses: Vec<u64>,
}

fn pick<T: Copy>(list: &[T], at: usize) -> Option<T> {
    list.get(at.checked_rem(list.len())?).copied()
}

impl Memory {
    fn new() -> Self {
        let mut guest = Guest::with_process(modern());
        let setup = guest.setup();
        Self {
            guest,
            setup,
            allocations: Vec::new(),
            resources: Vec::new(),
            names: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// Does it, or tries to: refusals are part of the game.
    fn step(&mut self, op: &Op) -> Option<()> {
        let (device, queue) = (self.setup.device, self.setup.queue.paging_queue);
        let (guest, setup) = (&mut self.guest, self.setup);
        let one = |at| pick(&self.allocations, at);
        match *op {
            Op::Create { pages, far, count } => {
                let segment = if far {
                    Segment::NonLocal
                } else {
                    Segment::Local
                };
                let size = pages * 4096;
                let data = AllocationData { size, segment }.to_bytes();
                let shared = CreateAllocationFlags::CREATE_RESOURCE
                    | CreateAllocationFlags::CREATE_SHARED
                    | CreateAllocationFlags::NT_SECURITY_SHARING;
                let flags = if count > 1 {
                    shared
                } else {
                    CreateAllocationFlags::EMPTY
                };
                let data = vec![data.as_slice(); count];
                let (reply, entries) = guest.create(device, Handle::NONE, flags, &data).ok()?;
                self.resources.extend(reply.resource.some());
                self.allocations
                    .extend(entries.iter().map(|e| e.allocation));
            }
            Op::Pages => self.allocations.push(guest.allocation(device, &[3, 4])),
            Op::Destroy { at, assume } => {
                let handle = one(at)?;
                let body = DestroyAllocation {
                    device,
                    flags: DestroyAllocationFlags::from_bits(assume.into()),
                    ..DestroyAllocation::default()
                };
                let list = [handle];
                guest.post(&Request::new(body, (&list).into()).unwrap());
                self.allocations.retain(|other| *other != handle);
            }
            Op::Resident { at, insist } => {
                let flags = MakeResidentFlags::from_bits(insist.into());
                guest.make_resident(&setup, &[one(at)?], flags).ok()?;
            }
            Op::Evict { at } => drop(guest.evict(device, &[one(at)?])),
            Op::Lock { at } => drop(guest.lock(device, one(at)?)),
            Op::Unlock { at } => drop(guest.unlock(device, one(at)?)),
            Op::Offer {
                at,
                priority,
                flags,
            } => {
                let body = OfferAllocations {
                    device,
                    priority: OfferPriority::from_raw(priority),
                    flags: OfferFlags::from_bits(flags),
                    ..OfferAllocations::default()
                };
                guest.send(body, (&[one(at)?]).into()).ok()?;
            }
            Op::Reclaim { at } => {
                let body = ReclaimAllocations {
                    device,
                    paging_queue: queue,
                    ..ReclaimAllocations::default()
                };
                let most: Vec<Handle> = [at, at + 1].into_iter().filter_map(one).collect();
                guest.send(body, List::new(&most)).ok()?;
            }
            Op::Pressure { pages } => drop(guest.host.pressure(GPU, pages * 4096)),
            Op::Share { at } => {
                let object = pick(&self.resources, at)?;
                let reply = guest.call(CreateNtSharedObject { object, _pad: 0 }).ok()?;
                let process = guest.host.processes.get(guest.process)?;
                let count = process.resource(GPU, object).ok()?.allocations.len() as u32;
                self.names.push((reply.shared_handle.some()?, count));
            }
            Op::Unshare { at } => {
                let name = pick(&self.names, at)?;
                let shared_handle = name.0;
                guest
                    .call(DestroyNtSharedObject {
                        shared_handle,
                        _pad: 0,
                    })
                    .ok()?;
                self.names.retain(|other| *other != name);
            }
            Op::Open { at } => {
                let (global_share, allocation_count) = pick(&self.names, at)?;
                let body = OpenResource {
                    device,
                    nt_security_sharing: true.into(),
                    global_share,
                    allocation_count,
                    ..OpenResource::default()
                };
                let request = Request::from(body);
                let payload = guest.exchange(&request)?;
                let answer = request.parse_reply(guest.version, &payload).ok()?;
                self.resources.extend(answer.reply.resource.some());
                self.allocations
                    .extend(answer.tail.iter().filter(|h| !h.is_none()));
            }
            Op::Map { at } => {
                let map = guest.map(&setup, one(at)?, 1, Protection::WRITE).ok()?;
                self.addresses.push(map.virtual_address);
            }
            Op::Update { at, gone } => {
                let base = pick(&self.addresses, at)?;
                let protection = Protection::EMPTY;
                let change = if gone {
                    GpuVaChange::Unmap {
                        base,
                        size: 4096,
                        protection,
                    }
                } else {
                    GpuVaChange::Map {
                        base,
                        size: 4096,
                        allocation: one(at)?,
                        allocation_offset: 0,
                        allocation_size: 4096,
                        protection: None,
                    }
                };
                let body = UpdateGpuVirtualAddress {
                    device,
                    context: setup.context,
                    ..UpdateGpuVirtualAddress::default()
                };
                guest.send(body, (&[change.into()]).into()).ok()?;
            }
            Op::Submit { at } => {
                let body = SubmitCommand::new(setup.context, pick(&self.addresses, at)?, 64);
                guest.send(body, SubmitTail::default()).ok()?;
            }
            Op::Run => {
                guest.run_all();
                // Jobs run into garbage; go on with what works.
                if guest.execution_state(device) != ExecutionState::ACTIVE {
                    self.setup = guest.setup();
                    self.allocations.clear();
                }
            }
        }
        Some(())
    }

    /// Counts again.
    fn check(&self) {
        let host = &self.guest.host;
        let census = host.census();
        let mut resident = BTreeMap::new();
        let (mut locks, mut waiting) = ((0, 0), BTreeSet::new());
        let mut contents = BTreeMap::new();
        for (process_handle, process) in host.processes.iter() {
            for (handle, object) in process.objects.iter() {
                let Kind::Allocation(allocation) = &object.kind else {
                    continue;
                };
                let key = matches!(allocation.segment, Segment::Local);
                *resident.entry(key).or_insert(0) += allocation.charged();
                if allocation.lock.is_some() {
                    locks = (locks.0 + 1, locks.1 + allocation.bytes());
                }
                if allocation.offer.is_some() && !allocation.is_dropped() {
                    waiting.insert((process_handle.raw(), handle.raw()));
                }
                if let Some(content) = allocation.backing.content() {
                    let lost = allocation.offer.is_some_and(|offer| offer.is_decommitted());
                    let bytes = if lost { 0 } else { content.bytes() };
                    contents.insert(Arc::as_ptr(&content).addr(), bytes);
                }
            }
        }
        for content in host.shared.iter().flat_map(|(_, shared)| shared.contents()) {
            contents.insert(Arc::as_ptr(content).addr(), content.bytes());
        }
        let of = |key| resident.get(&key).copied().unwrap_or(0);
        assert_eq!(census.resident_local_bytes, of(true));
        assert_eq!(census.resident_non_local_bytes, of(false));
        assert_eq!((census.locks, census.locked_bytes), locks);
        assert_eq!(host.vgpus[0].offers.waiting(), waiting);
        let held: u64 = host
            .held
            .iter()
            .flat_map(|held| &held.backings)
            .map(|backing| (backing.pages() - backing.guest_pages()) * 4096)
            .sum();
        let committed: u64 = contents.values().sum();
        // What is held may be shared with what is there, or be dropped.
        assert!(census.committed_bytes >= committed);
        assert!(census.committed_bytes <= committed + held);
        assert!(census.committed_bytes <= 16 * MIB);
        assert!(census.resident_local_bytes <= 5 * MIB);
        assert!(census.resident_non_local_bytes <= 6 * MIB);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After every step the counts are right; at the end nothing is left, and the GPU's memory costs
    /// nothing.
    #[test]
    fn agree(ops in proptest::collection::vec(op(), 1..80)) {
        let mut memory = Memory::new();
        for op in &ops {
            memory.step(op);
            memory.check();
        }
        let Memory { mut guest, names, .. } = memory;
        for (shared_handle, _) in names {
            guest.call(DestroyNtSharedObject { shared_handle, _pad: 0 }).unwrap();
        }
        guest.post(&Request::from(DestroyProcess));
        guest.run_all();
        guest.assert_empty();
        let memories = guest.world.memories.lock().unwrap();
        prop_assert!(memories.values().all(|memory| memory.pages() == 0));
    }
}
