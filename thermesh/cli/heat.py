"""The colour of a temperature in a terminal: blue is cold, red is hot."""

from __future__ import annotations

import colorsys

HOTTEST = 2.0
COLD_HUE = 0.62
"""Hue of temperature 0, as a fraction of the circle; HOTTEST has hue 0, red."""


def rgb(temperature: float) -> tuple[int, int, int]:
    """Return the colour of `temperature` (clamped to [0, 2]) as three bytes."""
    share = min(1.0, max(0.0, temperature / HOTTEST))
    parts = colorsys.hsv_to_rgb(COLD_HUE * (1.0 - share), 0.65, 0.95)
    red, green, blue = (round(255 * part) for part in parts)
    return red, green, blue


def coloured(text: str, temperature: float, depth: int) -> str:
    """Return `text` in the colour of `temperature`, for a terminal of `depth` bits (24, 8, 0)."""
    if not depth or not text:
        return text
    red, green, blue = rgb(temperature)
    if depth == 24:
        return f"\x1b[38;2;{red};{green};{blue}m{text}\x1b[0m"
    return f"\x1b[38;5;{cube(red, green, blue)}m{text}\x1b[0m"


def cube(red: int, green: int, blue: int) -> int:
    """Return the nearest index of the 6 x 6 x 6 cube of the 256-colour palette (xterm)."""
    levels = [round(part / 255 * 5) for part in (red, green, blue)]
    return 16 + 36 * levels[0] + 6 * levels[1] + levels[2]
