#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# run.sh test|check|demo|bench|bench-instructions|soak|lint: makes the build root if there is none, builds
# the runner in it and hands over. Without a runner there is no verdict: that
# is reported as a failure in the same form.

. "$(dirname "$0")/lib.sh"

what=${1:?test, check, demo, bench, bench-instructions, soak or lint}
fail() {
    printf '{"schema": 1, "kind": "%s", "ok": false, "passed": 0, "failed": 1, "skipped": 0, "seconds": %d, "steps": [{"name": "set-up", "status": "fail", "seconds": 0, "tests": []}]}\n' \
        "$what" $(($(date +%s) - VACCEL_T0)) >"$OUT/$what.json"
    echo "0 passed, 1 failed"
    exit 1
}
rm -f "$OUT/$what.json"
[ "$what" != soak ] || rm -f "$OUT/survive.json"
need_tools git:git make:make unshare:util-linux
# Instructions are counted in an emulated machine, wherever that is.
if [ "$what" = bench-instructions ] || ! grep -qwE 'vmx|svm' /proc/cpuinfo; then need_tools qemu-system-x86_64:qemu-system-x86; fi
"$REPO/tools/dev/root.sh" >/dev/null || fail
"$REPO/tools/dev/kernel-packages.sh" >/dev/null || fail
binaries=$("$REPO/tools/dev/user.sh" vaccel-dev) || fail
exec "$binaries/vaccel-dev" --repo "$REPO" --cache "$CACHE" "$what"
