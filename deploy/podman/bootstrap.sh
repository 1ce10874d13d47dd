#!/usr/bin/env bash
# Build stand-ins for the public base images out of Debian packages, for a
# host that has podman but reaches no image registry.
#
#   sudo deploy/podman/bootstrap.sh [MIRROR]
#
# MIRROR is a Debian mirror; without it debootstrap uses its own default. The
# images carry the names that deploy/Dockerfile and docker-compose.yml ask
# for, so that both run unchanged. They are for tests: published images have
# security support that these have not.
set -euo pipefail

suite=bookworm
python_image=docker.io/library/python:3.11-slim-bookworm
redis_image=docker.io/library/redis:7.2-bookworm
mirror=${1:-}
scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT

say() { printf '==> %s\n' "$*"; }

install_debian() { # FOLDER PACKAGES
    say "installing Debian $suite with $2"
    debootstrap --variant=minbase --include="$2" "$suite" "$scratch/$1" ${mirror:+"$mirror"} \
        >"$scratch/$1.log" 2>&1 || { tail -n 20 "$scratch/$1.log" >&2; exit 1; }
    rm -rf "$scratch/$1"/var/cache/apt/archives/*.deb "$scratch/$1"/var/lib/apt/lists/*
}

import_image() { # FOLDER NAME CHANGES...
    local folder=$1 name=$2 changes=()
    shift 2
    for change in "$@"; do changes+=(--change "$change"); done
    say "importing $name"
    tar -C "$scratch/$folder" --one-file-system -c . | podman import "${changes[@]}" - "$name"
    rm -rf --one-file-system "${scratch:?}/$folder"
}

# The published Python image lets pip install anywhere and calls it `python`.
install_debian python python3,python3-venv,python3-pip,ca-certificates
rm -f "$scratch"/python/usr/lib/python3*/EXTERNALLY-MANAGED
ln -s python3 "$scratch/python/usr/bin/python"
import_image python "$python_image" 'CMD ["python3"]'

# The published Redis image keeps its data in /data, owned by user redis.
install_debian redis redis-server,redis-tools
mkdir "$scratch/redis/data"
chroot "$scratch/redis" chown redis:redis /data
import_image redis "$redis_image" 'WORKDIR /data' 'VOLUME /data' 'EXPOSE 6379' 'CMD ["redis-server"]'
