"""The C++ kernels as a part of a process: choice, threads, memory."""

import ctypes
import dataclasses
import mmap
import os
import pathlib
import subprocess
import sys
import threading

import psutil
import pytest
import torch
from quantised_network import SMALL, QuantisedTensors
from scored import scored

from services.inference.config import KernelsConfig
from services.inference.kernels import CpuNetwork, Span, StepBatch, whole_network
from services.inference.kernels.cpu import build, native, status
from thermesh.errors import FailedPrecondition
from thermesh.testing import eventually

STATUS = status()
built = pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)


def decode(network, cache, token=1, length=1):
    """One step of one sequence of `length` tokens."""
    ids = torch.full((length,), token)
    span = Span(0, length, length, tuple(range(-(-length // 16))))
    return torch.as_tensor(network.step(StepBatch(ids, torch.arange(length), (span,)), cache))


@built
def test_the_best_tier_of_the_processor_is_chosen():
    """A model that fits runs in C++ without anybody asking for it."""
    network = whole_network(SMALL, QuantisedTensors(), KernelsConfig())

    assert network.kernels_name == f"cpu-{STATUS.tiers[0]}"


@built
def test_without_vectors_torch_serves(monkeypatch):
    """Where only plain loops would run, torch is faster and is chosen, unless asked."""
    plain = native.Status(available=True, tiers=("generic",), reason="")
    monkeypatch.setattr("services.inference.kernels.status", lambda: plain)

    assert whole_network(SMALL, QuantisedTensors(), KernelsConfig()) is None
    assert whole_network(SMALL, QuantisedTensors(), KernelsConfig("cpu")) is not None


@built
@pytest.mark.parametrize("tier", STATUS.tiers)
def test_a_tier_can_be_asked_for(tier):
    """THERMESH_KERNELS_TIER names the instruction set."""
    network = whole_network(SMALL, QuantisedTensors(), KernelsConfig(tier=tier))

    assert network.kernels_name == f"cpu-{tier}"


def test_the_reference_can_be_asked_for():
    """THERMESH_KERNELS=reference leaves the C++ kernels alone."""
    assert whole_network(SMALL, QuantisedTensors(), KernelsConfig("reference")) is None


def test_the_choice_comes_from_the_environment(monkeypatch):
    """Without a configuration the environment is asked."""
    monkeypatch.setenv("THERMESH_KERNELS", "reference")

    assert whole_network(SMALL, QuantisedTensors()) is None


def test_without_the_library_torch_serves(monkeypatch):
    """Where the kernels are not built the model still runs, and insisting is refused."""

    def missing():
        raise native.NotAvailable("the C++ kernels are not built")

    monkeypatch.setattr(native, "library", missing)

    assert whole_network(SMALL, QuantisedTensors(), KernelsConfig()) is None
    assert native.status().reason == "the C++ kernels are not built"
    with pytest.raises(FailedPrecondition, match="THERMESH_KERNELS=cpu: the C\\+\\+ kernels are"):
        whole_network(SMALL, QuantisedTensors(), KernelsConfig("cpu"))


@built
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"head_size": 8}, "head_size"),
        ({"hidden_size": 64, "intermediate_size": 64, "head_size": 512}, "head_size"),
        ({"heads": 130, "kv_heads": 1, "head_size": 16}, "query heads"),
    ],
)
def test_a_network_that_does_not_fit_is_left_to_torch(changes, problem):
    """Sizes the kernels cannot have are told by name, or torch serves."""
    config = dataclasses.replace(SMALL, **changes)
    tensors = QuantisedTensors(config)

    assert whole_network(config, tensors, KernelsConfig()) is None
    with pytest.raises(FailedPrecondition, match=problem):
        whole_network(config, tensors, KernelsConfig("cpu"))


@built
def test_weights_in_another_format_are_left_to_torch():
    """A matrix in a format that cannot be packed is told by its name."""
    tensors = QuantisedTensors()
    tensors.replace("token_embd.weight", kind="Q6_K")

    assert whole_network(SMALL, tensors, KernelsConfig()) is None
    with pytest.raises(FailedPrecondition, match="Q6_K"):
        whole_network(SMALL, tensors, KernelsConfig("cpu"))


@built
def test_matrices_of_other_sizes_are_refused():
    """A matrix that does not fit the configuration never reaches a step."""
    tensors = QuantisedTensors()
    rows = tensors.matrix("blk.1.ffn_up.weight").rows
    tensors.replace("blk.1.ffn_up.weight", rows=rows[:-1])

    with pytest.raises(FailedPrecondition, match="feed-forward"):
        whole_network(SMALL, tensors, KernelsConfig("cpu"))


