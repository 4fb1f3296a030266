#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes the build root: a Debian with exactly the tools that Debian's own 7.3
# kernel was built with (the kernel's Rust symbols depend on the compiler), and
# clang for the debug kernel. Prints its path. It is made once per package list.

. "$(dirname "$0")/lib.sh"

PACKAGES=(
    # kernel
    make gcc-14 gcc flex bison bc libelf-dev libssl-dev pahole kmod cpio xz-utils
    zstd rsync perl python3 lz4
    # Rust in the kernel, and user space
    rustc rust-src cargo rust-clippy rustfmt bindgen libclang-19-dev
    ca-certificates libc6-dev
    # the shared libdrm that synchronisation is tested with
    libdrm-dev
    # the Vulkan device that the SPIR-V engine is tested with
    libvulkan1 mesa-vulkan-drivers
    # debug kernel
    clang-19 lld-19 llvm-19
)

root=$CACHE/root-$SUITE-$(hash_of "${PACKAGES[@]}")

make_root() {
    local mirror ring list
    [ -e "$root/.complete" ] && return 0
    [ "$(uname -m)" = x86_64 ] || die "only x86-64 machines are supported, this is $(uname -m)"
    need_tools mmdebstrap:mmdebstrap unshare:util-linux
    mirror=$(debian_mirror)
    ring=$(debian_keyring)
    as_root rm -rf "$root.tmp"
    list=$(IFS=, && printf '%s' "${PACKAGES[*]}")
    step build-root as_root mmdebstrap --mode=root --variant=minbase \
        --architectures=amd64 --keyring="$ring" --include="$list" \
        --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Retries "3"' \
        --dpkgopt='force-unsafe-io' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$SUITE" "$root.tmp" "$mirror" ||
        die "could not make the build root from this machine's package archive (network? suite $SUITE?)"
    as_root touch "$root.tmp/.complete"
    as_root mv "$root.tmp" "$root"
}

[ -e "$root/.complete" ] || locked root make_root
printf '%s\n' "$root"
