#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Removes the cache. Build roots belong to root; nothing is mounted in them
# outside of the commands that run there.

. "$(dirname "$0")/lib.sh"

case $CACHE in
/*/vaccel) ;;
*) die "not a cache folder: $CACHE" ;;
esac
note "removing $CACHE"
as_root rm -rf --one-file-system "$CACHE"
