#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fuzz.sh [SECONDS] [TARGET...]: runs the fuzzers of the host, each for so long
# (60), on the committed corpus and what earlier runs found (out/fuzz). Needs
# cargo-fuzz. Without a nightly compiler the stable one is told to be one, and
# there is no address sanitizer: what the targets run has almost no unsafe code.

. "$(dirname "$0")/lib.sh"

seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- vmbus rings gpupv commands machine vpci balloon
command -v cargo-fuzz >/dev/null || die "no cargo-fuzz (cargo install cargo-fuzz)"
cd "$REPO/tools/vaccel-host/fuzz"
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$OUT/target/fuzz}
for target in "$@"; do
    found=$OUT/fuzz/$target
    mkdir -p "$found"
    step "fuzz-$target" cargo fuzz run --sanitizer none "$target" "$found" "corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -max_len=4096 -artifact_prefix="$found/crash-" ||
        die "fuzz $target: the input is in out/fuzz/$target"
done
