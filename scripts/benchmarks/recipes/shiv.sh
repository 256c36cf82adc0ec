#!/usr/bin/env bash
# One .pyz with the requirements and the code, as shiv's documentation does it for Django.
#
#   shiv.sh WORKSPACE BIN SITE_PACKAGES OUTPUT
set -euo pipefail
"$2/pip" install --quiet -r "$1/requirements.txt" --target "$3"
cp -r "$1/." "$3"
rm -rf "$3/.git"
"$2/shiv" --site-packages "$3" --compressed -o "$4"
