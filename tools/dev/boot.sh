#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# boot.sh PLAN [HOST-ARGUMENT...]: builds and starts one machine on the
# packaged kernel (WHICH=debug: on the debug kernel) with its console here.

. "$(dirname "$0")/lib.sh"

plan=${1:-demo}
shift || true
programs=(vaccel-host vaccel-smoke vaccel-selftests guest-init)
for name in vaccel-interop vaccel-survive; do
    ! grep -q " /bin/$name" "$REPO/tools/dev/plan/$plan.plan" || programs+=("$name")
done
! grep -q '^# host:.*--engine spirv' "$REPO/tools/dev/plan/$plan.plan" || programs+=(vaccel-spirv-worker)
binaries=$("$REPO/tools/dev/user.sh" "${programs[@]}")
VACCEL_OUTER_DIR=$("$REPO/tools/dev/image.sh" outer)
export VACCEL_OUTER_DIR
mapfile -t parts < <("$REPO/tools/dev/image.sh" "${WHICH:-packaged}" "$plan")
[ ${#parts[@]} = 2 ] || die "no image"
# What the plan asks of the host, as in "make test".
read -ra wanted <<<"$(sed -n 's/^# host://p' "$REPO/tools/dev/plan/$plan.plan" | tr '\n' ' ')"
scenario=${parts[1]%.cpio}.scenario
[ ! -e "$scenario" ] || wanted+=(--scenario "$scenario")
exec "$binaries/vaccel-host" run --kernel "${parts[0]}" --initrd "${parts[1]}" \
    --cmdline "console=ttyS0 loglevel=7 panic=-1 dma_debug_driver=vaccel" --memory 1G \
    --results "$OUT/boot.jsonl" "${wanted[@]}" "$@"
