"""Where the time of one spoken turn went; told in `response.done` and as metrics."""

from __future__ import annotations

from dataclasses import dataclass

STAGES = ("silence", "recognition", "first_token", "first_clause", "synthesis", "response")


@dataclass
class Latency:
    """Moments in monotonic seconds, durations in milliseconds; None: did not happen."""

    opened: float
    turn_ended: float | None = None
    first_token: float | None = None
    first_clause: float | None = None
    first_audio: float | None = None
    silence_ms: float | None = None
    recognition_ms: float | None = None
    synthesis_ms: float | None = None

    def stages(self) -> dict[str, float]:
        """Return the milliseconds of each stage that happened.

        `silence` was waited for to know that the turn is over; `recognition` is
        from the last sound to the words; `first_token` from opening the request
        to its first token, `first_clause` from there to the first clause to
        speak, `synthesis` from there to its first samples. `headstart` is how
        long before the turn's end the answer was begun; `response` is from the
        turn's end, or from asking for the answer, to the first audio sent.
        """
        began = self.opened if self.turn_ended is None else self.turn_ended
        told = {
            "silence": self.silence_ms,
            "recognition": self.recognition_ms,
            "first_token": _between(self.opened, self.first_token),
            "first_clause": _between(self.first_token, self.first_clause),
            "synthesis": self.synthesis_ms,
            "headstart": None if self.turn_ended is None else max(0.0, began - self.opened) * 1000,
            "response": _between(began, self.first_audio),
        }
        return {name: round(value, 3) for name, value in told.items() if value is not None}


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 1000
