"""How a response begins and ends, in the API's events, with our extension beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.gateway.decoding import FinishReason
from services.gateway.events import Usage
from services.gateway.realtime.channel import Channel
from services.gateway.rest import extension
from services.gateway.rest.headers import quota_limits
from services.gateway.rest.problems import error_body

if TYPE_CHECKING:
    from services.gateway.realtime.response import Response

Json = dict[str, Any]

_CUT = {FinishReason.LENGTH, FinishReason.DEADLINE}


async def opening(channel: Channel, response: Response, previous_item_id: str | None) -> None:
    """Tell that there is a response and where its item is."""
    await channel.tell("response.created", response=body(response, "in_progress"))
    item = response.item.body()
    added = {"response_id": response.response_id, "output_index": 0, "item": item}
    await channel.tell("response.output_item.added", **added)
    if response.manner.in_conversation:
        told = {"previous_item_id": previous_item_id, "item": item}
        await channel.tell("conversation.item.added", **told)


async def closing(channel: Channel, response: Response, part: Json) -> None:
    """Tell the whole text, the item and how the response ended."""
    quota = response.turn.quota if response.turn else None
    if quota is not None:
        await channel.tell("rate_limits.updated", rate_limits=quota_limits(quota))
    if response.turn is not None and response.turn.plan is not None:
        await _content(channel, response, part)
    item = response.item.body()
    done = {"response_id": response.response_id, "output_index": 0, "item": item}
    await channel.tell("response.output_item.done", **done)
    if response.manner.in_conversation:
        await channel.tell("conversation.item.done", previous_item_id=None, item=item)
    await channel.tell("response.done", response=body(response, status(response)))


async def _content(channel: Channel, response: Response, part: Json) -> None:
    place, text = response.place, response.item.text
    if response.manner.is_spoken:
        await channel.tell("response.output_audio.done", **place)
        await channel.tell("response.output_audio_transcript.done", **place, transcript=text)
    else:
        await channel.tell("response.output_text.done", **place, text=text)
    await channel.tell("response.content_part.done", **place, part=part)


def status(response: Response) -> str:
    """Return how a response ended, in the API's words."""
    if response.error is not None:
        return "failed"
    if response.reason is not None:
        return "cancelled"
    cut = response.end is not None and response.end.finish_reason in _CUT
    return "incomplete" if cut else "completed"


def body(response: Response, state: str) -> Json:
    """Return a response as the API writes it."""
    manner = response.manner
    is_over = state != "in_progress"
    told: Json = {
        "id": response.response_id,
        "object": "realtime.response",
        "status": state,
        "status_details": _details(response, state) if is_over else None,
        "output": [response.item.body()] if is_over else [],
        "output_modalities": [manner.modality],
        "max_output_tokens": manner.max_output_tokens,
        "metadata": manner.metadata,
        "usage": _usage(response.end.usage) if response.end else None,
    }
    if manner.is_spoken:
        told["audio"] = {"output": {"format": {"type": manner.kind}, "voice": manner.voice}}
    if is_over:
        told["thermesh"] = _extension(response)
    return told


def _details(response: Response, state: str) -> Json:
    details: Json = {"type": state}
    if response.error is not None:
        error = error_body(response.error)["error"]
        details["error"] = {name: error[name] for name in ("type", "code", "message")}
        if response.error.retry_after is not None:
            details["error"]["retry_after_ms"] = round(response.error.retry_after * 1000)
    elif response.reason is not None:
        details["reason"] = response.reason
    elif state == "incomplete":
        details["reason"] = "max_output_tokens"
    return details


def _extension(response: Response) -> Json:
    plan = response.turn.plan if response.turn else None
    told = extension.decision(response.ask, plan)
    if response.end is not None:
        told |= extension.ended(response.end)
    told["latency_ms"] = response.latency.stages()
    if response.reason is not None and response.end is not None:
        told["heard_tokens"] = response.heard_tokens
        told["discarded_tokens"] = response.end.discarded_tokens
    return told


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "input_token_details": {
            "cached_tokens": usage.cached_prompt_tokens,
            "text_tokens": usage.prompt_tokens,
            "audio_tokens": 0,
        },
        "output_token_details": {"text_tokens": usage.completion_tokens, "audio_tokens": 0},
    }
