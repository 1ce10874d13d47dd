"""vLLM's engine as far as the bridge uses it: says what a test tells it to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

NAMES = {
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty"),
    *("frequency_penalty", "logit_bias", "max_tokens", "stop", "seed", "logprobs", "ignore_eos"),
}
"""Fields of vLLM's SamplingParams."""


class FakeVllm:
    """`texts` are decoded one by one; from `hold_after` on only while `gate` is set.

    `asked` keeps (prompt, fields) of every request; `abandoned` is set when one
    was closed in mid-answer. `refusal` is raised instead of an answer, `failure`
    makes the engine dead.
    """

    def __init__(self) -> None:
        self.texts = ["one", " two", " three"]
        self.hold_after = 10**6
        self.gate = asyncio.Event()
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.abandoned = asyncio.Event()
        self.sent = 0
        self.refusal: Exception | None = None
        self.failure: Exception | None = None
        self.is_shut_down = False

    def say(self, *texts: str) -> None:
        """Answer with these tokens."""
        self.texts = list(texts)

    def refuse(self, reason: str) -> None:
        """Object to every request, as vLLM does to what it validates."""
        self.refusal = ValueError(reason)

    async def generate(self, prompt: Any, sampling_params: Any, request_id: str):
        """Decode one request; each output has what is new."""
        assert request_id
        self.asked.append((prompt, vars(sampling_params)))
        if self.refusal:
            raise self.refusal
        is_whole = False
        try:
            for index, text in enumerate(self.texts):
                if index >= self.hold_after:
                    await self.gate.wait()
                await asyncio.sleep(0)
                is_last = index == len(self.texts) - 1
                self.sent = index + 1
                yield self._output(index, text, is_last)
            is_whole = True
        finally:
            if not is_whole:
                self.abandoned.set()

    def get_tokenizer(self) -> Any:
        """A template of one id a character."""

        def apply_chat_template(conversation, **options):
            assert options["add_generation_prompt"]
            assert options["tokenize"]
            assert not options["return_dict"]
            return [ord(one) for turn in conversation for one in turn["content"]]

        return SimpleNamespace(apply_chat_template=apply_chat_template)

    async def check_health(self) -> None:
        """Raise where the engine is dead."""
        if self.failure:
            raise self.failure

    def shutdown(self) -> None:
        """Note it."""
        self.is_shut_down = True

    @staticmethod
    def _output(index: int, text: str, is_last: bool) -> Any:
        listed = {
            100 + index: SimpleNamespace(logprob=-0.5, decoded_token=text),
            7: SimpleNamespace(logprob=-1.5, decoded_token="other"),
        }
        answer = SimpleNamespace(
            text=text,
            token_ids=[100 + index],
            logprobs=[listed],
            finish_reason="stop" if is_last else None,
        )
        return SimpleNamespace(prompt_token_ids=[1] * 9, outputs=[answer], finished=is_last)


def parameters(constraint: dict[str, Any] | None, **fields: Any) -> Any:
    """What makes SamplingParams; refuses fields that those have not."""
    assert set(fields) <= NAMES
    given = {name: value for name, value in fields.items() if value is not None}
    return SimpleNamespace(structured_outputs=constraint, **given)
