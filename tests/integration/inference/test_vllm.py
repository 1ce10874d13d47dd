"""The adapter in front of vLLM itself, where it is installed; elsewhere a fake stands for it."""

from __future__ import annotations

import asyncio
import json

import pytest
import tokenizers
import torch
from safetensors.torch import save_file

from services.inference.bridge.config import BridgeConfig
from services.inference.bridge.service import Service
from services.inference.bridge.vllm import starting
from services.inference.config import Config
from thermesh import rpc
from thermesh.testing import free_port
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),  # it starts processes of its own and may compile
    pytest.mark.filterwarnings("default"),  # of vLLM's own imports
    pytest.mark.skipif(not starting.is_installed(), reason="vllm is not installed here"),
]
HIDDEN, WIDE, LAYERS = 64, 128, 2
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
ARGUMENTS = {
    "max_model_len": 256,
    "enforce_eager": True,
    "max_num_seqs": 4,
    "gpu_memory_utilization": 0.05,
}


def write_folder(folder):
    """Write a random network with one token for each byte."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate(["<end>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<end>",
        "chat_template": CHAT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "vocab_size": len(vocabulary),
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights(len(vocabulary)), folder / "model.safetensors", {"format": "pt"})


def weights(vocabulary_size):
    """Return the tensors of the network."""
    sizes = {"model.embed_tokens": (vocabulary_size, HIDDEN)}
    for layer in range(LAYERS):
        inner = f"model.layers.{layer}"
        sizes |= {f"{inner}.self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"}
        sizes |= {f"{inner}.mlp.{name}_proj": (WIDE, HIDDEN) for name in ("gate", "up")}
        sizes[f"{inner}.mlp.down_proj"] = (HIDDEN, WIDE)
    draw = torch.Generator().manual_seed(1)
    made = {
        f"{name}.weight": torch.randn(size, generator=draw).mul(size[1] ** -0.5).bfloat16()
        for name, size in sizes.items()
    }
    norms = [f"model.layers.{layer}.{name}" for layer in range(LAYERS) for name in NORMS]
    return made | {
        f"{name}.weight": torch.ones(HIDDEN).bfloat16() for name in [*norms, "model.norm"]
    }


NORMS = ("input_layernorm", "post_attention_layernorm")


async def ask(stub, *, temperature=1.0, keeps=None, **more):
    """Return (tokens, end) of one answer; after `keeps` tokens it is cancelled."""
    turn = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content="Hello there")
    program = common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=temperature))
    start = inference_pb2.GenerationStart(
        chat=common_pb2.ChatInput(messages=[turn]),
        sampling=common_pb2.Sampling(program=program),
        seed=7,
        **({"max_tokens": 12, "ignore_end_of_sequence": True} | more),
    )
    call = stub.Generate(timeout=120)
    await call.write(inference_pb2.GenerateRequest(start=start))
    tokens, end = [], None
    async for message in call:
        if message.WhichOneof("message") == "tokens":
            tokens += message.tokens.tokens
            if keeps and len(tokens) >= keeps:
                cancel = inference_pb2.CancelGeneration(kept_tokens=keeps)
                await call.write(inference_pb2.GenerateRequest(cancel=cancel))
                keeps = None
        elif message.WhichOneof("message") == "end":
            end = message.end
    return tokens, end


async def test_vllm_decodes_behind_the_service(tmp_path):
    """Streams, seeds, candidates, constraints, cancellation and company, of the engine itself.

    One test, because vLLM takes minutes to start.
    """
    write_folder(tmp_path)
    behind = BridgeConfig(vllm_model=str(tmp_path), vllm_arguments=json.dumps(ARGUMENTS))
    config = Config(port=0, controller_target=f"127.0.0.1:{free_port()}", grace_seconds=0.2)
    service = Service(config, behind)
    port = await service.start()
    channel = rpc.connect(f"127.0.0.1:{port}")
    try:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        tokens, end = await ask(stub, candidate_count=3)
        assert (len(tokens), end.usage.completion_tokens, end.usage.prompt_tokens) == (12, 12, 11)
        assert all(len(token.candidates) == 3 for token in tokens)
        assert [token.token_id for token in (await ask(stub))[0]] == [
            token.token_id for token in tokens
        ]
        bound = common_pb2.OutputConstraint(regex="(yes|no)")
        answer, _ = await ask(stub, constraint=bound, ignore_end_of_sequence=False)
        assert "".join(token.text for token in answer) in {"yes", "no"}
        _, cancelled = await ask(stub, keeps=3, max_tokens=200)
        assert cancelled.finish_reason == common_pb2.FINISH_REASON_CANCELLED
        assert cancelled.usage.completion_tokens == 3
        four = await asyncio.gather(*(ask(stub, temperature=t) for t in (0.0, 0.5, 1.0, 1.5)))
        assert [len(drawn) for drawn, _ in four] == [12] * 4
    finally:
        await channel.close()
        await service.stop()
