// SPDX-License-Identifier: MIT OR Apache-2.0
//! The targets run on what is committed and on random bytes, without a fuzzer.

use std::fs;

use fuzz_targets::{corpus, seed_name, Target, TARGETS};

/// Random inputs for each target.
const RANDOM: u64 = 400;
/// Longest random input.
const LONGEST: u64 = 600;

/// Numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// Runs `input` and names the target and the number of the input if it panics.
fn run(target: &Target, what: &str, input: &[u8]) {
    let result = std::panic::catch_unwind(|| (target.run)(input));
    assert!(result.is_ok(), "{}: {what}: {input:02x?}", target.name);
}

/// The committed seeds are what the targets make, so that they follow the formats; each runs, as does every
/// input that once was found.
#[test]
fn committed_corpus() {
    for target in TARGETS {
        let folder = corpus().join(target.name);
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let name = seed_name(number);
            let committed = fs::read(folder.join(&name)).unwrap_or_default();
            let same = committed == seed;
            assert!(same, "{}/{name}: cargo run -p fuzz_targets", target.name);
        }
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            run(
                &target,
                &path.display().to_string(),
                &fs::read(&path).unwrap(),
            );
        }
    }
}

/// Random bytes, and seeds some bytes of which were changed or cut off, break nothing.
#[test]
fn random_inputs() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for number in 0..RANDOM {
            let mut input = if number % 2 == 0 {
                let len = random.below(LONGEST);
                (0..len).map(|_| random.byte()).collect()
            } else {
                seeds[random.below(seeds.len() as u64) as usize].clone()
            };
            if number % 2 == 1 {
                for _ in 0..random.below(6) {
                    let at = random.below(input.len() as u64) as usize;
                    input[at] = random.byte();
                }
                let left = random.below(2 * input.len() as u64) as usize;
                input.truncate(left);
            }
            run(&target, &format!("random input {number}"), &input);
        }
    }
}

/// A target that breaks its contract does fail here: a check of the harness.
#[test]
#[should_panic(expected = "broken: planted: [01]")]
fn a_broken_target_fails() {
    let target = Target {
        name: "broken",
        run: |data| assert!(data.is_empty()),
        seeds: Vec::new,
    };
    run(&target, "planted", &[1]);
}
