"""The numbered events of a response, as they happen or once more from what was kept.

A stream that is told again has the same events under the same numbers, because
both are made here, of the same pieces of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from services.gateway.kept import Kept
from services.gateway.rest.response_output import Output, Told

Json = dict[str, Any]

_AT_THE_END = ("finish_reason", "mean_temperature", "mean_entropy", "tokens")
_TIMES = ("queue_time_us", "prefill_time_us", "decode_time_us")


class ResponseEvents:
    """Tells of one response; `may_call`: its text may be calls of functions."""

    def __init__(self, name: str, *, may_call: bool) -> None:
        self._output = Output(name, may_call=may_call)
        self._sent = 0

    def opening(self, begun: Json) -> list[Json]:
        """Return the first events, of a response that is in progress."""
        kinds = ("response.created", "response.in_progress")
        return self._numbered((kind, {"response": begun}) for kind in kinds)

    def pieces(self, text: str, logprobs: list[Json], telemetry: Json | None = None) -> list[Json]:
        """Return the events of more text; the first carries its telemetry, if there is any."""
        events = self._numbered(self._output.read(text, logprobs))
        if events and telemetry:
            events[0]["thermesh"] = telemetry
        return events

    def closing(self, status: str) -> list[Json]:
        """Return the events that end every item."""
        return self._numbered(self._output.close(status))

    def last(self, ended: Json) -> list[Json]:
        """Return the event of the response as it ended."""
        return self._numbered([(f"response.{ended['status']}", {"response": ended})])

    def failure(self, error: Json) -> list[Json]:
        """Return the event of an error; official clients raise it."""
        return self._numbered([("error", {**error["error"], **error})])

    def items(self, status: str) -> list[Json]:
        """Return the output items as they are now."""
        return self._output.items(status)

    def _numbered(self, told: Iterable[Told]) -> list[Json]:
        events = []
        for kind, members in told:
            events.append({**members, "type": kind, "sequence_number": self._sent})
            self._sent += 1
        return events


def again(kept: Kept) -> Iterator[Json]:
    """Tell a kept response once more; telemetry of single tokens is not kept."""
    ended = kept.response
    may_call = bool(ended["tools"]) and ended["tool_choice"] != "none"
    events = ResponseEvents(ended["id"].removeprefix("resp_"), may_call=may_call)
    logprobs = [each for item in ended["output"] for each in _logprobs(item)]
    yield from events.opening(_as_begun(ended))
    for text, count in kept.pieces:
        yield from events.pieces(text, logprobs[:count])
        logprobs = logprobs[count:]
    yield from events.closing(ended["status"])
    yield from events.last(ended)


def _as_begun(ended: Json) -> Json:
    left_out = {*_AT_THE_END, *_TIMES}
    decided = {name: each for name, each in ended["thermesh"].items() if name not in left_out}
    begun: Json = {"status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    return {**ended, **begun, "thermesh": decided}


def _logprobs(item: Json) -> list[Json]:
    return [each for part in item.get("content", ()) for each in part["logprobs"]]
