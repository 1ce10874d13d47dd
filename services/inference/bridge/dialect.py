"""What servers understand: their fields, and what remains of a sampling that they cannot do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.inference.request import Start
from services.inference.sampling.constraint import Kind, OutputConstraint
from services.inference.sampling.settings import Dynatemp, Edt, Fixed, Guard, Program, Sampling
from thermesh.errors import InvalidArgument


@dataclass(frozen=True)
class Dialect:
    """One kind of server.

    `guards` maps members of a guard, and `repetition` the repetition penalty, to
    the server's names for them, `constraints` the languages that it holds an
    output to; what is missing it cannot do.
    """

    name: str
    guards: Mapping[str, str]
    repetition: str = ""
    has_dynatemp: bool = False
    constraints: tuple[Kind, ...] = (Kind.JSON_OBJECT, Kind.JSON_SCHEMA)

    def check_constraint(self, constraint: OutputConstraint) -> None:
        """Raise InvalidArgument for a language that this server has no words for."""
        if constraint.kind not in self.constraints:
            field = f"start.constraint.{constraint.kind}"
            known = ", ".join(self.constraints)
            message = f"{field}: the engine behind this mesh takes only {known}"
            raise InvalidArgument(message, field=field)

    def usable(self, sampling: Sampling) -> Sampling:
        """Return what of `sampling` this server can do.

        A program that it does not know becomes its own middle, held fixed.
        """
        members = {name: getattr(sampling.guard, name) for name in self.guards}
        penalties = sampling.penalties
        if not self.repetition:
            penalties = replace(penalties, repetition=1.0)
        return replace(
            sampling,
            program=self._usable_program(sampling.program),
            guard=Guard(**members),
            penalties=penalties,
        )

    def sampling_fields(self, sampling: Sampling) -> dict[str, Any]:
        """Return the request's fields for a sampling that is `usable`."""
        fields: dict[str, Any] = {"temperature": middle(sampling.program)}
        if isinstance(sampling.program, Dynatemp):
            fields["dynatemp_range"] = sampling.program.range
            fields["dynatemp_exponent"] = sampling.program.exponent
        for member, field in self.guards.items():
            value = getattr(sampling.guard, member)
            if value is not None:
                fields[field] = value
        penalties = sampling.penalties
        if self.repetition and penalties.repetition != 1.0:
            fields[self.repetition] = penalties.repetition
        if penalties.presence:
            fields["presence_penalty"] = penalties.presence
        if penalties.frequency:
            fields["frequency_penalty"] = penalties.frequency
        if sampling.logit_bias:
            fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
        return fields

    def _usable_program(self, program: Program) -> Program:
        if isinstance(program, Dynatemp) and self.has_dynatemp:
            return program
        return Fixed(middle(program))


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("openai", {"top_p": "top_p"}),
        # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
        Dialect(
            "vllm",
            {"top_p": "top_p", "top_k": "top_k", "min_p": "min_p"},
            repetition="repetition_penalty",
        ),
        # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
        Dialect(
            "llama.cpp",
            {"top_p": "top_p", "top_k": "top_k", "min_p": "min_p", "top_n_sigma": "top_n_sigma"},
            repetition="repeat_penalty",
            has_dynatemp=True,
        ),
    )
}
"""The servers we know, by name."""


def middle(program: Program) -> float:
    """Return the one temperature that stands for a program."""
    if isinstance(program, Edt):
        return program.base_temperature
    return program.temperature


def path_and_input(start: Start) -> tuple[str, dict[str, Any]]:
    """Return the endpoint below the base URL, and the fields that carry the prompt."""
    if start.chat is not None:
        turns = [{"role": turn.role, "content": turn.content} for turn in start.chat]
        return "chat/completions", {"messages": turns}
    if start.token_ids is not None:
        return "completions", {"prompt": list(start.token_ids)}
    return "completions", {"prompt": start.prompt or ""}


def candidate_fields(path: str, count: int) -> dict[str, Any]:
    """Return what asks for the most probable tokens; the two endpoints spell it differently."""
    if not count:
        return {}
    if path == "chat/completions":
        return {"logprobs": True, "top_logprobs": count}
    return {"logprobs": count}


def constraint_fields(constraint: OutputConstraint | None) -> dict[str, Any]:
    """Return the field for JSON, the only language that OpenAI's interface has words for."""
    if constraint is None:
        return {}
    if constraint.kind is Kind.JSON_OBJECT:
        return {"response_format": {"type": "json_object"}}
    schema = {"name": "output", "schema": json.loads(constraint.text), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