def test_a_library_that_is_no_library_is_not_available(tmp_path):
    """A damaged file is told, with what to do about it."""
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(b"not a library")

    with pytest.raises(native.NotAvailable, match=r"kernels\.cpu\.build"):
        native.library(damaged)


@built
def test_a_library_older_than_its_sources_is_not_used(monkeypatch, tmp_path):
    """What was built from other sources is never called."""
    copy = tmp_path / "old.so"
    copy.write_bytes(build.LIBRARY.read_bytes())
    monkeypatch.setattr(build, "source_hash", lambda: "0123456789abcdef")

    with pytest.raises(native.NotAvailable, match="older than their sources"):
        native.library(copy)


def test_a_build_without_a_compiler_says_so(monkeypatch, tmp_path):
    """The reason names what to install."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(build.BuildFailed, match="install g"):
        build.build(tmp_path / "kernels.so")


@built
async def test_helpers_sleep_when_there_is_nothing_to_do():
    """After a step the threads of the kernels wait without using the processor."""
    before = {thread.id for thread in psutil.Process().threads()}
    network = CpuNetwork(SMALL, QuantisedTensors())
    network.use_threads(3)
    cache = network.new_cache(4)
    expected = decode(network, cache, length=50)
    helpers = {thread.id for thread in psutil.Process().threads()} - before
    assert len(helpers) >= 2

    def asleep():
        tasks = pathlib.Path("/proc/self/task")
        states = [(tasks / str(helper) / "stat").read_text() for helper in helpers]
        return all(state.rpartition(")")[2].split()[0] == "S" for state in states)

    await eventually(asleep)
    assert torch.equal(decode(network, cache, length=50), expected), "woken, they work again"


@built
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinities here")
@pytest.mark.skipif(os.cpu_count() == 1, reason="a helper needs a core of its own")
def test_helpers_stay_off_the_core_of_who_waits_for_them():
    """Beside an idle core the system may wake them there, where they would have to wait."""
    before = {thread.id for thread in psutil.Process().threads()}
    network = whole_network(SMALL, QuantisedTensors())
    network.use_threads(2)
    decode(network, network.new_cache(40), length=600)
    own = os.sched_getaffinity(0)
    helpers = {
        thread.id
        for thread in psutil.Process().threads()
        if thread.id not in before and os.sched_getaffinity(thread.id) < own
    }

    assert len(helpers) == 1
    assert all(len(own - os.sched_getaffinity(helper)) == 1 for helper in helpers)


@built
def test_the_number_of_threads_may_change_between_steps():
    """Threads come and go, and the result stays."""
    network = CpuNetwork(SMALL, QuantisedTensors())
    cache = network.new_cache(4)
    expected = decode(network, cache, length=50)

    for count in (2, 4, 1, 3, 2, 1):
        network.use_threads(count)
        for _ in range(20):
            assert torch.equal(decode(network, cache, length=50), expected)


@built
@pytest.mark.parametrize("tier", STATUS.tiers)
@pytest.mark.parametrize("kv_cache", ["f16", "int10", "int8"])
def test_many_sequences_decode_as_each_does_alone(tier, kv_cache):
    """Products that fetch the pages of an attention on their way change no bits, however many
    threads there are and however long the contexts.
    """
    network = CpuNetwork(SMALL, QuantisedTensors(), tier=tier, kv_cache=kv_cache)
    lengths = [1, 200, 16, 17, 90, 33, 5, 140, 64]
    tables = [tuple(range(13 * place, 13 * place + 13)) for place in range(len(lengths))]
    cache = network.new_cache(13 * len(lengths))
    for length, table in zip(lengths, tables, strict=True):
        ids = torch.arange(length) % 7
        span = Span(0, length, length, table)
        network.step(StepBatch(ids, torch.arange(length), (span,)), cache)

    def step(places):
        spans = [Span(row, 1, lengths[at] + 1, tables[at]) for row, at in enumerate(places)]
        positions = torch.tensor([lengths[at] for at in places])
        ids = torch.tensor(places)
        return torch.as_tensor(network.step(StepBatch(ids, positions, tuple(spans)), cache))

    alone = torch.cat([step([place]) for place in range(len(lengths))])
    for threads in (1, 2, 3):
        network.use_threads(threads)
        assert torch.equal(step(list(range(len(lengths)))), alone)


@built
def test_steps_and_scores_of_several_threads_do_not_mix():
    """Callers on several threads each get their own results."""
    network = CpuNetwork(SMALL, QuantisedTensors())
    network.use_threads(2)
    expected = [decode(network, network.new_cache(2), token, 20) for token in range(4)]
    wrong = []

    def work(token):
        cache = network.new_cache(2)
        results = [decode(network, cache, token, 20) for _ in range(20)]
        results.append(scored(network, torch.full((20,), token))[-1:])
        wrong.extend(token for result in results if not torch.equal(result, expected[token]))

    workers = [threading.Thread(target=work, args=(token,)) for token in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert wrong == []


@built
@pytest.mark.slow
def test_a_forked_process_computes_too():
    """A fork has none of the threads, and does with new ones."""
    script = """
