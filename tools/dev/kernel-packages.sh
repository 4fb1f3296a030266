#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Fetches the packaged kernel: source, headers (configuration and exported
# symbols), boot image and modules, all of one version, and unpacks them in the
# cache. apt verifies the archive's signature, in a state of its own, so the
# machine's package lists stay as they are. Prints the folder:
#   VERSION      package version, e.g. 7.3.4-1~bpo13+1
#   RELEASE      what uname -r says, e.g. 7.3.4+deb13-amd64
#   source/      unpacked linux source
#   root/        unpacked headers, boot image and modules
#
# A folder, once complete, is used until the cache is cleaned: an update of the
# package never changes results behind one's back. UPDATE=1 asks the archive.

. "$(dirname "$0")/lib.sh"

folder_link=$CACHE/kernel-$KERNEL
export apt=$CACHE/apt

private_apt() {
    local tool=$1
    shift
    "$tool" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$apt/state" -o Dir::State::Lists="$apt/lists" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
        -o APT::Architecture=amd64 -o APT::Architectures=amd64 \
        -o APT::Sandbox::User= -o Acquire::Retries=3 "$@"
}

fetch_and_unpack() {
    local mirror ring release version folder names=()
    if [ -e "$folder_link/.complete" ] && [ "${UPDATE:-0}" != 1 ]; then return 0; fi
    need_tools dpkg-deb:dpkg xz:xz-utils tar:tar
    mirror=$(debian_mirror)
    ring=$(debian_keyring)
    mkdir -p "$apt"/{state,lists/partial,cache/archives/partial}
    : >"$apt/status"
    printf 'deb [signed-by=%s] %s %s-backports main\n' "$ring" "$mirror" "$SUITE" \
        >"$apt/sources.list"
    step kernel-index private_apt apt-get update ||
        die "the package archive of this machine does not answer for $SUITE-backports"

    # The newest KERNEL.x that has both headers and source.
    version=$(private_apt apt-cache show "linux-source-$KERNEL" 2>/dev/null |
        sed -n 's/^Version: //p' | sort -V | tail -n 1)
    [ -n "$version" ] || die "no linux-source-$KERNEL in $SUITE-backports of this machine's archive"
    release=$(private_apt apt-cache pkgnames "linux-headers-$KERNEL." |
        sed -n 's/^linux-headers-\([0-9.]*+deb[0-9]*-amd64\)$/\1/p' | sort -V | tail -n 1)
    [ -n "$release" ] || die "no linux-headers-$KERNEL.*-amd64 in $SUITE-backports"
    folder=$CACHE/kernel-$(printf '%s' "$version" | tr '~' '-')
    names=("linux-source-$KERNEL=$version" "linux-headers-$release=$version"
        "linux-binary-$release=$version" "linux-modules-$release=$version")
    if [ ! -e "$folder/.complete" ]; then
        rm -rf "$folder.tmp"
        mkdir -p "$folder.tmp/deb" "$folder.tmp/root"
        cd "$folder.tmp/deb"
        step "kernel-download" private_apt apt-get download "${names[@]}" ||
            die "could not download ${names[*]}"
        step "kernel-unpack" unpack "$folder.tmp" "$release"
        printf '%s\n' "$version" >"$folder.tmp/VERSION"
        printf '%s\n' "$release" >"$folder.tmp/RELEASE"
        touch "$folder.tmp/.complete"
        rm -rf "$folder"
        mv "$folder.tmp" "$folder"
    fi
    ln -sfn "$(basename "$folder")" "$folder_link"
}

# unpack FOLDER RELEASE
unpack() {
    local deb
    for deb in "$1"/deb/linux-{headers,binary,modules}-*.deb; do
        echo "$deb"
        dpkg-deb -x "$deb" "$1/root"
    done
    mkdir "$1/source.deb" "$1/source"
    dpkg-deb -x "$1"/deb/linux-source-*.deb "$1/source.deb"
    echo "source tree"
    tar -C "$1/source" --strip-components=1 -xf "$1/source.deb/usr/src/linux-source-$KERNEL.tar.xz"
    rm -rf "$1/source.deb"
    # The source is what takes time to fetch; the archive of it is not needed
    # any more.
    rm -f "$1"/deb/linux-source-*.deb
    test -f "$1/source/Makefile"
    test -f "$1/root/usr/src/linux-headers-$2/.config"
}

if [ ! -e "$folder_link/.complete" ] || [ "${UPDATE:-0}" = 1 ]; then
    locked kernel-packages fetch_and_unpack
fi
readlink -f "$folder_link"
