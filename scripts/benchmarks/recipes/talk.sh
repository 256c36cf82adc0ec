#!/usr/bin/env bash
# The build job of the talk: hash the requirements, reuse or make the virtualenv at its final path,
# copy it into the workspace, tar code and virtualenv.
#
#   talk.sh WORKSPACE ENVIRONMENTS VIRTUALENV PYTHON OUTPUT
set -euo pipefail
cd "$1"
hash=$(sha256sum requirements.txt | cut -d ' ' -f 1)
environment=$2/$hash
if [ ! -d "$environment" ]; then
    "$3" --quiet --python "$4" "$environment"
    "$environment/bin/pip" install --quiet -r requirements.txt
fi
cp -r "$environment" virtualenv
tar czf "$5" --exclude .git .
