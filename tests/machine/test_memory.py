"""What fits into a lane's memory beside what is loaded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.machine.fake_pynvml import FakeGpu, FakePynvml
from velosweep.machine.memory import (
    GPU_MARGIN_BYTES,
    MemoryNeed,
    cache_bytes,
    expected_need,
    fits,
    free_bytes,
    gpu_bytes_of_process,
)
from velosweep.machine.nvml import NvmlDriver
from velosweep.values import Device, Lane

GIB = 1 << 30
CPU_LANE = Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))
GPU_LANE = Lane(number=0, devices=(Device(kind="cuda", name="H100", uuid="GPU-a"),))

needs = st.builds(
    MemoryNeed,
    files=st.lists(st.tuples(st.sampled_from(["/m/a", "/m/b", "/m/c"]), st.just(5 * GIB)), max_size=2).map(tuple),
    private_bytes=st.integers(0, 8 * GIB),
)


def need(private_gib, *files):
    return MemoryNeed(files=tuple((path, size * GIB) for path, size in files), private_bytes=private_gib * GIB)


def test_mapped_weights_count_once_for_all_servers_of_a_model():
    vanilla = need(1, ("/m/main", 10))
    speculative = need(1, ("/m/main", 10), ("/m/draft", 2))

    # mapped 10 + 2 and 1 of its own: 13, though the two servers hold 24 by themselves
    assert fits(speculative, resident=[vanilla], free_bytes=13 * GIB, shared_files=True)
    assert not fits(speculative, resident=[vanilla], free_bytes=13 * GIB - 1, shared_files=True)


def test_another_models_mapped_weights_stay_counted():
    other, new = need(1, ("/m/other", 10)), need(1, ("/m/main", 10))

    assert fits(new, resident=[other], free_bytes=21 * GIB, shared_files=True)
    assert not fits(new, resident=[other], free_bytes=21 * GIB - 1, shared_files=True)


def test_on_a_gpu_every_server_has_its_own_copy():
    speculative = need(1, ("/m/main", 10), ("/m/draft", 2))

    assert fits(speculative, resident=[speculative], free_bytes=13 * GIB, shared_files=False)
    assert not fits(speculative, resident=[speculative], free_bytes=13 * GIB - 1, shared_files=False)


def test_where_free_memory_is_unknown_one_server_at_a_time_is_loaded():
    assert fits(need(1), resident=[], free_bytes=None, shared_files=False)
    assert not fits(need(1), resident=[need(1)], free_bytes=None, shared_files=False)


@given(needs, st.lists(needs, max_size=4), st.integers(0, 64 * GIB), st.booleans())
def test_more_free_memory_never_takes_room_away(new, resident, free, shared):
    if fits(new, resident=resident, free_bytes=free, shared_files=shared):
        assert fits(new, resident=resident, free_bytes=free + GIB, shared_files=shared)


@given(needs, st.lists(needs, max_size=4), st.integers(0, 64 * GIB))
def test_another_resident_never_makes_room(new, resident, free):
    if not fits(new, resident=resident, free_bytes=free, shared_files=True):
        assert not fits(new, resident=[*resident, new], free_bytes=free, shared_files=True)


def test_the_first_estimate_holds_files_cache_and_buffers():
    estimate = expected_need(
        files=(("/m/main", 16 * GIB), ("/m/draft", 2 * GIB)), context=4096, kv_bytes_per_token=131072
    )

    assert estimate.file_bytes == 18 * GIB
    assert 4096 * 131072 < estimate.private_bytes < 2 * GIB


def test_a_file_that_is_main_and_draft_counts_once():
    assert expected_need(files=(("/m/x", 16 * GIB), ("/m/x", 16 * GIB)), context=1).file_bytes == 16 * GIB


def test_a_gpus_free_memory_is_the_drivers_less_a_margin():
    driver = NvmlDriver(FakePynvml(FakeGpu("GPU-a", "H100", free=40 * GIB)))

    assert free_bytes(GPU_LANE, nvml=driver) == 40 * GIB - GPU_MARGIN_BYTES
    assert free_bytes(GPU_LANE, nvml=None) is None


def test_a_group_has_what_its_fullest_gpu_allows_on_each():
    driver = NvmlDriver(FakePynvml(FakeGpu("GPU-a", "H100", free=40 * GIB), FakeGpu("GPU-b", "H100", free=10 * GIB)))
    lane = Lane(number=0, devices=tuple(Device(kind="cuda", name="H100", uuid=f"GPU-{x}") for x in "ab"))

    assert free_bytes(lane, nvml=driver) == 2 * (10 * GIB - GPU_MARGIN_BYTES)


def test_what_a_server_holds_on_a_gpu_is_the_drivers_word():
    gpu = FakeGpu("GPU-a", "H100", processes=[(10, 3 * GIB), (11, 4 * GIB), (99, GIB)])
    driver = NvmlDriver(FakePynvml(gpu))

    assert gpu_bytes_of_process(GPU_LANE, 11, driver) == 4 * GIB
    assert gpu_bytes_of_process(GPU_LANE, 12, driver) is None
    gpu.processes.append((12, None))
    assert gpu_bytes_of_process(GPU_LANE, 12, driver) is None
    assert gpu_bytes_of_process(CPU_LANE, 11, driver) is None


def test_a_control_groups_limit_bounds_the_cpus_free_memory(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n")
    group = tmp_path / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{2 * GIB}\n")
    (group / "memory.current").write_text(f"{2 * GIB}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 2}\nactive_file {GIB // 4}\n")

    bounded = free_bytes(CPU_LANE, root=tmp_path)
    (group / "memory.max").write_text("max\n")
    unbounded = free_bytes(CPU_LANE, root=tmp_path)

    assert bounded < 3 * GIB // 4
    assert unbounded >= bounded


def test_a_cache_of_8b_takes_128_kib_a_token_at_f16_and_a_quarter_at_q4_0():
    elements = 32 * 8 * 256

    assert cache_bytes(elements, type_k="f16", type_v="f16") == 128 << 10
    assert cache_bytes(elements, type_k="q4_0", type_v="q4_0") == 36 << 10
    assert cache_bytes(elements, type_k="f16", type_v="q4_0") == 82 << 10
