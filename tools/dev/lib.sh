# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# Shared by the scripts in this directory: where things live, how a step is
# shown and logged, what the machine must offer. Source it, don't run it.

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/vaccel
OUT=$REPO/out
LOGS=$OUT/log
SUITE=trixie
KERNEL=7.3
JOBS=${JOBS:-$(nproc)}
export REPO CACHE OUT LOGS SUITE KERNEL JOBS
mkdir -p "$CACHE" "$LOGS"

# Steps of one "make" call share a start time, so that elapsed times add up.
: "${VACCEL_T0:=$(date +%s)}"
export VACCEL_T0

say() { printf '%s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# reuse WHAT PATH: one line saying that an earlier result serves.
reuse() { printf '[%4ds] %-28s reused (%s)\n' $(($(date +%s) - VACCEL_T0)) "$1" "$2" >&2; }

# step NAME COMMAND...: run with output in out/log/NAME.log; show the name, now
# and then the last line of the log, and the time it took. A failure shows the
# end of the log and returns the command's status.
step() {
    local name=$1 log rc=0 begin pid last shown=0
    shift
    log=$LOGS/${name//[^A-Za-z0-9_.-]/-}.log
    begin=$(date +%s)
    printf '[%4ds] %-28s ...\n' $((begin - VACCEL_T0)) "$name" >&2
    # Functions run in a shell of their own, with what is exported: within
    # "step ... || die" this one would not stop at their first failure.
    if [ "$(type -t "$1")" = function ]; then
        bash -euo pipefail -c "$(declare -f)"$'\n"$@"\n' bash "$@" >"$log" 2>&1 </dev/null &
    else
        "$@" >"$log" 2>&1 </dev/null &
    fi
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        last=$(($(date +%s) - begin))
        if [ $((last - shown)) -ge 15 ]; then
            shown=$last
            printf '        %4ds  %s\n' "$last" \
                "$(tail -n 1 "$log" | tr -d '\r' | tr '\t' ' ' | cut -c1-90)" >&2
        fi
    done
    wait "$pid" || rc=$?
    if [ "$rc" != 0 ]; then
        tail -n 30 "$log" | sed 's/^/        | /' >&2
        printf '[%4ds] %-28s FAILED (%d), log: %s\n' \
            $(($(date +%s) - VACCEL_T0)) "$name" "$rc" "${log#"$REPO"/}" >&2
        return "$rc"
    fi
    printf '[%4ds] %-28s done in %ds\n' $(($(date +%s) - VACCEL_T0)) "$name" \
        $(($(date +%s) - begin)) >&2
}

# as_root COMMAND...: as it is when root, else by sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "'$1' needs root: run as root, or install sudo"
    fi
}

# need_tools COMMAND:PACKAGE...: install the packages of the commands that are
# missing on this machine.
need_tools() {
    local pair missing=() commands=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null ||
            [ -x "/usr/sbin/${pair%%:*}" ] || {
            missing+=("${pair#*:}")
            commands+=("${pair%%:*}")
        }
    done
    [ ${#missing[@]} = 0 ] && return 0
    command -v apt-get >/dev/null ||
        die "missing: ${commands[*]}. They can be installed automatically on Debian only; install them by hand (Debian packages: ${missing[*]})"
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "missing: ${commands[*]}. Run as root or with sudo, or install the packages: ${missing[*]}"
    fi
    step host-packages as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update && apt-get install -y --no-install-recommends "$@"' sh "${missing[@]}" ||
        die "could not install ${missing[*]}: is the network reachable? (out/log/host-packages.log)"
}

# debian_mirror: the archive this machine takes its own packages from.
debian_mirror() {
    local site
    command -v apt-get >/dev/null || die "this machine has no apt: a Debian machine is needed to fetch packages"
    site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
        awk '$2 !~ /security/ && $1 !~ /security/ { print $1; exit }')
    [ -n "$site" ] || die "no package archive in this machine's apt sources"
    printf '%s\n' "$site"
}

debian_keyring() {
    local ring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$ring" ] || need_tools no-such-command:debian-archive-keyring
    [ -r "$ring" ] || die "no Debian archive keyring ($ring): install debian-archive-keyring"
    printf '%s\n' "$ring"
}

# hash TEXT...: a short key.
hash_of() { printf '%s\n' "$@" | sha256sum | cut -c1-12; }

# locked NAME COMMAND...: one at a time per cache entry.
locked() {
    local name=$1
    shift
    (
        flock 9
        "$@"
    ) 9>"$CACHE/.lock-$name"
}
