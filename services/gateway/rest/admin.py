"""The operator's routes: one overview of this gateway and its neighbours, and what may be changed.

Where keys are asked for, a key needs the admin right (`middleware.Keys`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import Field

from services.gateway.decoding import Mode
from services.gateway.observability import heatmap
from services.gateway.observability.operating import Stage, TrialStart
from services.gateway.rest import admin_documents as shown
from services.gateway.rest import documents
from services.gateway.rest.bodies import Body
from services.gateway.rest.doors import Doors
from services.gateway.rest.operations import policy_document
from thermesh.errors import MeshError

router = APIRouter(prefix="/admin", tags=["admin"])

MOST_STREAMS = 50
MOST_POLICIES = 8
Answer = TypeVar("Answer")

Version = Annotated[int, Field(ge=1, le=2**53 - 1)]
Expected = Annotated[int, Field(ge=0, le=2**53 - 1, description="0: whichever is live")]

CHANGED: dict[int | str, dict[str, Any]] = {
    409: {"model": documents.ErrorDocument, "description": "somebody else was faster"},
    **documents.ERRORS,
}


class PromoteBody(Body):
    """POST /admin/policies/promote."""

    version: Version
    expected_live_version: Expected = 0


class RollBackBody(Body):
    """POST /admin/policies/rollback."""

    expected_live_version: Expected = 0


class ModeBody(Body):
    """POST /admin/modes."""

    route: Annotated[
        str,
        Field(
            pattern=r"^(\*|/[A-Za-z0-9._/-]{1,127})$",
            description="`*` is every route without its own",
        ),
    ]
    mode: Literal["observe", "apply", "bypass"] | None = Field(
        description="null removes the route's own"
    )


class StartBody(Body):
    """POST /admin/trial/start."""

    version: Version
    stage: Literal["shadow", "canary"] = "shadow"
    share: Annotated[
        float, Field(ge=0.01, le=0.5, description="of sessions that a canary decides")
    ] = 0.1
    promotes: Annotated[
        bool, Field(description="a canary that is shown to be better becomes live by itself")
    ] = False


class StopBody(Body):
    """POST /admin/trial/stop: nothing to say."""


@router.get("/overview", responses=documents.ERRORS)
async def overview(request: Request) -> shown.OverviewDocument:
    """Return what an operator sees; parts that cannot be asked now are null."""
    doors = _doors(request)
    peers, load, policies, trial = await asyncio.gather(
        doors.peers(),
        _if_there(doors.engine.load()),
        _if_there(doors.learning.list_policies(MOST_POLICIES, 0)),
        _if_there(doors.administration.trial()),
    )
    return shown.OverviewDocument(
        now_unix_ms=doors.observatory.clock.unix_ms(),
        peers={name: "serving" if serving else "away" for name, serving in peers.items()},
        open_requests=doors.pipeline.turnstile.admission.inside,
        streams=[
            shown.StreamDocument(**asdict(stream))
            for stream in doors.observatory.streams(MOST_STREAMS)
        ],
        engine=shown.EngineDocument(**asdict(load)) if load else None,
        policies=[policy_document(card) for card in policies.policies] if policies else None,
        modes=_named(policies.modes) if policies else None,
        trial=shown.trial(trial) if trial else None,
        feedback=[
            shown.FeedbackMinuteDocument(**asdict(minute))
            for minute in doors.observatory.feedback()
        ],
        heat_map=_heat_map(doors),
    )


@router.post("/policies/promote", responses=CHANGED)
async def promote(body: PromoteBody, request: Request) -> documents.PolicyDocument:
    """Make the parameters of a stored version live under a new number."""
    administration = _doors(request).administration
    card = await administration.promote(body.version, body.expected_live_version)
    return policy_document(card)


@router.post("/policies/rollback", responses=CHANGED)
async def roll_back(body: RollBackBody, request: Request) -> documents.PolicyDocument:
    """Go back to the parameters before the live version, under a new number."""
    card = await _doors(request).administration.roll_back(body.expected_live_version)
    return policy_document(card)


@router.post("/modes", responses=documents.ERRORS)
async def set_mode(body: ModeBody, request: Request) -> shown.ModesDocument:
    """Say how far the policy is trusted on a route."""
    mode = Mode(body.mode) if body.mode else None
    modes = await _doors(request).administration.set_mode(body.route, mode)
    return shown.ModesDocument(modes=_named(modes))


@router.post("/trial/start", responses=CHANGED)
async def start_trial(body: StartBody, request: Request) -> shown.TrialDocument:
    """Put a stored version on trial beside the live one: as a shadow it decides nothing, as a
    canary a share of sessions, until a drop or a proof ends the trial.
    """
    beginning = TrialStart(body.version, Stage(body.stage), body.share, body.promotes)
    return shown.trial(await _doors(request).administration.start_trial(beginning))


@router.post("/trial/stop", responses=documents.ERRORS)
async def stop_trial(_: StopBody, request: Request) -> shown.TrialDocument:
    """End the running trial; the live policy decides all sessions again."""
    return shown.trial(await _doors(request).administration.stop_trial())


def _heat_map(doors: Doors) -> shown.HeatMapDocument:
    cells = doors.observatory.heat.cells(doors.observatory.clock.unix_ms())
    return shown.HeatMapDocument(
        minutes=heatmap.MINUTES,
        bins=heatmap.BINS,
        bin_width=heatmap.BIN_WIDTH,
        rule=heatmap.RULE,
        cells=[_cell(cell) for cell in cells],
    )


def _cell(cell: heatmap.Cell) -> shown.CellDocument:
    members = asdict(cell) | {"counts": list(cell.counts)}
    return shown.CellDocument(**members)


async def _if_there(asked: Awaitable[Answer]) -> Answer | None:
    try:
        return await asked
    except MeshError:
        return None


def _named(modes: dict[str, Mode]) -> dict[str, str]:
    return {route: mode.value for route, mode in modes.items()}


def _doors(request: Request) -> Doors:
    doors: Doors = request.app.state.doors
    return doors
