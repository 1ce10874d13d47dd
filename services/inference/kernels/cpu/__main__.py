"""`python -m services.inference.kernels.cpu`: whether the C++ kernels are here, as JSON."""

from __future__ import annotations

import dataclasses
import json

from services.inference.kernels.cpu.native import status

if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(status())))  # noqa: T201  # asked for by `thermesh doctor`
