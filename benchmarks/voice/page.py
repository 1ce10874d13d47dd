"""The page of the figures, made from a result."""

from __future__ import annotations

from typing import Any

from benchmarks.spread import summary


def table(result: dict[str, Any]) -> str:
    """Return the page made from a result."""
    where = result["machine"]
    lines = [
        "# Benchmarks: voice",
        "",
        (
            "Made by `python -m benchmarks.voice --publish` from the samples in"
            f" `benchmarks/results/{result['file']}`{_other(result)}. Questions are spoken by"
            " espeak-ng in real time, heard by silero-vad and pocketsphinx, answered by the"
            " default model, spoken by espeak-ng; everything on one machine. Milliseconds, but for"
            " tokens."
        ),
        "",
        (
            f"{where['processor']}, {where['cores']} cores; commit `{where['commit']}`;"
            f" load {where['load_average']}."
        ),
        "",
        "| held to | bar | found | met |",
        "| --- | --- | --- | :---: |",
        *_verdicts(result["samples"]),
        "",
        "| way | figure | median | quartiles | p95 | samples |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way, figures in result["samples"].items():
        for figure, values in figures.items():
            one = summary(values)
            spread = f"{one.low:.1f} to {one.high:.1f}"
            lines.append(
                f"| {way} | {figure} | {one.median:.1f} | {spread} | {one.p95:.1f} | {one.count} |"
            )
    return "\n".join([*lines, "", _NOTES])


_NOTES = """`silence` is what the server waits for to know that a turn is over (the API's
`silence_duration_ms`, 500 by default); `recognition` is the words' last pass, done in the first
192 ms of it. `first_token` is from opening the request (features, decision, prefill),
`first_clause` from there to the first clause to speak, `synthesis` from there to its first
samples. `headstart` is how long before the turn's end the answer was begun. Each barge-in ends a
long answer by speech, 0.3 s after it began. `deltas told after barge-in` are words or sound
that came after the server heard it; `tokens thrown away` were decoded by then and neither
sent nor billed; `billed, not heard` were told as text, and decoded ahead of speech. The two
ways of barge-in take turns: with the usual credit, and with none.
"""


def _verdicts(samples: dict[str, dict[str, list[float]]]) -> list[str]:
    audio = summary(samples["begun at the end"]["turn's end to first audio"])
    waste = samples["barge-in"]["tokens thrown away"]
    told = samples["barge-in"]["deltas told after barge-in"]
    rows = (
        (
            "end of utterance to first audio, the answer begun then",
            "<= 150 ms",
            f"{audio.median:.0f} ms (p95 {audio.p95:.0f})",
            audio.median <= 150,
        ),
        (
            "barge-in to the last token decoded, on the usual credit",
            "<= 1 step",
            f"at most {max(waste):.0f} tokens, {max(told):.0f} of them told",
            max(waste) <= 1 and not any(told),
        ),
    )
    return [
        f"| {title} | {bar} | {found} | {'yes' if met else '**no**'} |"
        for title, bar, found, met in rows
    ]


def _other(result: dict[str, Any]) -> str:
    other = result.get("questions_of")
    return f" (barge-in) and `benchmarks/results/{other}` (questions)" if other else ""
