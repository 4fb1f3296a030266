// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fuzzers of the host do with their bytes.
//!
//! A target is a function of bytes that panics when the host breaks its contract towards a hostile guest.
//! The fuzzers (folder `fuzz` beside this one, `make fuzz`) call it with bytes that they search for; the test
//! of this crate calls it with the committed corpus and with random bytes, on every compiler. Seeds are made
//! here, so that they follow the formats; `cargo run -p fuzz_targets` writes them to the corpus.
//!
//! | target | what the bytes are |
//! | --- | --- |
//! | `vmbus` | messages and signals of a guest, and what the host does meanwhile |
//! | `rings` | what a guest writes into its rings, between the host's accesses as well |
//! | `gpupv` | GPU-PV messages, jobs and time, behind a bring-up |
//! | `commands` | a command buffer of the built-in engine |
//! | `machine` | hypercalls, the SynIC's pages and PCI configuration space |
//! | `vpci` | messages about a PCI function over VMBus, and accesses to its window |
//! | `balloon` | messages about the guest's memory, and what the host wants of it |

mod balloon;
mod commands;
mod gpupv;
mod input;
mod machine;
mod rings;
mod vmbus;
mod vpci;

pub use balloon::run as balloon;
pub use commands::run as commands;
pub use gpupv::run as gpupv;
pub use machine::run as machine;
pub use rings::run as rings;
pub use vmbus::run as vmbus;
pub use vpci::run as vpci;

/// A target by name.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]),
    /// Makes its seeds, the same ones each time.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    Target {
        name: "vmbus",
        run: vmbus::run,
        seeds: vmbus::seeds,
    },
    Target {
        name: "rings",
        run: rings::run,
        seeds: rings::seeds,
    },
    Target {
        name: "gpupv",
        run: gpupv::run,
        seeds: gpupv::seeds,
    },
    Target {
        name: "commands",
        run: commands::run,
        seeds: commands::seeds,
    },
    Target {
        name: "machine",
        run: machine::run,
        seeds: machine::seeds,
    },
    Target {
        name: "vpci",
        run: vpci::run,
        seeds: vpci::seeds,
    },
    Target {
        name: "balloon",
        run: balloon::run,
        seeds: balloon::seeds,
    },
];

/// The folder of the corpus, with one folder a target.
pub fn corpus() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

/// The name of a target's seed in the corpus.
pub fn seed_name(number: usize) -> String {
    format!("seed-{number:02}")
}
