"""What an engine can do, on the wire."""

from __future__ import annotations

from services.controller.capabilities import GUARDS, PATHS, PROGRAMS, USUAL, Capabilities
from thermesh.v1 import common_pb2, controller_pb2

_PROGRAMS = {
    common_pb2.ProgramKind.Value(f"PROGRAM_KIND_{name.upper()}"): name for name in PROGRAMS
}
_GUARDS = {common_pb2.GuardMember.Value(f"GUARD_MEMBER_{name.upper()}"): name for name in GUARDS}
_PATHS = {common_pb2.ComputePath.Value(f"COMPUTE_PATH_{name.upper()}"): name for name in PATHS}


def capabilities(request: controller_pb2.DecideRequest) -> Capabilities:
    """Read what decodes; members that this contract does not know are left out."""
    if not request.HasField("capabilities"):
        return USUAL
    told = request.capabilities
    return Capabilities(
        programs=tuple(_PROGRAMS[each] for each in told.programs if each in _PROGRAMS),
        guards=tuple(_GUARDS[each] for each in told.guards if each in _GUARDS),
        paths=tuple(_PATHS[each] for each in told.compute_paths if each in _PATHS),
    )
