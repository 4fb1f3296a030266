// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the seeds of all targets to the corpus.

use std::fs;

use fuzz_targets::{corpus, seed_name, TARGETS};

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let folder = corpus().join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(seed_name(number)), seed)?;
        }
    }
    Ok(())
}
