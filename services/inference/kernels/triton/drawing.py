"""Tokens of a batch, drawn on the device where the kernel knows all that was asked.

Rows with a constraint, biases, penalties or candidates are drawn on the host by
the sampler that defines the meaning; they are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from services.inference.sampling.sampler import Drawn, Row, random_unit
from services.inference.sampling.sampler import sample as sample_on_host
from services.inference.sampling.settings import Dynatemp, Edt, Fixed, Guard, Program, Residual

Kernel = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def is_plain(row: Row) -> bool:
    """Tell whether the kernel can draw for `row`."""
    sampling = row.sampling
    is_untouched = sampling.penalties.are_off and not sampling.logit_bias
    return is_untouched and row.allowed is None and row.candidate_count == 0


def settings(row: Row) -> tuple[float, ...]:
    """Return the fields of `sampling.FIELDS` for a plain row."""
    unit = random_unit(row.seed, row.token_index)
    return (*_program(row.sampling.program), *_guard(row.sampling.guard), unit)


@dataclass(frozen=True)
class Pending:
    """A launched draw: where its tokens will be. `read` waits for them."""

    logits: torch.Tensor
    rows: Sequence[Row]
    tokens: torch.Tensor
    """[rows] int64 on the device."""
    on_host: torch.Tensor
    """[rows, 5] float64: token and `sampling.RESULTS`, once `done`."""
    done: torch.cuda.Event | None

    def read(self) -> list[Drawn | None]:
        """Wait, and return what was drawn; None where the logits are no distribution."""
        if self.done is not None:
            self.done.synchronize()
        return [self._drawn(index, row) for index, row in enumerate(self.rows)]

    def _drawn(self, index: int, row: Row) -> Drawn | None:
        if not is_plain(row):
            return sample_on_host([self.logits[index].cpu()], [row])[0]
        token, entropy, temperature, own, of_model = self.on_host[index].tolist()
        if not math.isfinite(entropy):
            return None
        # The host knows a fixed temperature better: float32 has no exact 0.7.
        program = row.sampling.program
        exact = program.temperature if isinstance(program, Fixed) else temperature
        return Drawn(int(token), exact, max(entropy, 0.0), own, of_model)


def launch(kernel: Kernel, logits: torch.Tensor, rows: Sequence[Row]) -> Pending:
    """Draw a token for each row of [rows, vocabulary] `logits`; do not wait."""
    wanted = [settings(row) if is_plain(row) else _GREEDY for row in rows]
    device = logits.device
    fields = torch.tensor(wanted, dtype=torch.float32)
    if device.type == "cuda":
        fields = fields.pin_memory().to(device, non_blocking=True)
    tokens, results = kernel(logits, fields)
    both = torch.cat((tokens[:, None].double(), results.double()), dim=1)
    if device.type != "cuda":
        return Pending(logits, rows, tokens, both, None)
    on_host = torch.empty(both.shape, dtype=both.dtype, pin_memory=True)
    on_host.copy_(both, non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    return Pending(logits, rows, tokens, on_host, done)


def _program(program: Program) -> tuple[float, float, float, float, float]:
    match program:
        case Fixed(temperature):
            return (1.0 if temperature else 0.0, temperature, 0.0, 0.0, 0.0)
        case Edt(base, theta):
            return (2.0, base, theta, 0.0, 0.0)
        case Dynatemp(middle, width, exponent):
            return (3.0, middle, width, exponent, 0.0)
        case Residual(temperature, slope, centre, width):
            return (4.0, temperature, width, slope, centre)


def _guard(guard: Guard) -> tuple[float, float, float, float]:
    below = -1.0 if guard.min_p is None else -math.log(guard.min_p)
    return (
        -1.0 if guard.top_n_sigma is None else guard.top_n_sigma,
        below,
        -1.0 if guard.top_p is None else guard.top_p,
        -1.0 if guard.top_k is None else float(guard.top_k),
    )


_GREEDY = (0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0, 0.0)
