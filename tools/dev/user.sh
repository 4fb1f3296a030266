#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds user space, statically linked so that the same binaries run here and
# in the guest, copies them to out/bin and prints that folder. What cargo makes is
# in out/target: shared between clones, it would serve one the programs of another.
#
# vaccel-interop is an exception: libdrm exists as a shared library only. It runs
# where the build root's libraries are, which image.sh takes along. So is
# vaccel-spirv-worker, which loads the Vulkan driver of the machine it runs on.
#
#   user.sh PACKAGE...

. "$(dirname "$0")/lib.sh"

target=x86_64-unknown-linux-gnu
export target
# What is tested here is right or wrong, not fast; link-time optimisation would
# take longer than everything else.
export CARGO_PROFILE_RELEASE_LTO=off

# link FOLDER FLAGS PACKAGE...: a folder per kind, since other flags make other
# objects of every dependency.
link() {
    local name packages=()
    export CARGO_TARGET_DIR=$1 RUSTFLAGS=$2
    shift 2
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

build() {
    local name static=() shared=()
    for name in "$@"; do
        case $name in
        vaccel-interop | vaccel-spirv-worker) shared+=("$name") ;;
        *) static+=("$name") ;;
        esac
    done
    [ ${#static[@]} = 0 ] || link "$OUT/target" '-C target-feature=+crt-static' "${static[@]}"
    [ ${#shared[@]} = 0 ] || link "$OUT/target/shared" '' "${shared[@]}"
}

locked user step "user-$(IFS=+ && printf '%s' "$*")" build "$@" || die "user space does not build"
printf '%s\n' "$OUT/bin"
