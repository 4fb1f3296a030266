#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds user space, statically linked so that the same binaries run here and
# in the guest, copies them to out/bin and prints that folder. What cargo makes is
# in out/target: shared between clones, it would serve one the programs of another.
#
#   user.sh PACKAGE...

. "$(dirname "$0")/lib.sh"

target=x86_64-unknown-linux-gnu
export target CARGO_TARGET_DIR=$OUT/target RUSTFLAGS='-C target-feature=+crt-static'
# What is tested here is right or wrong, not fast; link-time optimisation would
# take longer than everything else.
export CARGO_PROFILE_RELEASE_LTO=off

build() {
    local name packages=()
    for name in "$@"; do packages+=(-p "$name"); done
    cd "$REPO/tools"
    "$REPO/tools/dev/in-root" cargo build --release --locked --target "$target" "${packages[@]}"
    mkdir -p "$OUT/bin"
    for name in "$@"; do
        # By rename: the old one may be running.
        cp "$CARGO_TARGET_DIR/$target/release/$name" "$OUT/bin/$name.new"
        mv "$OUT/bin/$name.new" "$OUT/bin/$name"
    done
}

locked user step "user-$(IFS=+ && printf '%s' "$*")" build "$@" || die "user space does not build"
printf '%s\n' "$OUT/bin"
