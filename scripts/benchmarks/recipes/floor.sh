#!/usr/bin/env bash
# What no build that writes an artifact can do without: copy the bytes of the finished artifact,
# compress the code alone.
#
#   floor.sh WORKSPACE ARTIFACT OUTPUT
set -euo pipefail
cp "$2" "$3.copy"
tar czf "$3" --exclude .git -C "$1" .
