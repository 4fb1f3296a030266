// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cases.

mod accounting;
mod addresses;
mod binding;
mod bo_access;
mod budget;
mod core_drm;
mod escape;
mod events;
mod faults;
mod fence;
mod fence_eventfd;
mod fence_share;
mod fence_values;
mod fence_wait;
mod files;
mod host_memory;
mod killed;
mod lifecycle;
mod lost;
mod lost_sync;
mod mapping;
mod memory;
mod misbehaving;
mod offer;
mod out_fence;
mod parameters;
mod pipeline;
mod planned;
mod processor;
mod queue;
mod queued;
mod queued_residency;
mod reservation;
mod residency;
mod ring_async;
mod ring_fallback;
mod round_trips;
mod sharing;
mod stress;
mod submission;
mod sync_export;
mod sync_import;
mod unknown;
mod uring_cancel;
mod uring_end;
mod uring_form;
mod uring_inline;
mod uring_memory;
mod uring_order;
mod uring_race;
mod uring_rights;
mod uring_submit;
mod uring_sync;
mod uring_wait;
mod watchdog;
mod window;

use std::path::Path;

use crate::rig::Result;

/// A case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name in the output.
    pub name: &'static str,
    /// What a pass shows.
    pub proves: &'static str,
    /// Runs it on a node.
    pub run: fn(&Path) -> Result,
}

/// A second process of a case: its name, and what it does with its arguments.
pub type HelperEntry = (&'static str, fn(&[String]) -> Result);

/// Second processes that belong to one group of cases.
pub const HELPERS: &[&[HelperEntry]] = &[
    window::HELPERS,
    sharing::HELPERS,
    fence_wait::HELPERS,
    fence_share::HELPERS,
    sync_export::HELPERS,
    watchdog::HELPERS,
    pipeline::HELPERS,
    killed::HELPERS,
    uring_end::HELPERS,
];

/// All cases.
pub fn all() -> Vec<Case> {
    [
        parameters::CASES,
        unknown::CASES,
        memory::CASES,
        mapping::CASES,
        host_memory::CASES,
        window::CASES,
        binding::CASES,
        reservation::CASES,
        queued::CASES,
        queued_residency::CASES,
        residency::CASES,
        offer::CASES,
        budget::CASES,
        events::CASES,
        accounting::CASES,
        sharing::CASES,
        fence::CASES,
        fence_values::CASES,
        fence_wait::CASES,
        fence_eventfd::CASES,
        fence_share::CASES,
        queue::CASES,
        submission::CASES,
        sync_export::CASES,
        sync_import::CASES,
        out_fence::CASES,
        bo_access::CASES,
        pipeline::CASES,
        round_trips::CASES,
        ring_async::CASES,
        ring_fallback::CASES,
        escape::CASES,
        planned::CASES,
        processor::CASES,
        addresses::CASES,
        core_drm::CASES,
        uring_submit::CASES,
        uring_wait::CASES,
        uring_memory::CASES,
        uring_sync::CASES,
        uring_form::CASES,
        uring_order::CASES,
        uring_race::CASES,
        uring_inline::CASES,
        uring_cancel::CASES,
        uring_rights::CASES,
        uring_end::CASES,
        files::CASES,
        lifecycle::CASES,
        killed::CASES,
        lost::CASES,
        misbehaving::CASES,
        lost_sync::CASES,
        faults::CASES,
        watchdog::CASES,
        stress::CASES,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that every case can be asked for by a name of its own and says what it proves.
    #[test]
    fn names_are_unique() {
        let cases = all();
        let mut names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(cases.iter().all(|case| case.proves.len() > 20));
    }
}
