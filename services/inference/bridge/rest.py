"""An `Upstream` over OpenAI's REST interface, streamed as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from services.inference.bridge import dialect as dialects
from services.inference.bridge.dialect import Dialect
from services.inference.bridge.upstream import (
    UNKNOWN_TOKEN,
    Chunk,
    Completion,
    UpstreamModel,
    UpstreamToken,
)
from thermesh.errors import (
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

LONGEST_REASON = 300
"""Characters of a server's own explanation that are handed on."""
MAX_RETRY_SECONDS = 60.0
LIST_SECONDS = 5.0


class RestUpstream:
    """The server at `url`, e.g. `http://127.0.0.1:8000/v1`.

    `silence_seconds` is the longest wait for its next byte.
    """

    def __init__(
        self,
        url: str,
        dialect: Dialect,
        key: str = "",
        *,
        connect_seconds: float = 2.0,
        silence_seconds: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.dialect = dialect
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(silence_seconds, connect=connect_seconds, pool=connect_seconds)
        # The bridge bounds how many calls there are; a second bound here would
        # only turn a full pool into an error that looks like a dead server.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers=headers,
            timeout=timeout,
            limits=limits,
            transport=transport,
        )

    async def models(self) -> list[UpstreamModel]:
        """Return what the server lists."""
        try:
            response = await self._client.get("models", timeout=LIST_SECONDS)
            _check(response.status_code, response)
            listed = response.json()["data"]
            return [_model(item) for item in listed]
        except httpx.HTTPError as error:
            raise _unavailable() from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                "the engine behind does not list its models as OpenAI does"
            ) from error

    async def stream(self, completion: Completion) -> AsyncIterator[Chunk]:
        """Decode one request."""
        path, body = question(self.dialect, completion)
        try:
            async with self._client.stream("POST", path, json=body) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                _check(response.status_code, response)
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        data = line.removeprefix("data:").strip()
                        if data == "[DONE]":
                            return
                        yield chunk(data)
        except httpx.HTTPError as error:
            raise _unavailable() from error

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


def question(dialect: Dialect, completion: Completion) -> tuple[str, dict[str, Any]]:
    """Return the endpoint below the base URL and the body that ask for a completion."""
    start = completion.start
    path, body = dialects.path_and_input(start)
    body |= {
        "model": completion.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        **dialect.sampling_fields(completion.sampling),
        **dialects.candidate_fields(path, start.candidate_count),
        **dialects.constraint_fields(start.constraint),
    }
    if start.stop:
        body["stop"] = list(start.stop)
    if completion.max_tokens:
        body["max_tokens"] = completion.max_tokens
    if completion.seed is not None:
        body["seed"] = completion.seed
    return path, body


def chunk(data: str) -> Chunk:
    """Read one event; raise Unavailable for what is no chunk of a completion."""
    try:
        message = json.loads(data)
        if "error" in message:
            raise Unavailable("the engine behind failed while it decoded", reason="ENGINE_FAILED")
        usage = message.get("usage") or {}
        choice = (message.get("choices") or [{}])[0]
        return Chunk(
            tokens=_tokens(choice),
            finish_reason=choice.get("finish_reason") or "",
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
        )
    except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise Unavailable("the engine behind sent what is no completion") from error


def _tokens(choice: dict[str, Any]) -> tuple[UpstreamToken, ...]:
    listed = choice.get("logprobs") or {}
    if listed.get("content"):
        return tuple(_chat_token(item) for item in listed["content"])
    if listed.get("tokens"):
        return _text_tokens(listed)
    text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
    return (UpstreamToken(text),) if text else ()


def _chat_token(item: dict[str, Any]) -> UpstreamToken:
    others = tuple(
        (UNKNOWN_TOKEN, other["token"], float(other["logprob"])) for other in item["top_logprobs"]
    )
    return UpstreamToken(item["token"], float(item["logprob"]), others)


def _text_tokens(listed: dict[str, Any]) -> tuple[UpstreamToken, ...]:
    scores = listed.get("token_logprobs") or [0.0] * len(listed["tokens"])
    others = listed.get("top_logprobs") or [{}] * len(listed["tokens"])
    return tuple(
        UpstreamToken(
            text,
            float(score or 0.0),
            tuple((UNKNOWN_TOKEN, other, float(p)) for other, p in (more or {}).items()),
        )
        for text, score, more in zip(listed["tokens"], scores, others, strict=True)
    )


def _model(item: dict[str, Any]) -> UpstreamModel:
    # vLLM says max_model_len; llama.cpp says what the model was trained for.
    meta = item.get("meta") or {}
    length = item.get("max_model_len") or item.get("context_length") or meta.get("n_ctx_train")
    return UpstreamModel(str(item["id"]), int(length or 0), int(item.get("created") or 0))


def _check(status: int, response: httpx.Response) -> None:
    if status == httpx.codes.OK:
        return
    raise _refusal(status, response)


def _refusal(status: int, response: httpx.Response) -> MeshError:
    if status in {401, 403}:
        return FailedPrecondition("the engine behind refuses THERMESH_ENGINE_KEY")
    if status == httpx.codes.NOT_FOUND:
        return NotFound("the engine behind does not serve that model", field="start.model")
    if status in {429, 503}:
        return ResourceExhausted(
            "the engine behind is full", reason="ENGINE_FULL", retry_after=_retry_after(response)
        )
    if 400 <= status < 500:
        return InvalidArgument(f"the engine behind refused the request: {_reason(response)}")
    return Unavailable("the engine behind failed", reason="ENGINE_FAILED")


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers["retry-after"]), 0.0), MAX_RETRY_SECONDS)
    except (KeyError, ValueError):
        return 1.0


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:LONGEST_REASON]
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def _unavailable() -> Unavailable:
    return Unavailable("the engine behind does not answer", reason="ENGINE_AWAY")
