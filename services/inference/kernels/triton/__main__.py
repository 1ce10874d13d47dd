"""`python -m services.inference.kernels.triton`: what the GPU path finds here, as JSON."""

from __future__ import annotations

import dataclasses
import json

from services.inference.kernels.triton.device import status

if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(status())))  # noqa: T201  # asked for by `thermesh doctor`
