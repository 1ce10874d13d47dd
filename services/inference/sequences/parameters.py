"""The parameters in effect for one request, and who may change them.

Every change has a revision and says from which token it holds. Updates carry
an id that must grow for each sender, so that a late one cannot undo a newer
one. A value the user set wins over the controller's.
"""

from __future__ import annotations

import dataclasses

from services.inference.events import Applied, Rejected
from services.inference.request import Plan, Request, Source, Update
from thermesh.errors import InvalidArgument


class Parameters:
    """What the next token of one request is drawn under.

    `sampling` and `seed` go to the sampler. `max_tokens` is the user's own
    maximum, 0: none. `dropped` counts updates that were stale or that a user's
    own value overruled.
    """

    def __init__(self, request: Request, vocabulary_size: int) -> None:
        self.sampling = request.sampling
        self.seed = request.seed
        self.revision = 0
        self.plan: Plan | None = None
        self.dropped = 0
        self.is_program_pinned = False
        self.max_tokens = request.max_tokens
        self._token_budget = 0
        self._vocabulary_size = vocabulary_size
        self._newest = {Source.CLIENT: 0, Source.CONTROLLER: 0}

    @property
    def token_budget(self) -> int:
        """Most tokens to decode; 0 is no limit but the context.

        The user's own maximum bounds the budget of plan and controller.
        """
        limits = [limit for limit in (self.max_tokens, self._token_budget) if limit]
        return min(limits, default=0)

    def apply_plan(self, plan: Plan, token_index: int) -> Applied | Rejected:
        """Follow `plan` from `token_index` on; a program the client set stays."""
        try:
            plan.validate("plan", self._vocabulary_size)
        except InvalidArgument as error:
            return Rejected(0, error.field, error.message)
        program = self.sampling.program if self.is_program_pinned else plan.sampling.program
        self.sampling = dataclasses.replace(plan.sampling, program=program)
        self.seed = plan.seed
        self.plan = plan
        self.is_program_pinned = self.is_program_pinned or plan.is_pinned
        self._token_budget = plan.token_budget
        return self._applied(Source.PLAN, 0, token_index)

    def apply(self, update: Update, token_index: int) -> Applied | Rejected | None:
        """Apply `update` from `token_index` on; None where it was dropped."""
        if update.update_id != 0 and update.update_id <= self._newest[update.source]:
            self.dropped += 1
            return None
        try:
            update.validate()
        except InvalidArgument as error:
            return Rejected(update.update_id, error.field, error.message)
        self._newest[update.source] = update.update_id
        permitted = self._permitted(update)
        if permitted is None:
            self.dropped += 1
            return None
        self._change(permitted)
        return self._applied(update.source, update.update_id, token_index)

    def _permitted(self, update: Update) -> Update | None:
        """Return what `update` may change: the controller has no say over a
        program that the user chose.
        """
        if update.source is Source.CLIENT or not self.is_program_pinned:
            return update
        permitted = dataclasses.replace(update, program=None)
        rest = (permitted.guard, permitted.penalties, permitted.token_budget)
        return None if all(member is None for member in rest) else permitted

    def _change(self, update: Update) -> None:
        sampling = self.sampling
        self.sampling = dataclasses.replace(
            sampling,
            program=sampling.program if update.program is None else update.program,
            guard=sampling.guard if update.guard is None else update.guard,
            penalties=sampling.penalties if update.penalties is None else update.penalties,
        )
        if update.source is Source.CLIENT and update.program is not None:
            self.is_program_pinned = True
        if update.token_budget is not None:
            self._change_budget(update.source, update.token_budget)

    def _change_budget(self, source: Source, token_budget: int) -> None:
        if source is Source.CLIENT:
            # The user's newer word on the same matter.
            self.max_tokens, self._token_budget = token_budget, 0
        else:
            self._token_budget = token_budget

    def _applied(self, source: Source, update_id: int, token_index: int) -> Applied:
        self.revision += 1
        return Applied(self.revision, token_index, source, update_id, self.sampling)
