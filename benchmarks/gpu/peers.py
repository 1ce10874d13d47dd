"""Other engines in the same process, on the same random shapes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.timing import wall_milliseconds

if TYPE_CHECKING:
    from benchmarks.gpu.worlds import Shape
    from services.inference.kernels.triton.matrix import Matrix

_STEPS = 32


class Absent(Exception):
    """A peer is not installed, or does not do this here; the message says why."""


def scaled_mm(codes: torch.Tensor, scales: torch.Tensor, matrix: Matrix) -> torch.Tensor:
    """Multiply with torch's own FP8 product, scaled by rows."""
    assert matrix.scales is not None
    result: torch.Tensor = torch._scaled_mm(  # noqa: SLF001  # torch has no public name for it yet
        codes,
        matrix.codes.t(),
        scale_a=scales[:, None],
        scale_b=matrix.scales.view(1, -1),
        out_dtype=torch.bfloat16,
    )
    return result


def transformers_model(shape: Shape) -> Any:
    """Return a Llama of transformers with random weights in bfloat16."""
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise Absent(f"transformers is not installed ({error})") from error
    config = transformers.LlamaConfig(
        vocab_size=shape.vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=shape.context_length,
        tie_word_embeddings=True,
    )
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = transformers.AutoModelForCausalLM.from_config(config)
        finally:
            torch.set_default_dtype(torch.float32)
    return model.eval()


def in_four_bits(model: Any) -> Any:
    """Return the model with torchao's four-bit weights in its linear layers, groups of 128."""
    try:
        torchao = importlib.import_module("torchao.quantization")
    except ImportError as error:
        raise Absent(f"torchao is not installed ({error})") from error
    torchao.quantize_(model, torchao.Int4WeightOnlyConfig(group_size=128))
    return model


@torch.inference_mode()
def transformers_decode(
    shape: Shape,
    streams: int,
    *,
    context: int = 128,
    is_compiled: bool,
    prepare: Callable[[Any], Any] = lambda model: model,
) -> list[float]:
    """Return milliseconds of a greedy decode step behind `context` tokens.

    `prepare` may change the model before it is compiled.
    """
    model = prepare(transformers_model(shape))
    transformers = importlib.import_module("transformers")
    cache = transformers.StaticCache(config=model.config, max_cache_len=context + 1024)
    ids = torch.ones(streams, context, dtype=torch.int64, device="cuda")
    places = torch.arange(context, device="cuda")
    model(ids, past_key_values=cache, cache_position=places, logits_to_keep=1)
    forward = torch.compile(model, mode="reduce-overhead") if is_compiled else model
    state = {"ids": ids[:, :1], "place": places[-1:].clone()}

    def step() -> None:
        state["place"] = state["place"] + 1
        if is_compiled:
            torch.compiler.cudagraph_mark_step_begin()
        output = forward(
            state["ids"], past_key_values=cache, cache_position=state["place"], logits_to_keep=1
        )
        state["ids"] = output.logits[:, -1].argmax(-1, keepdim=True).clone()

    return wall_milliseconds(step, _STEPS)


@torch.inference_mode()
def transformers_continuous(shape: Shape, streams: int, context: int) -> list[float]:
    """Return milliseconds of a step of its continuous batching: all tokens over all time."""
    model, transformers = transformers_model(shape), importlib.import_module("transformers")
    if not hasattr(model, "generate_batch"):
        raise Absent("this transformers has no continuous batching")
    short, long = 8, 72
    prompts = [[1] * context for _ in range(streams)]
    room = _room_for(transformers, streams, context + long)

    def generate(count: int) -> None:
        config = transformers.GenerationConfig(
            max_new_tokens=count, do_sample=False, eos_token_id=-1
        )
        model.generate_batch(inputs=prompts, generation_config=config, **room)

    # Two lengths: their difference is decoding alone.
    shorter = wall_milliseconds(lambda: generate(short), 1)
    longer = wall_milliseconds(lambda: generate(long), 1)
    pairs = zip(longer, shorter, strict=True)
    return [(more - less) / (long - short) for more, less in pairs]


def _room_for(transformers: Any, streams: int, tokens: int) -> dict[str, Any]:
    """Return what bounds the cache to these streams; by itself it takes most of the memory."""
    kind = getattr(transformers, "ContinuousBatchingConfig", None)
    if kind is None:
        return {}
    pages = -(-tokens // kind.page_size) + 1
    return {"continuous_batching_config": kind(num_blocks=streams * pages)}
