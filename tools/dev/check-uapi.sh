#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Lints the uAPI header: no CPU pointers and no fields that could hold one, no
# implicit padding, one layout for 32 and 64 bit, at most 80 bytes a structure,
# a documented field each, unique operation numbers.
#
# usage: check-uapi.sh [HEADER]      lint the header of this repository, or HEADER
#        check-uapi.sh --self-test   feed it headers with one fault each
#
# drm.h comes from VACCEL_KERNEL_SOURCE, the cached kernel source, or the system.
# Needs awk and a C compiler with -m32 (no 32-bit C library).

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
HEADER=$REPO/include/uapi/drm/vaccel_accel.h
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/vaccel
CC=${CC:-cc}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
later=

die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# The kernel's own drm.h, without the annotations that its installed form lacks.
find_drm_h() {
    local candidate name
    for candidate in "${VACCEL_KERNEL_SOURCE:-}"/include/uapi/drm/drm.h \
        "$CACHE"/kernel-*/source/include/uapi/drm/drm.h \
        /usr/include/drm/drm.h /usr/include/libdrm/drm.h; do
        if [ -r "$candidate" ]; then
            mkdir -p "$work/include"
            for name in drm.h drm_mode.h; do
                sed 's/\<__user\>//g' "${candidate%/*}/$name" >"$work/include/$name"
            done
            # Headers of its time that the system may not have yet.
            later=${candidate%/drm/drm.h}
            return
        fi
    done
    die "no drm.h: set VACCEL_KERNEL_SOURCE to a kernel source tree, or install libdrm-dev"
}

# What can be seen in the text. Prints one line per finding.
lint_text() {
    awk '
    function finding(text) { printf "%s:%d: %s\n", FILENAME, FNR, text }

    # Names documented by "@name:" or "define NAME -" or "struct name -" in the
    # last comment, one-line comments before a member included.
    /\/\*\*/ { comment = ""; in_comment = 1 }
    in_comment { comment = comment "\n" $0 }
    in_comment && /\*\// { in_comment = 0; next }
    in_comment { next }
    /^[ \t]*\/\*.*\*\/[ \t]*$/ { next }
    /^\/\*/ { plain = 1 }
    plain { if (/\*\//) plain = 0; next }

    /^#define[ \t]+VACCEL_[A-Z0-9_]+[ \t]/ {
        name = $2
        if (index(comment, "define " name " - ") == 0) finding(name " has no kernel-doc")
    }
    /^#define[ \t]+DRM_VACCEL_/ {
        if ($3 in number) finding($2 " has the number of " number[$3])
        number[$3] = $2
    }
    /^struct [a-z0-9_]+ \{/ {
        structure = $2
        structs++
        if (index(comment, "struct " structure " - ") == 0) finding(structure " has no kernel-doc")
        next
    }
    /^\};/ { structure = "" }
    structure != "" && NF {
        line = $0
        if (line ~ /\*/) finding(structure ": a pointer: " line)
        sub(/;.*/, "", line)
        n = split(line, word, /[ \t]+/)
        name = word[n]
        sub(/\[.*/, "", name)
        type = line
        sub(/[ \t]*[a-z0-9_]+(\[[^]]*\])?$/, "", type)
        gsub(/^[ \t]+/, "", type)
        if (type !~ /^(__u8|__u16|__u32|__s32|__u64|struct drm_event)$/)
            finding(structure "." name ": type \"" type "\" is not allowed")
        if (type == "__u64" && name !~ /(^|_)(va|offset|value|ns|size|seq|point|luid)$/ &&
            name !~ /^(reserved|bytes_to_[a-z]+)$/)
            finding(structure "." name ": the name of a __u64 must say what it is, and no CPU address")
        if (type == "__s64")
            finding(structure "." name ": signed 64-bit fields are not allowed")
        if (index(comment, "@" name ": ") == 0)
            finding(structure "." name " has no kernel-doc")
        fields++
    }
    /VACCEL_IOCTL\(DRM_IOWR, / {
        nr = $0
        sub(/.*DRM_IOWR, DRM_VACCEL_/, "", nr)
        sub(/,.*/, "", nr)
        if (previous !~ ("DRM_IOCTL_VACCEL_" nr " =")) finding("DRM_VACCEL_" nr " is under another name")
        if (nr in ioctl) finding("DRM_VACCEL_" nr " is used twice")
        ioctl[nr] = 1
        ioctls++
    }
    { if (NF) previous = $0 }
    END {
        if (structs < 10 || fields < 50 || ioctls < 10)
            finding("only " structs " structures, " fields " fields and " ioctls " ioctls were recognised")
    }' "$1"
}

compiler() {
    "$CC" -std=gnu11 -ffreestanding -Wall -Werror -Wpadded -isystem "$work/include" \
        -idirafter "/usr/include/$("$CC" -print-multiarch 2>/dev/null)" \
        -idirafter "$later" "$@"
}

# The layout of every structure as constants in assembler, for -m64 or -m32.
layout() {
    local header=$1 mode=$2
    {
        printf '#include "%s"\n' "$header"
        awk '
        /^struct [a-z0-9_]+ \{/ {
            structure = $2
            printf "_Static_assert(sizeof(struct %s) <= 80, \"%s is larger than 80 bytes\");\n", $2, $2
            printf "_Static_assert(sizeof(struct %s) %% 8 == 0, \"%s is no multiple of 8 bytes\");\n", $2, $2
            printf "const unsigned size_%s = sizeof(struct %s);\n", $2, $2
            next
        }
        /^\};/ { structure = "" }
        structure != "" && /^\t[a-z_].*;/ {
            name = $NF
            sub(/(\[[^]]*\])?;.*/, "", name)
            gsub(/\*/, "", name)
            printf "const unsigned at_%s_%s = __builtin_offsetof(struct %s, %s);\n", structure, name, structure, name
        }' "$header"
    } | compiler "$mode" -fno-asynchronous-unwind-tables -S -x c -o - - |
        grep -E '^[a-z_0-9]+:|\.(long|zero)'
}

