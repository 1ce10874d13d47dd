"""Models, feedback, policies, health and metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from services.gateway import limits
from services.gateway.asking import DEFAULT_TENANT
from services.gateway.feedback import ModelCard, PolicyCard, Receipt
from services.gateway.readiness import State
from services.gateway.rest import asks, documents
from services.gateway.rest.bodies import FeedbackBody
from services.gateway.rest.doors import Doors
from services.gateway.rest.middleware import caller_of

router = APIRouter()

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Json = dict[str, Any]


@router.get("/v1/models", tags=["models"], responses=documents.ERRORS)
async def list_models(request: Request) -> documents.ModelsDocument:
    """List what can be asked for, the default first."""
    cards = await _doors(request).models.models()
    return documents.ModelsDocument(object="list", data=[_model(card) for card in cards])


@router.get("/v1/models/{model_id:path}", tags=["models"], responses=documents.ERRORS)
async def get_model(model_id: str, request: Request) -> documents.ModelDocument:
    """Describe one model."""
    return _model(await _doors(request).models.model(model_id))


@router.post(
    "/v1/feedback",
    tags=["feedback"],
    status_code=202,
    response_model=documents.FeedbackDocument,
    responses={
        200: {"model": documents.FeedbackDocument, "description": "it was stored before"},
        409: {"model": documents.ErrorDocument, "description": "same id, other content"},
        **documents.ERRORS,
    },
)
async def submit_feedback(
    body: FeedbackBody,
    request: Request,
    idempotency_key: Annotated[str, Header()] = "",
) -> Response:
    """Teach the policy. The same id counts once, however often it is sent."""
    feedback = caller_of(request).sign_feedback(asks.feedback(body, idempotency_key))
    limits.check_feedback(feedback)
    receipt = await _doors(request).learning.submit_feedback(feedback)
    status = 200 if receipt.duplicate else 202
    return JSONResponse(_receipt(feedback.feedback_id, receipt), status)


@router.get("/v1/feedback/{feedback_id}", tags=["feedback"], responses=documents.ERRORS)
async def get_feedback(
    feedback_id: str,
    request: Request,
    tenant: str = DEFAULT_TENANT,
) -> documents.FeedbackDocument:
    """Tell what became of a piece of feedback."""
    limits.check_feedback_id(feedback_id)
    tenant = caller_of(request).tenant_for(tenant, "tenant")
    receipt = await _doors(request).learning.get_feedback(feedback_id, tenant)
    return documents.FeedbackDocument(**_receipt(feedback_id, receipt))


@router.get("/v1/policies", tags=["policies"], responses=documents.ERRORS)
async def list_policies(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    before_version: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> documents.PoliciesDocument:
    """List stored versions of the policy, newest first."""
    found = await _doors(request).learning.list_policies(limit, before_version)
    return documents.PoliciesDocument(
        object="list",
        data=[policy_document(card) for card in found.policies],
        modes={route: mode.value for route, mode in found.modes.items()},
    )


@router.get("/healthz", tags=["health"], response_model_exclude_none=True)
async def is_alive() -> documents.HealthDocument:
    """Tell that the process answers, whatever its neighbours do."""
    return documents.HealthDocument(status="ok")


@router.get(
    "/readyz",
    tags=["health"],
    response_model=documents.HealthDocument,
    responses={503: {"model": documents.HealthDocument, "description": "send no requests now"}},
)
async def is_ready(request: Request) -> Response:
    """Tell whether requests are welcome: inference answers, the gateway is not leaving, and it
    has met the other rooms once, or waited for them after its start.
    """
    doors = _doors(request)
    if not doors.pipeline.turnstile.admission.is_open:
        return JSONResponse({"status": "draining"}, 503)
    peers = await doors.peers()
    names = {name: "serving" if serving else "away" for name, serving in peers.items()}
    state = doors.readiness.judge(peers)
    return JSONResponse({"status": state, "peers": names}, 503 if state is State.NOT_READY else 200)


@router.get("/metrics", tags=["health"], response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the gateway's metrics as Prometheus text."""
    return Response(_doors(request).metrics(), headers={"content-type": PROMETHEUS})


def _doors(request: Request) -> Doors:
    doors: Doors = request.app.state.doors
    return doors


def _model(card: ModelCard) -> documents.ModelDocument:
    return documents.ModelDocument(
        id=card.id,
        object="model",
        created=card.created_unix_s,
        owned_by="thermesh",
        context_length=card.context_length,
    )


def policy_document(card: PolicyCard) -> documents.PolicyDocument:
    """Return one stored version as the API shows it."""
    members = {name: getattr(card, name) for name in card.__slots__}
    return documents.PolicyDocument(object="policy", **members)


def _receipt(feedback_id: str, receipt: Receipt) -> Json:
    return {
        "id": feedback_id,
        "object": "feedback",
        "state": receipt.state.value,
        "applied_version": receipt.applied_version or None,
        "duplicate": receipt.duplicate,
    }
