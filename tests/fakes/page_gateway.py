"""A server that plays the gateway for the pages: what they are served, and what they ask for."""

from __future__ import annotations

import http.server
import json
import math
import pathlib
import threading

PAGE = pathlib.Path(__file__).resolve().parents[2] / "services" / "gateway" / "page"
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none';"
    " form-action 'none'; script-src 'self'; style-src 'self'"
)
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HOSTILE = "<img src=x onerror=alert(1)>"
NOW_MS = 1_800_000_000_000


class Gateway(http.server.ThreadingHTTPServer):
    """Plays the gateway: answers from `temperatures`, remembers what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = []
        self.feedback = []
        self.polls = 0
        self.temperatures = [0.1, 0.5, 1.0, 1.5, 2.0]
        self.texts = None
        self.plan = {"task": "question_answering", "source": "policy", "temperature": 0.31}
        self.refusal = None
        self.hold = threading.Event()
        self.hold.set()
        self.left = threading.Event()
        self.key = ""
        self.models_need_key = False
        self.changes = []
        self.overview = overview()


class Door(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Stay quiet."""

    def do_GET(self):
        if self.path == "/v1/models" and self.server.models_need_key and not self._key():
            self._json(401, {"error": {"message": "send a key"}})
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": "smollm2-135m-instruct"}]})
        elif self.path.startswith("/v1/feedback/"):
            self.server.polls += 1
            applied = self.server.polls > 1
            state = {"state": "applied", "applied_version": 8} if applied else {"state": "pending"}
            self._json(200, state)
        elif self.path == "/admin/overview":
            self._overview()
        else:
            pages = {"/": "index.html", "/operator": "operator.html"}
            self._file(pages.get(self.path, self.path.removeprefix("/page/")))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/admin/"):
            self._change(body)
        elif self.path == "/v1/feedback":
            self.server.feedback.append(body)
            self._json(202, {"id": body["id"], "state": "pending", "applied_version": None})
        elif self.server.refusal:
            status, message, param = self.server.refusal
            error = {"message": message, "type": "x", "param": param, "code": "x"}
            self._json(status, {"error": error}, {"Retry-After": "3"})
        else:
            self.server.asked.append(body)
            self._stream(body)

    def _key(self):
        return (self.headers["Authorization"] or "").removeprefix("Bearer ")

    def _overview(self):
        key = self._key()
        if not self.server.key or key == self.server.key:
            self._json(200, self.server.overview)
        elif key:
            self._json(403, {"error": {"message": "the key has no admin right"}})
        else:
            self._json(401, {"error": {"message": "send a key"}})

    def _change(self, body):
        self.server.changes.append((self.path, body))
        if self.server.refusal:
            status, message, param = self.server.refusal
            self._json(status, {"error": {"message": message, "param": param}})
            return
        if self.path == "/admin/modes":
            self.server.overview["modes"][body["route"]] = body["mode"]
        if self.path == "/admin/trial/start":
            started = {"candidate_version": body["version"], "stage": body["stage"]}
            self.server.overview["trial"] |= started | {"is_running": True}
        if self.path == "/admin/trial/stop":
            self.server.overview["trial"] |= {"stage": "stopped", "is_running": False}
        self._json(200, {"version": 8})

    def _stream(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(b": ping\n\n")
            for chunk in self._chunks(body):
                # Split inside an event, as networks do.
                data = f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
                self.wfile.write(data[:17])
                self.wfile.flush()
                self.wfile.write(data[17:])
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.left.set()

    def _chunks(self, body):
        server = self.server
        pinned = body.get("temperature")
        plan = {
            "decision_id": "dec-" + "0" * 32,
            "policy_version": 7,
            "program": {"kind": "fixed", "temperature": 0.31},
            "guard": {"top_n_sigma": 1.0},
            "token_budget": 128,
            "explored": pinned is None,
            "log_density": 0.4,
            "seed": 42,
            "policy_temperature": 0.31,
            **server.plan,
        }
        if pinned is not None:
            plan |= {"source": "pinned", "temperature": pinned}
        yield {"choices": [_choice("")], "thermesh": {"decision_id": "x", "plan": plan}}
        usual = [HOSTILE, *(f" tök{index}" for index in range(1, len(server.temperatures)))]
        texts = server.texts or usual
        for index, text in enumerate(texts):
            temperature = server.temperatures[index % len(server.temperatures)]
            token = {
                "index": index,
                "text": text,
                "temperature": temperature,
                "entropy": 0.82,
                "logprob": math.log(0.25),
                "revision": 0,
            }
            yield {"choices": [_choice(text)], "thermesh": {"tokens": [token]}}
            if index == 1:
                while not server.hold.wait(0.01):
                    yield {"choices": []}
        ended = {"finish_reason": "stop", "mean_temperature": 1.02}
        yield {"choices": [_choice("", "stop")], "thermesh": ended}
        yield {"choices": [], "usage": {"completion_tokens": len(texts)}}

    def _file(self, name):
        path = PAGE / name
        if not path.is_file():
            self._json(404, {"error": {"message": f"there is no {self.path}"}})
            return
        self._send(200, TYPES[path.suffix], path.read_bytes(), {"Content-Security-Policy": POLICY})

    def _json(self, status, value, headers=None):
        self._send(status, "application/json", json.dumps(value).encode(), headers or {})

    def _send(self, status, kind, content, headers):
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": len(content),
            **headers,
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)


