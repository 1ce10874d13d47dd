"""What an engine can do, on the wire."""

from __future__ import annotations

from services.inference.capabilities import Capabilities
from thermesh.v1 import common_pb2


def capabilities(value: Capabilities) -> common_pb2.Capabilities:
    """Write what an engine can do."""
    return common_pb2.Capabilities(
        programs=[f"PROGRAM_KIND_{name.upper()}" for name in value.programs],
        guards=[f"GUARD_MEMBER_{name.upper()}" for name in value.guards],
        compute_paths=[f"COMPUTE_PATH_{name.upper()}" for name in value.paths],
        can_update=value.can_update,
        tells_entropy=value.tells_entropy,
    )
