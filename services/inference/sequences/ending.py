"""Whether a generation ends with the token that was just drawn, and why."""

from __future__ import annotations

from services.inference.events import FinishReason
from services.inference.request import Request
from services.inference.sequences.parameters import Parameters


def finish_reason(
    request: Request,
    parameters: Parameters,
    output_count: int,
    token_limit: int,
    is_end: bool,
) -> FinishReason | None:
    """Return why the output of `output_count` tokens ends here; None: it goes on.

    `is_end` tells that the newest token ends a turn; `token_limit` is what the
    context leaves.
    """
    if _is_said(request, is_end):
        return FinishReason.STOP
    limit = min(parameters.max_tokens or token_limit, token_limit)
    if output_count >= limit or _is_budget_spent(request, parameters, output_count):
        return FinishReason.LENGTH
    return None


def _is_said(request: Request, is_end: bool) -> bool:
    if request.constraint is not None:
        return is_end or request.constraint.is_over
    return is_end and not request.ignore_end_of_sequence


def _is_budget_spent(request: Request, parameters: Parameters, output_count: int) -> bool:
    """Tell whether the policy's budget ends the output: half a JSON object is
    of no use to anyone, so under a constraint only where it is complete.
    """
    budget = parameters.token_budget
    if not budget or output_count < budget:
        return False
    return request.constraint is None or request.constraint.is_complete
