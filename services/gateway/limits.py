"""What a request may contain: the ranges of the contract and the check of an ask.

REST takes the ranges into its schema; a native gRPC request is checked by
`check_ask` before anything is opened for it, so that bad input costs the mesh
nothing and is named by the field the client wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.gateway.asking import Ask, Chat, Context, Prompt, Voice
from services.gateway.decoding import (
    Constraints,
    DynatempProgram,
    EdtProgram,
    FixedProgram,
    Guard,
    Penalties,
    Program,
    ResidualProgram,
    Update,
)
from services.gateway.feedback import Feedback
from thermesh.errors import InvalidArgument


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `above` leaves out `low` itself. NaN is in no range."""

    low: float
    high: float
    above: bool = False

    def admits(self, value: float) -> bool:
        """Tell whether `value` lies in the range."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.above:
            return f"above {self.low:g} and at most {self.high:g}"
        return f"from {self.low:.10g} to {self.high:.10g}"


TEMPERATURE = Range(0.1, 2.0)
DYNATEMP_RANGE = RESIDUAL_RANGE = Range(0.0, 2.0)
RESIDUAL_SLOPE = Range(-10.0, 10.0)
RESIDUAL_CENTRE = Range(0.0, 20.0)
THETA = EXPONENT = TOP_N_SIGMA = REPETITION = Range(0.0, 10.0, above=True)
MIN_P = TOP_P = Range(0.0, 1.0, above=True)
TOP_K = Range(1, 1_000_000)
PRESENCE = FREQUENCY = Range(-2.0, 2.0)
LOGIT_BIAS = Range(-100.0, 100.0)
CONFIDENCE = Range(0.0, 1.0)
SCORE = Range(-1.0, 1.0)
CANDIDATES = Range(0, 20)
ANSWERS = Range(1, 8)
MAX_CHOICES = 32
CREDIT = Range(1, 65_536)
MAX_TOKENS = Range(1, 1_000_000)
SEED = Range(0, 2**64 - 1)

MAX_LOGIT_BIASES = 1024
MAX_STOPS = 16
MAX_STOP_BYTES = 256
MAX_MESSAGES = 1024
MAX_TEXT_BYTES = 1024 * 1024
MAX_COMMENT_CHARACTERS = 4096
NAME_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
NAME_RULE = "1 to 64 characters of A-Z a-z 0-9 . _ -"
# Those that the contract names, and the tasks for which the controller has an
# envelope of its own: what a plan may show can also be asked for.
SCENARIOS = (
    *("dialogue", "translation", "recommendation", "classification", "code"),
    *("recommendation_new_user", "recommendation_valued_user"),
    *("question_answering", "arithmetic", "generation"),
)
TEMPERATURE_RULE = "must be 0 (greedy) or a number from 0.1 to 2.0"


def is_name(text: str) -> bool:
    """Tell whether `text` may name a request, session, tenant or feedback."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def is_temperature(value: float) -> bool:
    """Tell whether `value` may be a temperature: greedy or within the wire's range."""
    return value == 0 or TEMPERATURE.admits(value)


def check_ask(ask: Ask) -> None:
    """Raise InvalidArgument naming the field, where the ask is not allowed."""
    check_context(ask.context)
    _check_input(ask)
    check_constraints(ask.constraints)
    _check_stop(ask.stop)
    _within("candidate_count", ask.candidate_count, CANDIDATES)
    if ask.voice:
        check_voice(ask.voice)


def check_context(context: Context) -> None:
    """Raise InvalidArgument where a name has characters it may not have."""
    for field in ("request_id", "session_id", "tenant"):
        value = getattr(context, field)
        if value and not is_name(value):
            raise InvalidArgument(f"{field} must be {NAME_RULE}", field=f"context.{field}")
    if context.deadline_unix_ms < 0:
        raise InvalidArgument(
            "deadline_unix_ms must be 0 (none) or milliseconds since 1970",
            field="context.deadline_unix_ms",
        )


def check_voice(voice: Voice) -> None:
    """Raise InvalidArgument where the confidence is no probability."""
    _within("voice.recognition_confidence", voice.recognition_confidence, CONFIDENCE)


def check_constraints(constraints: Constraints, path: str = "constraints") -> None:
    """Raise InvalidArgument where one of the user's own values is out of range."""
    if constraints.temperature is not None:
        _temperature(f"{path}.temperature", constraints.temperature)
        if constraints.program is not None:
            raise InvalidArgument(
                "program and temperature exclude each other; set one",
                field=f"{path}.program",
            )
    if constraints.program is not None:
        check_program(constraints.program, f"{path}.program")
    check_guard(constraints.guard, f"{path}.guard")
    check_penalties(constraints.penalties, f"{path}.penalties")
    _check_logit_bias(constraints.logit_bias, f"{path}.logit_bias")
    _check_envelope(constraints, path)


def check_program(program: Program, path: str) -> None:
    """Raise InvalidArgument where a member of a temperature program is out of range."""
    if isinstance(program, FixedProgram):
        _temperature(f"{path}.fixed.temperature", program.temperature)
    elif isinstance(program, EdtProgram):
        _within(f"{path}.edt.base_temperature", program.base_temperature, TEMPERATURE)
        _within(f"{path}.edt.theta", program.theta, THETA)
    elif isinstance(program, DynatempProgram):
        _within(f"{path}.dynatemp.temperature", program.temperature, TEMPERATURE)
        _within(f"{path}.dynatemp.range", program.range, DYNATEMP_RANGE)
        _within(f"{path}.dynatemp.exponent", program.exponent, EXPONENT)
    elif isinstance(program, ResidualProgram):
        _within(f"{path}.residual.temperature", program.temperature, TEMPERATURE)
        _within(f"{path}.residual.slope", program.slope, RESIDUAL_SLOPE)
        _within(f"{path}.residual.centre", program.centre, RESIDUAL_CENTRE)
        _within(f"{path}.residual.range", program.range, RESIDUAL_RANGE)