lint() {
    local header=$1 findings status=0
    findings=$(lint_text "$header")
    if [ -n "$findings" ]; then
        printf '%s\n' "$findings" >&2
        status=1
    fi
    if layout "$header" -m64 >"$work/m64" && layout "$header" -m32 >"$work/m32"; then
        cmp -s "$work/m64" "$work/m32" || {
            diff "$work/m64" "$work/m32" | head -n 5 >&2
            printf '%s: the layout differs between 64 and 32 bit\n' "$header" >&2
            status=1
        }
    else
        status=1
    fi
    return "$status"
}

# mutate WHAT SED EXPECTED: the header with one fault must be refused with these words.
mutate() {
    local what=$1 expression=$2 expected=$3 words
    sed -E "$expression" "$HEADER" >"$work/bad.h"
    cmp -s "$HEADER" "$work/bad.h" && die "self-test \"$what\" changes nothing"
    if words=$(lint "$work/bad.h" 2>&1); then
        die "self-test \"$what\" was not found"
    fi
    grep -q -- "$expected" <<<"$words" || {
        printf '%s\n' "$words" >&2
        die "self-test \"$what\" was refused for another reason than \"$expected\""
    }
    printf 'ok - refuses %s\n' "$what"
}

self_test() {
    lint "$HEADER" || die "the header itself is refused"
    printf 'ok - accepts the header\n'
    mutate "a pointer member" 's/^\t__u64 gpu_va;/\t__u64 *gpu_va;/' "a pointer"
    mutate "a void pointer" 's/^\t__u64 gpu_va;/\tvoid *gpu_va;/' "a pointer"
    mutate "a field named as an address" 's/^\t__u64 gpu_va;/\t__u64 addr;/; s/@gpu_va:/@addr:/' "must say what it is"
    mutate "a type that differs in size" 's/^\t__u64 initial_value;/\tunsigned long initial_value;/' "is not allowed"
    mutate "a layout that differs" 's/^\t__u64 reserved\[2\];/\tunsigned long reserved[2];/' "the layout differs"
    mutate "implicit padding" 's/^\t__u32 pad;/\t__u16 pad;/' "padding"
    mutate "a structure of 88 bytes" '/^struct drm_vaccel_residency \{/,/^\};/s/reserved\[2\]/reserved[4]/' "larger than 80"
    mutate "a field without documentation" 's/@deadline_ns: .*/In: absolute time. *\//' "has no kernel-doc"
    mutate "a constant without documentation" 's/define VACCEL_WAIT_ANY - /define VACCEL_WAIT_SOME - /' "VACCEL_WAIT_ANY has no kernel-doc"
    mutate "a number used twice" 's/(DRM_VACCEL_BIND\t+)0x0d/\10x0e/' "has the number of"
    mutate "an ioctl under another name" 's/DRM_IOWR, DRM_VACCEL_UNBIND,/DRM_IOWR, DRM_VACCEL_BIND,/' "is under another name"
    : >"$work/empty.h"
    if lint "$work/empty.h" >/dev/null 2>&1; then
        die "an empty header was accepted"
    fi
    printf 'ok - refuses an empty header\n'
}

printf 'int x;\n' | "$CC" -m32 -ffreestanding -fsyntax-only -x c - 2>/dev/null ||
    die "$CC cannot compile with -m32"
find_drm_h
case ${1:-} in
    --self-test) self_test ;;
    -*) die "usage: check-uapi.sh [HEADER | --self-test]" ;;
    *)
        lint "${1:-$HEADER}"
        printf 'uAPI header: no pointers, %d structures, one layout, all documented\n' \
            "$(grep -c '^struct drm_vaccel_.* {' "${1:-$HEADER}")"
        ;;
esac