def _choice(text, finish=None):
    delta = {"content": text} if finish is None else {}
    return {"index": 0, "delta": delta, "finish_reason": finish}


def overview():
    """An hour of a mesh: code cool but for one minute, writing warm, a canary on trial."""
    policies = [
        {
            "version": version,
            "object": "policy",
            "kind": "squashed_gaussian",
            "created_unix_ms": NOW_MS - (7 - version) * 240_000,
            "reason": reason,
            "parent_version": version - 1,
            "feedback_count": 40 * version,
            "live": version == 7,
        }
        for version, reason in ((7, "learned"), (6, "learned"), (5, "rolled_back"), (1, "prior"))
    ]
    return {
        "now_unix_ms": NOW_MS,
        "peers": {"feature": "serving", "controller": "serving", "inference": "serving"},
        "open_requests": 3,
        "streams": [
            {
                "request_id": "req-4f0c2a",
                "route": "/v1/chat/completions",
                "tenant": "acme",
                "task": "code",
                "source": "policy",
                "policy_version": 7,
                "token_count": 42,
                "temperature": 0.31,
                "seconds": 1.9,
            },
            {
                "request_id": HOSTILE,
                "route": "/v1/realtime",
                "tenant": "default",
                "task": "",
                "source": "",
                "policy_version": 0,
                "token_count": 0,
                "temperature": None,
                "seconds": 0.1,
            },
        ],
        "engine": {
            "running": 2,
            "waiting": 1,
            "kv_pages_used": 412,
            "kv_pages_total": 1024,
            "open_streams": 3,
            "step_time_us": 6420,
        },
        "policies": policies,
        "modes": {"*": "apply"},
        "trial": {
            "number": 3,
            "candidate_version": 6,
            "stage": "canary",
            "is_running": True,
            "share": 0.1,
            "promotes": False,
            "began_unix_ms": NOW_MS - 600_000,
            "live_count": 912,
            "candidate_count": 101,
            "live_value": 0.004,
            "candidate_value": 0.021,
            "candidate_lower": -0.01,
            "candidate_upper": 0.052,
            "agreement": 0.87,
            "is_better": False,
        },
        "feedback": [
            {
                "minute": NOW_MS // 60_000 - 3 * back,
                "praised": 2 + back % 4,
                "blamed": back % 3,
                "signals": {"explicit": 2 + back % 4, "regenerate": back % 3},
            }
            for back in range(18, -1, -1)
        ],
        "heat_map": {
            "minutes": 60,
            "bins": 20,
            "bin_width": 0.1,
            "rule": "A minute is flagged where its median is far from the others.",
            "cells": [*_cells("code", 3, 41), *_cells("generation", 9), *_cells("chat", 6)],
        },
    }


def _cells(task, middle, odd=None):
    """An hour of one task around a bin; the minute `odd` is hot."""
    cells = []
    for place in range(0, 60, 1 if task == "code" else 2):
        centre = 14 if place == odd else middle
        counts = [0] * 20
        for step, count in ((-1, place % 3), (0, 4), (1, 2 - place % 2)):
            counts[centre + step] = count
        minute = NOW_MS // 60_000 - 59 + place
        median = round(centre / 10 + 0.05, 2)
        cells.append(
            {"minute": minute, "task": task, "counts": counts, "median": median}
            | {"is_odd": place == odd}
        )
    return cells
