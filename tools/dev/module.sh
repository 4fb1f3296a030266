#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the driver as an external module for the packaged kernel and prints
# the module's path. What is made lies in out/module, not among the sources.
# CLIPPY=1 lints instead (out/module-clippy), DOC=1 also documents (out/module-doc). DEBUG_TREE=1 builds in the debug
# kernel's tree. Every undefined Rust symbol must be one the kernel exports:
# modpost fails otherwise.
#
#   module.sh [MAKE-ARGUMENT...]

. "$(dirname "$0")/lib.sh"

if [ "${DEBUG_TREE:-0}" = 1 ]; then
    build=$("$REPO/tools/dev/debug-kernel.sh" module)
    printf '%s\n' "$build/drivers/accel/vaccel/vaccel.ko"
    exit
fi
kit=$("$REPO/tools/dev/kit.sh")
name=module
lint=()
if [ "${CLIPPY:-0}" = 1 ]; then
    name=module-clippy
    lint=(CLIPPY=1)
    # make would find an up-to-date object and lint nothing.
    rm -rf "${OUT:?}/$name"
fi
if [ "${DOC:-0}" = 1 ]; then
    name=module-doc
    lint=("RUSTC_OR_CLIPPY=$REPO/tools/dev/rustdoc-as-rustc")
    rm -rf "${OUT:?}/$name"
fi
mkdir -p "$OUT/$name"
step "$name" "$REPO/tools/dev/in-root" make -C "$kit" "M=$REPO/drivers/accel/vaccel" \
    "MO=$OUT/$name" CC=gcc-14 HOSTCC=gcc-14 CONFIG_DRM_ACCEL_VACCEL=m "-j$JOBS" \
    "${lint[@]}" "$@" modules || die "the driver does not compile (out/log/$name.log)"
printf '%s\n' "$OUT/$name/vaccel.ko"
