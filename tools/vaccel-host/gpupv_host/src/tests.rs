// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversations with the host, as guests have them.

mod accounts;
mod allocation_kinds;
mod bring_up;
mod budget;
mod compute;
mod faults;
mod fuzz;
mod guest;
mod host_memory;
mod hw_queues;
mod locks;
mod messages;
mod misbehaviour;
mod offers;
mod plain_syncs;
mod queries;
mod refusals;
mod scale;
mod share;
mod shared_fences;
mod short_failures;
mod sync_contexts;
mod teardown;
mod update;
mod world;
