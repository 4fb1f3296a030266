#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes the "kit": a kernel build folder with which a Rust module can be built
# for the packaged, untouched kernel. It is the kernel's source with the
# package's configuration, exported symbols and release string, and the Rust
# metadata that header packages lack, made by the same compiler as the
# package's. Prints its path.

. "$(dirname "$0")/lib.sh"

kernel=$("$REPO/tools/dev/kernel-packages.sh")
root=$("$REPO/tools/dev/root.sh")
release=$(cat "$kernel/RELEASE")
headers=$kernel/root/usr/src/linux-headers-$release
tools=$(cat "$root/var/lib/dpkg/status" | awk '/^Package: (rustc|bindgen|gcc-14|libclang-19-dev)$/ { on = 1 } /^Version:/ && on { print $2; on = 0 }')
# The path is part of the key: generated makefiles name it.
kit=$CACHE/kit-$release-$(hash_of "$(cat "$kernel/VERSION")" "$tools" "$CACHE" \
    "$(sha256sum <"$headers/.config")" 1)

export kernel release headers kit

make_kit() {
    [ -e "$kit/.complete" ] && return 0
    rm -rf "$kit"
    mkdir -p "$kit"
    cp "$headers/.config" "$kit/.config"
    step kit prepare ||
        die "the kernel's Rust metadata could not be made (out/log/kit.log)"
    touch "$kit/.complete"
}

prepare() {
    local symbol
    "$REPO/tools/dev/in-root" make -C "$kernel/source" "O=$kit" CC=gcc-14 HOSTCC=gcc-14 \
        "-j$JOBS" olddefconfig
    # Without a usable Rust toolchain these vanish in silence.
    for symbol in CONFIG_RUST=y CONFIG_HYPERV_VMBUS=y CONFIG_DRM_ACCEL=y; do
        grep -qx "$symbol" "$kit/.config" || {
            echo "$symbol is not in the configuration"
            return 1
        }
    done
    # The package's release string, so that the module is loaded by its kernel.
    "$REPO/tools/dev/in-root" make -C "$kernel/source" "O=$kit" CC=gcc-14 HOSTCC=gcc-14 \
        "-j$JOBS" modules_prepare
    cp "$headers/Module.symvers" "$kit/Module.symvers"
    printf '%s\n' "$release" >"$kit/include/config/kernel.release"
    printf '#define UTS_RELEASE "%s"\n' "$release" >"$kit/include/generated/utsrelease.h"
    test -e "$kit/rust/libkernel.rmeta"
}

[ -e "$kit/.complete" ] || locked kit make_kit
printf '%s\n' "$kit"
