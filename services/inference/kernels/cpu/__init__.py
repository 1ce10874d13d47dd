"""Whole steps of a network in C++, one call each; `docs/architecture/kernels-cpu.md`.

`csrc/` is the library, `build` compiles it, `native` is its interface in
Python, `network` what the engine sees. It is reached through the door,
`services.inference.kernels`; only `status` is for others, `thermesh doctor`
among them.
"""

from __future__ import annotations

from services.inference.kernels.cpu.native import Status, status

__all__ = ["Status", "status"]
