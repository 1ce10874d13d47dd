"""The calls of vLLM that are used, as types: what a fake for tests must have.

Source: https://docs.vllm.ai/en/stable/api/vllm/v1/engine/async_llm.html and the
classes that it names, of V1 engines.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol


class Logprob(Protocol):
    """The model's log-probability of one token, in nats, and the token's text."""

    logprob: float
    decoded_token: str | None


class CompletionOutput(Protocol):
    """What is new of one answer: `token_ids`, the text they complete, and for each
    the log-probabilities by token id, its own among them.
    """

    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, Logprob]] | None
    finish_reason: str | None


class RequestOutput(Protocol):
    """What came of a request since the last one."""

    prompt_token_ids: Sequence[int] | None
    outputs: Sequence[CompletionOutput]
    finished: bool


class Tokenizer(Protocol):
    """What a chat needs."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """Return the token ids of a conversation."""
        ...


class Engine(Protocol):
    """AsyncLLM. Closing the generator of a request aborts it."""

    def generate(
        self, prompt: dict[str, Any], sampling_params: Any, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        """Decode one request; raise ValueError for what cannot be asked."""
        ...

    def get_tokenizer(self) -> Any:
        """Return the tokenizer; in older versions a coroutine that does."""
        ...

    async def check_health(self) -> None:
        """Raise where the engine is dead."""
        ...

    def shutdown(self) -> None:
        """End its processes."""
        ...


class Parameters(Protocol):
    """Makes SamplingParams that stream what is new, out of their fields."""

    def __call__(self, constraint: dict[str, Any] | None, **fields: Any) -> Any:
        """Return the parameters; `constraint` are the fields of StructuredOutputsParams."""
        ...
