#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The debug kernel: the packaged kernel's source, debug.config, clang. The
# driver's folder is dropped into that tree (a Kconfig line, a Makefile line, a
# copy of the sources and of the uAPI header), so building vaccel.ko here is
# also the check that it compiles in the kernel tree.
#
#   debug-kernel.sh kernel   make bzImage; once per version, configuration and
#                            compiler, whatever the driver's sources say
#   debug-kernel.sh module   bring the sources up to date and make vaccel.ko
#
# Prints the build folder.

. "$(dirname "$0")/lib.sh"

what=${1:-kernel}
need_tools rsync:rsync
kernel=$("$REPO/tools/dev/kernel-packages.sh")
root=$("$REPO/tools/dev/root.sh")
fragment=$REPO/tools/dev/debug.config
tools=$(awk '/^Package: (rustc|bindgen|clang-19|lld-19)$/ { on = 1 } /^Version:/ && on { print $2; on = 0 }' \
    "$root/var/lib/dpkg/status")
top=$CACHE/debug-$(hash_of "$(cat "$kernel/VERSION")" "$tools" "$CACHE" "$(grep -v '^#$' "$fragment" | sha256sum)" 1)
tree=$top/source
build=$top/build
export kernel root fragment tree build

kmake() {
    # bindgen and the Rust library are found without help in the build root.
    "$REPO/tools/dev/in-root" make -C "$tree" "O=$build" LLVM=-19 KBUILD_BUILD_USER=vaccel \
        KBUILD_BUILD_HOST=vaccel "-j$JOBS" "$@"
}

# The driver in the tree. Only what changed is touched, so make rebuilds only
# that.
drop_in() {
    local add name
    mkdir -p "$tree/drivers/accel/vaccel" "$tree/include/uapi/drm"
    rsync -rc --delete --exclude='/*.o' "$REPO/drivers/accel/vaccel/" "$tree/drivers/accel/vaccel/"
    for name in "$REPO"/include/uapi/drm/*.h; do
        [ -e "$name" ] || continue
        rsync -c "$name" "$tree/include/uapi/drm/"
    done
    # A tree without the driver's own build files yet still has its symbol.
    [ -e "$tree/drivers/accel/vaccel/Kconfig" ] ||
        printf 'config DRM_ACCEL_VACCEL\n\ttristate "vaccel"\n\tdepends on RUST && DRM_ACCEL\n' \
            >"$tree/drivers/accel/vaccel/Kconfig"
    [ -e "$tree/drivers/accel/vaccel/Makefile" ] || : >"$tree/drivers/accel/vaccel/Makefile"
    add='source "drivers/accel/vaccel/Kconfig"'
    if ! grep -qxF "$add" "$tree/drivers/accel/Kconfig"; then
        sed "/^endif/i $add" "$tree/drivers/accel/Kconfig" >"$tree/drivers/accel/Kconfig.new"
        mv "$tree/drivers/accel/Kconfig.new" "$tree/drivers/accel/Kconfig"
        grep -qxF "$add" "$tree/drivers/accel/Kconfig"
    fi
    add='obj-$(CONFIG_DRM_ACCEL_VACCEL)	+= vaccel/'
    if ! grep -qxF "$add" "$tree/drivers/accel/Makefile"; then
        { cat "$tree/drivers/accel/Makefile"; echo "$add"; } >"$tree/drivers/accel/Makefile.new"
        mv "$tree/drivers/accel/Makefile.new" "$tree/drivers/accel/Makefile"
    fi
}

# Every symbol of the fragment that asks for something must have got it.
check_config() {
    local line missing=0
    while IFS= read -r line; do
        case $line in
        CONFIG_*=*) grep -qxF "$line" "$build/.config" || { echo "not accepted: $line"; missing=1; } ;;
        '# CONFIG_'*' is not set')
            line=${line#\# }
            ! grep -q "^${line%% *}=" "$build/.config" || { echo "still on: ${line%% *}"; missing=1; }
            ;;
        esac
    done <"$fragment"
    [ "$missing" = 0 ]
}

configure() {
    drop_in
    kmake tinyconfig
    cat "$fragment" >>"$build/.config"
    kmake olddefconfig
    check_config
}

make_kernel() {
    [ -e "$top/.complete" ] && return 0
    if [ ! -e "$top/.source" ]; then
        rm -rf "$top"
        mkdir -p "$build"
        # Hard links: the tree costs nothing, and a changed file is a new file.
        step debug-source cp -al "$kernel/source" "$tree"
        touch "$top/.source"
    fi
    step debug-config configure || die "the debug kernel's configuration is incomplete (out/log/debug-config.log)"
    step debug-kernel kmake bzImage || die "the debug kernel does not build (out/log/debug-kernel.log)"
    touch "$top/.complete"
}

make_module() {
    step debug-tree drop_in
    # With coverage (KCOV) of the driver, which the fuzzers are guided by, and of nothing else.
    step debug-module kmake KCOV_INSTRUMENT_vaccel_main.o=y olddefconfig drivers/accel/vaccel/vaccel.ko ||
        die "the driver does not compile in the kernel tree (out/log/debug-module.log)"
}

[ -e "$top/.complete" ] || locked debug-kernel make_kernel
[ "$what" = kernel ] || locked debug-kernel make_module
printf '%s\n' "$build"
