"""An `Upstream` that is vLLM's engine in this process."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from services.inference.bridge.dialect import DIALECTS
from services.inference.bridge.upstream import Chunk, Completion, UpstreamModel, UpstreamToken
from services.inference.bridge.vllm.interface import (
    CompletionOutput,
    Engine,
    Logprob,
    Parameters,
    RequestOutput,
)
from services.inference.request import Start
from services.inference.sampling.constraint import Kind, OutputConstraint
from thermesh.errors import InvalidArgument, Unavailable

log = logging.getLogger(__name__)

LONGEST_REASON = 300
"""Characters of vLLM's own explanation that are handed on."""

DIALECT = replace(
    DIALECTS["vllm"],
    name="vllm-in-process",
    constraints=(Kind.JSON_OBJECT, Kind.JSON_SCHEMA, Kind.REGEX, Kind.CHOICE),
)


class VllmUpstream:
    """`name` is what the engine serves, `context_length` how many tokens it takes."""

    def __init__(
        self, engine: Engine, parameters: Parameters, name: str, context_length: int
    ) -> None:
        self.dialect = DIALECT
        self._engine = engine
        self._parameters = parameters
        self._model = UpstreamModel(name, context_length)

    async def models(self) -> list[UpstreamModel]:
        """Return the one model; raise Unavailable where the engine is dead."""
        try:
            await self._engine.check_health()
        except Exception as error:
            raise Unavailable("the engine behind is dead", reason="ENGINE_AWAY") from error
        return [self._model]

    async def stream(self, completion: Completion) -> AsyncIterator[Chunk]:
        """Decode one request."""
        try:
            prompt = await self._prompt(completion.start)
            wanted = self._wanted(completion)
            outputs = self._engine.generate(prompt, wanted, uuid.uuid4().hex)
            async with contextlib.aclosing(outputs):
                async for output in outputs:
                    yield _chunk(output, completion.start.candidate_count)
        except ValueError as error:
            reason = str(error)[:LONGEST_REASON]
            raise InvalidArgument(f"the engine behind refused the request: {reason}") from error
        except Exception as error:
            log.exception("vLLM failed")
            raise Unavailable(
                "the engine behind failed while it decoded", reason="ENGINE_FAILED"
            ) from error

    async def close(self) -> None:
        """End the engine's processes."""
        await asyncio.to_thread(self._engine.shutdown)

    async def _prompt(self, start: Start) -> dict[str, Any]:
        if start.token_ids is not None:
            return {"prompt_token_ids": list(start.token_ids)}
        if start.chat is None:
            return {"prompt": start.prompt or ""}
        found = self._engine.get_tokenizer()
        tokenizer = await found if inspect.isawaitable(found) else found
        turns = [{"role": turn.role, "content": turn.content} for turn in start.chat]
        # A long conversation takes the tokenizer a while; other streams must not wait.
        token_ids = await asyncio.to_thread(
            tokenizer.apply_chat_template,
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        return {"prompt_token_ids": list(token_ids)}

    def _wanted(self, completion: Completion) -> Any:
        start, sampling = completion.start, completion.sampling
        fields = self.dialect.sampling_fields(sampling)
        fields["logit_bias"] = dict(sampling.logit_bias) or None
        return self._parameters(
            _structure(start.constraint),
            **fields,
            max_tokens=completion.max_tokens or None,
            stop=list(start.stop) or None,
            seed=completion.seed,
            logprobs=start.candidate_count,
            ignore_eos=start.ignore_end_of_sequence,
        )


def _structure(constraint: OutputConstraint | None) -> dict[str, Any] | None:
    if constraint is None:
        return None
    match constraint.kind:
        case Kind.JSON_OBJECT:
            return {"json_object": True}
        case Kind.JSON_SCHEMA:
            return {"json": json.loads(constraint.text)}
        case Kind.CHOICE:
            return {"choice": list(constraint.options)}
        case _:
            return {"regex": constraint.text}


def _chunk(output: RequestOutput, candidate_count: int) -> Chunk:
    [answer] = output.outputs
    return Chunk(
        tokens=_tokens(answer, candidate_count),
        finish_reason=answer.finish_reason or "",
        prompt_tokens=len(output.prompt_token_ids or ()),
    )


def _tokens(answer: CompletionOutput, candidate_count: int) -> tuple[UpstreamToken, ...]:
    """Return the new tokens; text of several at once comes with the last of them."""
    last = len(answer.token_ids) - 1
    listed = answer.logprobs or [{}] * len(answer.token_ids)
    return tuple(
        UpstreamToken(
            text=answer.text if index == last else "",
            log_probability=scores[token_id].logprob if token_id in scores else 0.0,
            candidates=_best(scores, candidate_count),
            token_id=token_id,
        )
        for index, (token_id, scores) in enumerate(zip(answer.token_ids, listed, strict=True))
    )


def _best(scores: Mapping[int, Logprob], count: int) -> tuple[tuple[int, str, float], ...]:
    # vLLM adds the drawn token to those that were asked for.
    best = sorted(scores.items(), key=lambda item: -item[1].logprob)[:count]
    return tuple((token_id, one.decoded_token or "", one.logprob) for token_id, one in best)
