#!/usr/bin/env bash
# Build the images, run the compose file, talk to the mesh as a client would,
# and take everything down again.
#
#   deploy/compose_test.sh [COMPOSE COMMAND...]
#
# The command defaults to `docker compose`; podman-compose does as well:
#   deploy/compose_test.sh podman-compose --podman-build-args="--network=host"
# The mesh gets a project name and ports of its own, so that one that runs
# already is not disturbed.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- docker compose
compose=("$@")
export COMPOSE_PROJECT_NAME=thermesh-test
export THERMESH_GATEWAY_HTTP_PORT=${THERMESH_GATEWAY_HTTP_PORT:-18080}
export THERMESH_GATEWAY_GRPC_PORT=${THERMESH_GATEWAY_GRPC_PORT:-15050}
url=http://127.0.0.1:$THERMESH_GATEWAY_HTTP_PORT
rooms=(redis feature controller learner inference gateway)

say() { printf '\n==> %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

finish() {
    status=$?
    [ "$status" -eq 0 ] || "${compose[@]}" logs --tail 30 || true
    say "taking it down"
    "${compose[@]}" down --volumes >/dev/null 2>&1 || true
    exit "$status"
}
trap finish EXIT

within() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || fail "not in time: $*"
        sleep 1
    done
}
ready() { curl -sf -m 5 "$url/readyz" >/dev/null; }
ask() { # PATH JSON
    curl -sf -m 120 -H 'Content-Type: application/json' -d "$2" "$url$1"
}
# Where no engine runs health checks by itself, podman runs one on demand.
healthy() {
    local id
    id=$("${compose[@]}" ps -q "$1" 2>/dev/null | head -n 1)
    case ${compose[*]} in
        *podman*) podman healthcheck run "$COMPOSE_PROJECT_NAME"_"$1"_1 >/dev/null ;;
        *) [ "$(docker inspect --format '{{.State.Health.Status}}' "$id")" = healthy ] ;;
    esac
}

say "building"
"${compose[@]}" build
say "starting"
"${compose[@]}" up -d
say "waiting for the mesh"
within 180 ready
for room in "${rooms[@]}"; do
    within 90 healthy "$room"
    echo "$room is healthy"
done

model='"model": "smollm2-135m-instruct"'
question='"messages": [{"role": "user", "content": "What is the capital of France?"}]'

say "asking once"
answer=$(ask /v1/chat/completions "{$model, $question, \"temperature\": 0, \"max_tokens\": 24}")
grep -q Paris <<<"$answer" || fail "no sensible answer: $answer"

say "asking for a stream, temperature decided"
stream=$(ask /v1/chat/completions "{$model, $question, \"stream\": true, \"max_tokens\": 24}")
grep -q '^data: \[DONE\]' <<<"$stream" || fail "the stream did not end well: $stream"
decision=$(grep -o 'dec-[0-9a-f]\{32\}' <<<"$stream" | head -n 1)
[ -n "$decision" ] || fail "the stream names no decision: $stream"

say "sending feedback on $decision"
feedback="{\"id\": \"compose-test\", \"decision_id\": \"$decision\", \"score\": 1}"
ask /v1/feedback "$feedback" >/dev/null
applied() { curl -sf -m 5 "$url/v1/feedback/compose-test" | grep -q '"state": *"applied"'; }
within 60 applied

say "stopping"
"${compose[@]}" stop
say "the mesh in containers answers, decides and learns"
