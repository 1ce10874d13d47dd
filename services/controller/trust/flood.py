"""How much feedback a tenant may send: the generic cell rate algorithm (ITU-T I.371).

Each piece of feedback takes 60 / rate seconds of a schedule that may run at most one
minute ahead. So a tenant may send one minute's worth at once and then one piece every
60 / rate seconds, and the time until the next is known exactly. One number is kept for
each tenant. `submit_feedback.lua` does the same in Redis; conformance tests hold the
two together.
"""

from __future__ import annotations

MICROSECONDS_A_MINUTE = 60_000_000


def taken(scheduled_us: int, now_us: int, per_minute: int) -> tuple[int, int]:
    """Return the schedule after one more piece, and the wait in microseconds.

    Where the wait is above 0 nothing was taken. `per_minute` is above 0.
    """
    each = MICROSECONDS_A_MINUTE // per_minute
    begins = max(scheduled_us, now_us)
    wait = begins + each - MICROSECONDS_A_MINUTE - now_us
    return (scheduled_us, wait) if wait > 0 else (begins + each, 0)
