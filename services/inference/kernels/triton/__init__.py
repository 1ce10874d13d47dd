"""The kernels for NVIDIA, in Triton, and the network that runs on them.

`reference` says what each operation means, in plain torch; `linear`, `scaled`,
`rope`, `attention`, `selection` and `sampling` are the fast paths, each compared
with its reference on the same cases: in Triton's interpreter, which needs no
GPU, and on the device by `make gpu-check`.

Importing this package imports no Triton. `status` tells whether the fast paths
can run and why not; nothing else may import them before it said yes.
"""

from __future__ import annotations

from services.inference.kernels.triton.device import Status, status

__all__ = ["Status", "status"]
