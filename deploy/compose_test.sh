#!/usr/bin/env bash
# Build the images, run the compose file with all its profiles, talk to the mesh
# as a client would, restart parts of it, and take everything down again.
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
compose=("$@" --profile voice --profile bridge)
export COMPOSE_PROJECT_NAME=thermesh-test
export THERMESH_GATEWAY_HTTP_PORT=${THERMESH_GATEWAY_HTTP_PORT:-18080}
export THERMESH_GATEWAY_GRPC_PORT=${THERMESH_GATEWAY_GRPC_PORT:-15050}
export THERMESH_VOICE_HTTP_PORT=${THERMESH_VOICE_HTTP_PORT:-18081}
# The engine behind the bridge is the mesh itself, which speaks OpenAI's REST.
export THERMESH_ENGINE_URL=http://gateway:8080/v1
url=http://127.0.0.1:$THERMESH_GATEWAY_HTTP_PORT
ours=(feature controller learner inference gateway gateway-voice bridge)
rooms=(redis "${ours[@]}")

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
inside() { "${compose[@]}" exec -T "$@"; } # SERVICE COMMAND...
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

say "looking at who runs them, and what they may write"
for room in "${ours[@]}"; do
    user=$(inside "$room" id -u)
    [ "$user" -ne 0 ] || fail "$room runs as root"
    ! inside "$room" touch /app/written 2>/dev/null || fail "$room can write to its own code"
    echo "$room runs as user $user and cannot write to its code"
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

say "asking the second gateway for its voice"
inside gateway-voice python3 - <<'PYTHON' || fail "the gateway with a voice has none"
import json
from websockets.sync.client import connect

with connect("ws://127.0.0.1:8080/v1/realtime") as socket:
    session = json.loads(socket.recv(30))["session"]
assert session["output_modalities"] == ["audio"], session
PYTHON

say "asking the bridge what it serves"
inside bridge python3 - <<'PYTHON' || fail "the bridge does not know the engine behind it"
import grpc
from thermesh.v1 import inference_pb2, inference_pb2_grpc

with grpc.insecure_channel("127.0.0.1:50053") as channel:
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    described = stub.DescribeModel(inference_pb2.DescribeModelRequest(), timeout=30)
assert described.model == "smollm2-135m-instruct", described
assert described.kernels == "bridge:openai", described
PYTHON

answers() { ask /v1/chat/completions "{$model, $question, \"temperature\": 0, \"max_tokens\": 24}" | grep -q Paris; }
for room in redis controller inference; do
    say "restarting $room"
    # Not `restart`: podman's refuses where what a room waited for at its start has ended.
    "${compose[@]}" stop -t 10 "$room" >/dev/null
    ! healthy "$room" 2>/dev/null || fail "$room goes on"
    "${compose[@]}" start "$room" >/dev/null
    within 90 healthy "$room"
    within 60 answers
done
# A room that has just come back may be met a moment later.
within 30 applied

say "stopping"
"${compose[@]}" stop
say "the mesh in containers answers, decides and learns"