import os, sys
import numpy as np
sys.path.insert(0, "tests/fakes")
from quantised_network import SMALL, QuantisedTensors
from services.inference.kernels import CpuNetwork, Span, StepBatch
network = CpuNetwork(SMALL, QuantisedTensors())
network.use_threads(2)
batch = StepBatch(np.arange(40), np.arange(40), (Span(0, 40, 40, (0, 1, 2)),))
expected = network.step(batch, network.new_cache(3))
child = os.fork()
same = np.array_equal(network.step(batch, network.new_cache(3)), expected)
if child == 0:
    os._exit(0 if same else 1)
sys.exit(os.waitpid(child, 0)[1] or (0 if same else 1))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], timeout=60, check=False, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stderr


@built
@pytest.mark.skipif(sys.platform != "linux", reason="no mincore here")
async def test_the_next_prompt_finds_memory():
    """Once a step was: all layers of what nobody has written to yet."""
    network = CpuNetwork(SMALL, QuantisedTensors())
    cache = network.new_cache(64)
    decode(network, cache, length=20)

    await eventually(lambda: is_resident(cache.content[1]))


def is_resident(array):
    """Tell whether the system has given memory for all of an array."""
    start = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    size = array.ctypes.data + array.nbytes - start
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    assert not ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), pages)
    return all(page & 1 for page in pages)


@built
def test_pages_that_nobody_has_are_not_expected():
    """Tables may be longer than what is read, and the newest page may be the last one."""
    network = CpuNetwork(SMALL, QuantisedTensors())
    cache = network.new_cache(2)
    span = Span(0, 1, 1, (1, 99, -3))
    network.step(StepBatch(torch.tensor([1]), torch.tensor([0]), (span,)), cache)


@built
def test_only_what_is_packed_stays_resident():
    """The weights take what they take in the file, a little for whole tiles, and no more."""
    tensors = QuantisedTensors()
    stored = sum(tensors.matrix(name).rows.nbytes for name in tensors.kinds())

    network = CpuNetwork(SMALL, tensors)

    assert stored <= network.weight_bytes <= 1.1 * stored


@built
def test_scoring_an_empty_text_gives_no_rows():
    """No tokens, no logits."""
    network = CpuNetwork(SMALL, QuantisedTensors())

    assert network.score(torch.empty(0, dtype=torch.int64)).shape == (0, 200)


@built
@pytest.mark.slow
@pytest.mark.timeout(900)  # sanitizers are slow, and a compiler runs first
def test_nothing_is_out_of_bounds_or_undefined(tmp_path):
    """The suites of the kernels pass under the address and undefined-behaviour sanitizers."""
    library = build.build(tmp_path / "sanitized.so", sanitize=True)
    compiler = build.compiler()
    runtime = subprocess.run(
        [*compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not pathlib.Path(runtime).is_absolute():
        pytest.skip("the compiler brings no address sanitizer")
    script = f"""
import pathlib, sys, pytest
from services.inference.kernels.cpu import build
build.LIBRARY = pathlib.Path({str(library)!r})
outcome = pytest.main(["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout=600",
    "tests/conformance/test_network_implementations.py", "-k", "not [reference and not fork",
    *(f"tests/conformance/test_caches_and_sparsity.py::test_{{name}}" for name in (
        "prompts_attend_as_closely_as_bfloat16", "prompts_attend_as_closely_in_wider_heads",
        "what_a_row_reads_depends_on_its_own_sequence_only")),
    "tests/unit/inference/kernels/test_cpu_drawing.py",
    "tests/unit/inference/kernels/test_cpu_hostile.py",
    "tests/unit/inference/kernels/test_cpu_products.py",
    "tests/unit/inference/models/test_gguf_tensors.py"])
maps = open("/proc/self/maps").read()
assert "sanitized.so" in maps and "libthermesh_kernels" not in maps, "another library ran"
sys.exit(outcome)
"""
    environ = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }

    command = [sys.executable, "-c", script]
    result = subprocess.run(
        command, env=environ, timeout=900, check=False, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout
