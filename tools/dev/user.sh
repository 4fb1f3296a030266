#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds user space, statically linked so that the same binaries run here and
# in the guest, and prints the folder they are in.
#
#   user.sh PACKAGE...

. "$(dirname "$0")/lib.sh"

target=x86_64-unknown-linux-gnu
packages=()
for name in "$@"; do packages+=(-p "$name"); done
cd "$REPO/tools"
# What is tested here is right or wrong, not fast; link-time optimisation would
# take longer than everything else.
export CARGO_PROFILE_RELEASE_LTO=off
export CARGO_TARGET_DIR=$CACHE/target RUSTFLAGS='-C target-feature=+crt-static'
step "user-$(IFS=+ && printf '%s' "$*")" "$REPO/tools/dev/in-root" cargo build --release --locked \
    --target "$target" "${packages[@]}" || die "user space does not build"
printf '%s\n' "$CARGO_TARGET_DIR/$target/release"
