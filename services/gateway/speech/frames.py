"""Frames on the pipes between the gateway and a speech process.

    u32 length of what follows | u8 kind | payload

big-endian. Kind 0 is a JSON object with a member `type`; kind 1 is audio: u32
number of the clause it belongs to (0 for what the user says), then samples.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

HEADER = struct.Struct(">IB")
JSON, AUDIO = 0, 1
MAX_BYTES = 16 * 1024 * 1024

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Audio:
    """Encoded samples of clause `clause`."""

    clause: int
    samples: bytes


def packed(frame: Json | Audio) -> bytes:
    """Return the bytes of a frame."""
    if isinstance(frame, Audio):
        kind, payload = AUDIO, struct.pack(">I", frame.clause) + frame.samples
    else:
        kind, payload = JSON, json.dumps(frame, separators=(",", ":")).encode()
    return HEADER.pack(len(payload), kind) + payload


def unpacked(kind: int, payload: bytes) -> Json | Audio:
    """Return the frame of a payload; raise ValueError where it is none."""
    if kind == AUDIO:
        return Audio(int.from_bytes(payload[:4], "big"), payload[4:])
    frame = json.loads(payload)
    if kind != JSON or not isinstance(frame, dict):
        raise ValueError("not a frame")
    return frame
