// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scenarios.

mod core_drm;
mod export;
mod import;
mod in_queue;
mod out_fence;
mod two_processes;

use crate::scenario::Scenario;

/// All of them.
pub fn all() -> Vec<Scenario> {
    [
        core_drm::SCENARIOS,
        export::SCENARIOS,
        import::SCENARIOS,
        out_fence::SCENARIOS,
        in_queue::SCENARIOS,
        two_processes::SCENARIOS,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves that every scenario can be asked for by a name of its own and says what it proves.
    #[test]
    fn names_are_unique() {
        let scenarios = all();
        let mut names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), scenarios.len());
        assert!(scenarios.iter().all(|scenario| scenario.proves.len() > 20));
    }
}
