#!/bin/sh
# Copy the models that the image carries into the volume that the rooms read.
# A folder appears under its name only when it is whole, so that a room that
# starts meanwhile never loads half a file.
set -eu

from=/app/models
to=${THERMESH_MODELS_DIR:-/models}

for folder in "$from"/*/; do
    name=$(basename "$folder")
    if diff -rq "$folder" "$to/$name" >/dev/null 2>&1; then
        echo "$name: already there"
        continue
    fi
    rm -rf "$to/.$name.part" "$to/.$name.old"
    cp -R "$folder" "$to/.$name.part"
    [ ! -e "$to/$name" ] || mv "$to/$name" "$to/.$name.old"
    mv "$to/.$name.part" "$to/$name"
    rm -rf "$to/.$name.old"
    echo "$name: installed"
done
