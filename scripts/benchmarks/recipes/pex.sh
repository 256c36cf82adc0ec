#!/usr/bin/env bash
# One .pex with the requirements and the code; PEX_ROOT is its cache.
#
#   pex.sh WORKSPACE PEX PYTHON OUTPUT
set -euo pipefail
"$2" --use-pip-config --pip-version 25.3 --python "$3" -r "$1/requirements.txt" -D "$1" -o "$4"
