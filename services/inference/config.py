"""Settings of the inference service."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import between, not_empty, one_of, setting


@dataclass(frozen=True)
class Config:
    """What the environment may change; see `thermesh.settings`."""

    host: str = setting("THERMESH_HOST", "127.0.0.1", not_empty, "address to listen on")
    port: int = setting("THERMESH_INFERENCE_PORT", 50053, between(0, 65535), "gRPC port")
    model: str = setting(
        "THERMESH_MODEL",
        "smollm2-135m-instruct",
        not_empty,
        "packaged name, GGUF file or safetensors folder to serve",
    )
    model_name: str = setting(
        "THERMESH_MODEL_NAME", "", doc="name clients use; empty: that of THERMESH_MODEL"
    )
    threads: int = setting(
        "THERMESH_INFERENCE_THREADS", 0, between(0, 1024), "cores of a step; 0: all physical ones"
    )
    max_running: int = setting(
        "THERMESH_MAX_RUNNING", 32, between(1, 1024), "sequences decoded at once"
    )
    max_waiting: int = setting(
        "THERMESH_MAX_WAITING", 64, between(0, 65536), "requests waiting before RESOURCE_EXHAUSTED"
    )
    step_tokens: int = setting(
        "THERMESH_STEP_TOKENS", 512, between(1, 65536), "most tokens computed in one step"
    )
    prefill_chunk: int = setting(
        "THERMESH_PREFILL_CHUNK", 512, between(1, 65536), "most tokens of one prompt in one step"
    )
    step_stretch: float = setting(
        "THERMESH_STEP_STRETCH",
        2.0,
        between(1, 1000),
        "how many times as long a step may take for prompts that join running streams",
    )
    step_burst_ms: float = setting(
        "THERMESH_STEP_BURST_MS",
        120.0,
        between(0, 10_000),
        "longest step for a short prompt that joins running streams as a whole; 0: none does",
    )
    prefix_cache: bool = setting(
        "THERMESH_PREFIX_CACHE", True, doc="keep full pages for prompts that begin alike"
    )
    prefix_share: float = setting(
        "THERMESH_PREFIX_CACHE_SHARE",
        0.5,
        between(0, 1),
        "most of the KV pages that are kept while nobody uses them; bounds resident memory",
    )
    speculation: bool = setting(
        "THERMESH_SPECULATION",
        True,
        doc="guess tokens from what was said before, where that saves time; outputs stay the same",
    )
    self_speculation: bool = setting(
        "THERMESH_SELF_SPECULATION",
        False,
        doc="let the light path of a model that has one guess for the whole; outputs stay the same",
    )
    kv_pages: int = setting(
        "THERMESH_KV_PAGES",
        0,
        between(0, 1 << 24),
        "pages of 16 tokens in the KV cache; 0: 1024 on a CPU, what fits beside the model on a GPU",
    )
    load_interval_seconds: float = setting(
        "THERMESH_LOAD_INTERVAL_SECONDS", 1.0, between(0.05, 60), "most time between load reports"
    )
    controller_target: str = setting(
        "THERMESH_CONTROLLER_TARGET", "127.0.0.1:50052", not_empty, "the controller's address"
    )
    outcome_capacity: int = setting(
        "THERMESH_OUTCOME_CAPACITY", 1024, between(1, 1 << 20), "outcomes kept for the controller"
    )
    grace_seconds: float = setting(
        "THERMESH_GRACE_SECONDS", 10.0, between(0, 600), "how long open calls may end after SIGTERM"
    )


@dataclass(frozen=True)
class KernelsConfig:
    """What the environment may change; see `thermesh.settings`."""

    kernels: str = setting(
        "THERMESH_KERNELS",
        "auto",
        one_of("auto", "cpu", "reference"),
        "arithmetic: C++ on the CPU, plain torch, or the fastest that fits the model",
    )
    tier: str = setting(
        "THERMESH_KERNELS_TIER",
        "",
        one_of("", "avx512-amx", "avx512-bf16", "avx512-vnni", "avx2", "generic"),
        "instruction set of the C++ kernels; empty: the best of this processor",
    )
    precision: str = setting(
        "THERMESH_KERNELS_PRECISION",
        "full",
        one_of("full", "mixed"),
        "activations of the C++ kernels: 12 bits, or 8 where no outlier is near (faster prompts)",
    )
    kv_cache: str = setting(
        "THERMESH_KV_CACHE",
        "f16",
        one_of("f16", "int10", "int8"),
        "keys and values: half precision, keys in 10 bits and values in 8 (on a GPU as f16), or"
        " both in 8 bits, with a scale for each token and head",
    )
    weights: str = setting(
        "THERMESH_WEIGHTS",
        "stored",
        one_of("stored", "int8"),
        "as the file has them, or F32, F16, BF16 and K-quants rounded to Q8_0: half the memory"
        " of 16 bits, and faster by that on a CPU; F32 and K-quants would be left to plain torch",
    )
    precision_plan: str = setting(
        "THERMESH_PRECISION_PLAN",
        "",
        doc="JSON plan of `thermesh quantize` for the products on a GPU, or on a CPU where all are"
        " stored, int4 or int8; empty: the file's numbers",
    )
    device: str = setting(
        "THERMESH_DEVICE",
        "auto",
        one_of("auto", "cpu", "cuda"),
        "where the network runs: NVIDIA GPUs, the CPU, or a GPU where there is one that fits",
    )
