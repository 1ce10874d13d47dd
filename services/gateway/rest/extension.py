"""The `thermesh` extension of answers: decision, plan, telemetry and usage as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from services.gateway import planning
from services.gateway.asking import Ask
from services.gateway.decoding import (
    DynatempProgram,
    EdtProgram,
    FixedProgram,
    Guard,
    Plan,
    Program,
    ResidualProgram,
    Sampling,
)
from services.gateway.events import Applied, Ended, Token, Usage

Json = dict[str, Any]

_PROGRAM_KINDS = {
    FixedProgram: "fixed",
    EdtProgram: "edt",
    DynatempProgram: "dynatemp",
    ResidualProgram: "residual",
}


def decision(ask: Ask, plan: Plan | None) -> Json:
    """Return what the first chunk and every whole answer carry."""
    return {
        "request_id": ask.context.request_id,
        "decision_id": plan.decision_id if plan else "",
        "policy_version": plan.policy_version if plan else 0,
        "plan": plan_json(ask, plan) if plan else None,
    }


def plan_json(ask: Ask, plan: Plan) -> Json:
    """Return a plan; members as in DecodingPlan."""
    return {
        "decision_id": plan.decision_id,
        "policy_version": plan.policy_version,
        "source": plan.source.value,
        "temperature": plan.temperature,
        "program": program(plan.sampling.program),
        "guard": guard(plan.sampling.guard),
        "token_budget": plan.token_budget,
        "compute_path": plan.compute_path.value,
        "task": plan.task or None,
        "scenario": plan.scenario or None,
        "seed": plan.seed,
        "explored": plan.explored,
        "log_density": plan.log_density,
        "policy_temperature": plan.policy_temperature,
        "mode": planning.mode_of(ask.constraints, plan) or None,
        "forecast": asdict(plan.forecast) if plan.forecast else None,
    }


def program(value: Program) -> Json:
    """Return a temperature program in the form that requests use too."""
    members = {name: getattr(value, name) for name in value.__slots__}
    return {"kind": _PROGRAM_KINDS[type(value)], **members}


def guard(value: Guard) -> Json:
    """Return the members that are set."""
    members = {name: getattr(value, name) for name in value.__slots__}
    return {name: member for name, member in members.items() if member is not None}


def token(value: Token) -> Json:
    """Return one token's telemetry; `logprob` is that of the distribution it was drawn from."""
    return {
        "index": value.index,
        "text": value.text,
        "temperature": shortened(value.temperature),
        "entropy": shortened(value.entropy),
        "logprob": shortened(value.log_probability),
        "revision": value.revision,
        "step_time_us": value.step_time_us,
    }


def applied(value: Applied) -> Json:
    """Return an acknowledged change of parameters."""
    return {
        "revision": value.revision,
        "token_index": value.token_index,
        "source": value.source.value if value.source else None,
        "update_id": value.update_id,
        **(_sampling(value.sampling) if value.sampling else {}),
    }


def ended(value: Ended) -> Json:
    """Return how decoding ended and where the time went."""
    return {
        "finish_reason": value.finish_reason.value,
        "mean_temperature": value.mean_temperature,
        "mean_entropy": value.mean_entropy,
        "queue_time_us": value.usage.queue_time_us,
        "prefill_time_us": value.usage.prefill_time_us,
        "decode_time_us": value.usage.decode_time_us,
    }


def usage(value: Usage) -> Json:
    """Return OpenAI's usage."""
    return {
        "prompt_tokens": value.prompt_tokens,
        "completion_tokens": value.completion_tokens,
        "total_tokens": value.prompt_tokens + value.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": value.cached_prompt_tokens},
    }


def shortened(value: float) -> float:
    """Return a float32 with the seven digits it has, not the seventeen of its double."""
    return float(f"{value:.7g}")


def _sampling(value: Sampling) -> Json:
    return {"program": program(value.program), "guard": guard(value.guard)}