def check_guard(guard: Guard, path: str) -> None:
    """Raise InvalidArgument where a member of a guard is out of range."""
    ranges = {"top_n_sigma": TOP_N_SIGMA, "min_p": MIN_P, "top_p": TOP_P, "top_k": TOP_K}
    for name, allowed in ranges.items():
        value = getattr(guard, name)
        if value is not None:
            _within(f"{path}.{name}", value, allowed)


def check_penalties(penalties: Penalties, path: str) -> None:
    """Raise InvalidArgument where a penalty is out of range."""
    _within(f"{path}.repetition", penalties.repetition, REPETITION)
    _within(f"{path}.presence", penalties.presence, PRESENCE)
    _within(f"{path}.frequency", penalties.frequency, FREQUENCY)


def _check_logit_bias(logit_bias: Mapping[int, float], path: str) -> None:
    if len(logit_bias) > MAX_LOGIT_BIASES:
        raise InvalidArgument(f"logit_bias has at most {MAX_LOGIT_BIASES} entries", field=path)
    for token_id, bias in logit_bias.items():
        _within(f"{path}[{token_id}]", bias, LOGIT_BIAS)


def _check_envelope(constraints: Constraints, path: str) -> None:
    if constraints.scenario and constraints.scenario not in SCENARIOS:
        raise InvalidArgument(
            "scenario must be one of " + ", ".join(SCENARIOS),
            field=f"{path}.scenario",
        )
    narrowed = constraints.temperature_range
    if narrowed is None:
        return
    _within(f"{path}.temperature_range.minimum", narrowed.minimum, TEMPERATURE)
    _within(f"{path}.temperature_range.maximum", narrowed.maximum, TEMPERATURE)
    if narrowed.minimum > narrowed.maximum:
        raise InvalidArgument(
            "temperature_range.maximum must not be below minimum",
            field=f"{path}.temperature_range.maximum",
        )


def check_update(update: Update) -> None:
    """Raise InvalidArgument naming the field, where a running request may not be so changed."""
    if update.program is not None:
        check_program(update.program, "program")
    if update.guard is not None:
        check_guard(update.guard, "guard")
    if update.penalties is not None:
        check_penalties(update.penalties, "penalties")


def check_credit(tokens: int) -> None:
    """Raise InvalidArgument where a credit is not between 1 and 65,536 tokens."""
    _within("credit.tokens", tokens, CREDIT)


def check_feedback(feedback: Feedback) -> None:
    """Raise InvalidArgument naming the field, where feedback is not allowed."""
    check_feedback_id(feedback.feedback_id)
    if not is_name(feedback.tenant):
        raise InvalidArgument(f"tenant must be {NAME_RULE}", field="context.tenant")
    if not feedback.decision_id:
        raise InvalidArgument(
            "decision_id must be that of the answer, from its plan", field="decision_id"
        )
    _within("score", feedback.score, SCORE)
    if len(feedback.comment) > MAX_COMMENT_CHARACTERS:
        raise InvalidArgument(
            f"comment has at most {MAX_COMMENT_CHARACTERS} characters", field="comment"
        )


def check_feedback_id(feedback_id: str) -> None:
    """Raise InvalidArgument where the idempotency key is no name."""
    if not is_name(feedback_id):
        raise InvalidArgument(f"feedback_id must be {NAME_RULE}", field="feedback_id")


def _check_input(ask: Ask) -> None:
    if isinstance(ask.input, Chat):
        texts = [(f"messages[{i}].content", m.content) for i, m in enumerate(ask.input.messages)]
        if not 1 <= len(texts) <= MAX_MESSAGES:
            raise InvalidArgument(
                f"messages must have 1 to {MAX_MESSAGES} members", field="messages"
            )
    elif isinstance(ask.input, Prompt):
        texts = [("prompt", ask.input.text)]
    else:
        return
    _check_texts(texts)


def _check_texts(texts: list[tuple[str, str]]) -> None:
    if not texts[-1][1]:
        raise InvalidArgument(f"{texts[-1][0]} must not be empty", field=texts[-1][0])
    size = 0
    for path, text in texts:
        size += len(text.encode())
        if size > MAX_TEXT_BYTES:
            raise InvalidArgument(f"the text must be at most {MAX_TEXT_BYTES} bytes", field=path)


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > MAX_STOPS:
        raise InvalidArgument(f"stop has at most {MAX_STOPS} members", field="stop")
    for index, text in enumerate(stop):
        if not 1 <= len(text.encode()) <= MAX_STOP_BYTES:
            raise InvalidArgument(
                f"a stop string has 1 to {MAX_STOP_BYTES} bytes",
                field=f"stop[{index}]",
            )


def _temperature(path: str, value: float) -> None:
    if not is_temperature(value):
        raise InvalidArgument(f"{path} {TEMPERATURE_RULE}", field=path)


def _within(path: str, value: float, allowed: Range) -> None:
    if not allowed.admits(value):
        raise InvalidArgument(f"{path} must be {allowed}", field=path)
