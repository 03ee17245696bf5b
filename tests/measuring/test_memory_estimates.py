"""What servers are expected to need, and how many of them fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.machine.fake_pynvml import FakeGpu, FakePynvml
from tests.measuring.headers import header
from tests.planning.jobs import job as make_job
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.machine.memory import GPU_MARGIN_BYTES
from velosweep.machine.nvml import NvmlDriver
from velosweep.measuring.memory_estimates import MemoryEstimates
from velosweep.planning.identity import speculative_server, vanilla_server
from velosweep.values import Device, Lane

GIB = 1 << 30
GPU_LANE = Lane(number=0, devices=(Device(kind="cuda", name="H100", uuid="GPU-a"),))
CPU_LANE = Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))
JOB = make_job()
VANILLA = vanilla_server(JOB)


def estimates(
    gpu: FakeGpu | None = None, *, kv_elements: int | None = None, main_bytes: int = 5 * GIB
) -> MemoryEstimates:
    headers = {"main.gguf": header(main_bytes, kv_elements), "draft.gguf": header(GIB, kv_elements)}
    if gpu is None:
        return MemoryEstimates(lane=CPU_LANE, headers=headers)
    return MemoryEstimates(lane=GPU_LANE, headers=headers, nvml=NvmlDriver(FakePynvml(gpu)))


@dataclass
class Session:
    """A loaded server, as far as memory goes."""

    held: int | None
    pid: int | None = 10
    alive: bool = True

    def memory_bytes(self) -> int | None:
        return self.held

    def wait_ready(self, timeout_s: float) -> None: ...

    def generate(self, request: Any, *, timeout_s: float) -> Any: ...

    def close(self) -> None: ...


def test_a_server_is_expected_to_take_what_the_headers_of_its_models_say() -> None:
    small, large = (estimates(kv_elements=n).need(VANILLA) for n in (1000, 2000))

    assert large.file_bytes == 5 * GIB
    assert large.private_bytes - small.private_bytes == VANILLA.engine.context * 1000 * 2  # f16


def test_the_draft_models_cache_counts_too() -> None:
    server = speculative_server(JOB)
    assert server is not None
    small, large = (estimates(kv_elements=n).need(server) for n in (1000, 2000))

    assert large.file_bytes == 6 * GIB
    assert large.private_bytes - small.private_bytes == 2 * server.engine.context * 1000 * 2


def test_what_a_server_was_seen_to_hold_replaces_the_estimate_and_the_most_is_kept() -> None:
    memory = estimates()

    assert [memory.learn(VANILLA, Session(held * GIB)) for held in (7, 6)] == [7 * GIB, 6 * GIB]
    assert memory.need(VANILLA).private_bytes == 2 * GIB


@pytest.mark.parametrize("held", [None, 0, 3 * GIB])
def test_a_measurement_that_is_missing_or_below_the_files_size_says_nothing_of_the_rest(held: int | None) -> None:
    memory = estimates()
    before = memory.need(VANILLA)
    memory.learn(VANILLA, Session(held))

    assert memory.need(VANILLA) == before


def test_on_a_gpu_the_driver_says_what_a_server_holds() -> None:
    memory = estimates(FakeGpu("GPU-a", "H100", processes=[(10, 8 * GIB), (11, GIB)]))

    assert memory.learn(VANILLA, Session(held=1)) == 8 * GIB
    assert memory.learn(VANILLA, Session(held=1, pid=None)) is None
    assert memory.need(VANILLA).total_bytes == 8 * GIB


def on_gpu(server: ServerConfig, **engine: Any) -> ServerConfig:
    return replace(server, engine=replace(server.engine, **engine))


def test_layers_that_are_left_to_the_cpu_take_no_room_on_the_gpu() -> None:
    memory = estimates(FakeGpu("GPU-a", "H100", free=8 * GIB), main_bytes=40 * GIB)
    memory.headers = {path: replace(header, layers=79) for path, header in memory.headers.items()}

    assert [memory.need(on_gpu(VANILLA, gpu_layers=layers)).file_bytes // GIB for layers in (0, 8, 80, 999)] == [
        0, 4, 40, 40,
    ]  # fmt: skip
    assert memory.refusal(on_gpu(VANILLA, gpu_layers=8), [VANILLA]) is None
    refused = memory.refusal(on_gpu(VANILLA, gpu_layers=80), [VANILLA])
    assert refused is not None
    assert (refused.remedy or "").endswith("lower engine.context or engine.gpu_layers")


def test_on_a_gpu_a_server_is_tried_alone_whatever_is_expected_and_then_known() -> None:
    """With n_cpu_moe, say, or a sliding window: what it takes of the GPU only a load shows."""
    memory = estimates(FakeGpu("GPU-a", "H100", free=8 * GIB, processes=[(10, 3 * GIB)]), main_bytes=40 * GIB)
    server = on_gpu(VANILLA, n_cpu_moe=30)

    assert memory.refusal(server, []) is None
    assert memory.refusal(server, [VANILLA]) is not None
    memory.learn(server, Session(None))
    assert memory.need(server).total_bytes == 3 * GIB
    assert memory.refusal(server, [VANILLA]) is None


def test_servers_without_a_model_of_ours_need_no_files() -> None:
    somebodys = replace(VANILLA, engine=replace(VANILLA.engine, kind="attached"))
    attached = MemoryEstimates(lane=CPU_LANE, headers={}).need(somebodys)

    assert attached.total_bytes == 0


def test_as_many_servers_are_resident_as_fit() -> None:
    def resident(free_gib: int) -> int:
        gpu = FakeGpu("GPU-a", "H100", free=free_gib * GIB + GPU_MARGIN_BYTES, processes=[(10, 8 * GIB)])
        memory = estimates(gpu)
        server = speculative_server(JOB)
        assert server is not None
        memory.learn(server, Session(None))
        return memory.resident_servers(JOB)

    assert [resident(free_gib) for free_gib in (4, 16, 23, 24, 80, 5000)] == [0, 2, 2, 3, 10, 64]


def refusal(memory: MemoryEstimates, loaded: int, loading: int = 0) -> str | None:
    refused = memory.refusal(VANILLA, [VANILLA] * loaded, [VANILLA] * loading)
    return None if refused is None else refused.message


@pytest.mark.parametrize(("loaded", "said"), [(1, "beside 1 loaded server"), (2, "beside 2 loaded servers")])
def test_a_server_without_room_is_refused_with_what_is_loaded_beside_it(loaded: int, said: str) -> None:
    words = refusal(estimates(FakeGpu("GPU-a", "H100", free=GIB)), loaded)

    assert words is not None
    assert words.endswith(said)


def test_what_is_still_loading_takes_room_that_is_free_now() -> None:
    memory = estimates(FakeGpu("GPU-a", "H100", free=15 * GIB, processes=[(10, 6 * GIB)]))
    memory.learn(VANILLA, Session(None))

    assert [refusal(memory, 0, loading) is None for loading in (0, 1, 2)] == [True, True, False]
