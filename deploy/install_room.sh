#!/bin/sh
# install_room.sh [EXTRA]: put what one room needs into /app/venv, but not this
# project itself, so that a change of code installs nothing again. Runs while
# an image is built (deploy/Dockerfile).
set -eu
. deploy/package_index.sh

requirement=.
[ -z "${1:-}" ] || requirement=".[$1]"
python3 -m venv /app/venv
/app/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
    --constraint constraints.txt "$requirement"
/app/venv/bin/pip uninstall --quiet --yes thermesh
