"""From what programs printed on real machines to lanes, and to what a child of each lane is shown.

The lists are from llama.cpp's issue threads (#16659, #11424, ollama #16508) and of their form; NVML is a stand-in.
"""

from __future__ import annotations

import pytest

from tests.machine.fake_pynvml import FakeGpu, FakePynvml
from velosweep.llama_cpp.capabilities import parse_list, pinning_environment
from velosweep.machine.devices import find_lanes
from velosweep.machine.nvml import NvmlDriver

TWO_CUDA = """ggml_cuda_init: found 2 CUDA devices (Total VRAM: 35936 MiB):
  Device 0: NVIDIA GeForce RTX 3080 Ti, compute capability 8.6, VMM: yes, VRAM: 11909 MiB
  Device 1: NVIDIA RTX PRO 4000 Blackwell SFF Edition, compute capability 12.0, VMM: yes, VRAM: 24026 MiB
Available devices:
  CUDA0: NVIDIA GeForce RTX 3080 Ti (11909 MiB, 11650 MiB free)
  CUDA1: NVIDIA RTX PRO 4000 Blackwell SFF Edition (24026 MiB, 23795 MiB free)
"""
ONE_VULKAN = """ggml_vulkan: Found 1 Vulkan devices:
ggml_vulkan: 0 = NVIDIA GeForce RTX 2060 (NVIDIA) | uma: 0 | fp16: 1 | bf16: 1 | warp size: 32
Available devices:
  Vulkan0: NVIDIA GeForce RTX 2060 (6144 MiB, 5136 MiB free)
"""
TWO_ROCM = """Available devices:
  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24522 MiB free)
  ROCm1: AMD Radeon RX 7900 XTX (24560 MiB, 24522 MiB free)
"""
CUDA_AND_VULKAN = """Available devices:
  CUDA0: NVIDIA GeForce RTX 2060 (6144 MiB, 5136 MiB free)
  Vulkan0: NVIDIA GeForce RTX 2060 (6144 MiB, 5136 MiB free)
  Vulkan1: Intel(R) UHD Graphics 630 (CFL GT2) (23972 MiB, 23972 MiB free)
"""
WITH_RPC = """Available devices:
  RPC[10.0.0.2:50052]: RPC[10.0.0.2:50052] (24000 MiB, 23000 MiB free)
  CUDA0: NVIDIA GeForce RTX 2060 (6144 MiB, 5136 MiB free)
"""
METAL = """Available devices:
  Metal: Apple M2 Max (49152 MiB, 49146 MiB free)
  BLAS: Accelerate (0 MiB, 0 MiB free)
"""
NONE = "Available devices:\n  (none)\n"

RTX_2060 = FakeGpu("GPU-2060", "NVIDIA GeForce RTX 2060", total=6144 << 20)
PAIR = (
    FakeGpu("GPU-3080", "NVIDIA GeForce RTX 3080 Ti", total=12288 << 20),
    FakeGpu("GPU-4000", "NVIDIA RTX PRO 4000 Blackwell SFF Edition", total=24467 << 20),
)


def found(text, *gpus, wanted=None, environ=None, per_lane=1):
    return find_lanes(
        gpus=wanted,
        gpus_per_lane=per_lane,
        program_devices=parse_list(text),
        nvml=NvmlDriver(FakePynvml(*gpus)) if gpus else None,
        environ=environ or {},
    )


def shown(lane):
    return {name: value for name, value in pinning_environment(lane).items() if value is not None}


def test_each_cuda_lane_shows_its_child_one_gpu_by_uuid():
    one, other = found(TWO_CUDA, *PAIR)

    assert shown(one) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-3080"}
    assert shown(other)["CUDA_VISIBLE_DEVICES"] == "GPU-4000"


def test_a_group_shows_its_child_all_its_gpus_in_order():
    (lane,) = found(TWO_CUDA, *PAIR, wanted=[1, 0], per_lane=2)

    assert shown(lane)["CUDA_VISIBLE_DEVICES"] == "GPU-4000,GPU-3080"


def test_the_second_of_two_cards_is_shown_where_the_first_is_hidden_from_us():
    text = "Available devices:\n  CUDA0: NVIDIA RTX PRO 4000 Blackwell SFF Edition (24026 MiB, 23795 MiB free)\n"

    (lane,) = found(text, *PAIR, environ={"CUDA_VISIBLE_DEVICES": "1"})

    assert shown(lane)["CUDA_VISIBLE_DEVICES"] == "GPU-4000"


def test_without_nvml_cuda_is_pinned_by_number():
    _, other = found(TWO_CUDA)

    assert shown(other)["CUDA_VISIBLE_DEVICES"] == "1"


def test_rocm_is_pinned_by_number():
    _, other = found(TWO_ROCM)

    assert shown(other) == {"HIP_VISIBLE_DEVICES": "1"}


def test_rocm_behind_a_mask_is_pinned_by_the_number_outside_it():
    one, _ = found(TWO_ROCM, environ={"HIP_VISIBLE_DEVICES": "2,3"})

    assert shown(one) == {"HIP_VISIBLE_DEVICES": "2"}


def test_vulkan_is_pinned_by_number_and_known_to_nvml_by_its_name():
    (lane,) = found(ONE_VULKAN, FakeGpu("GPU-other", "NVIDIA H100 80GB HBM3"), RTX_2060)

    assert shown(lane) == {"GGML_VK_VISIBLE_DEVICES": "0"}
    assert lane.devices[0].uuid == "GPU-2060"


def test_a_vulkan_card_with_a_twin_stays_without_uuid():
    (lane,) = found(ONE_VULKAN, RTX_2060, FakeGpu("GPU-twin", "NVIDIA GeForce RTX 2060"))

    assert lane.devices[0].uuid is None


def test_of_a_program_with_two_back_ends_the_faster_is_used():
    (lane,) = found(CUDA_AND_VULKAN, RTX_2060)

    assert (lane.devices[0].kind, lane.devices[0].uuid) == ("cuda", "GPU-2060")


def test_another_machines_gpu_by_rpc_is_no_lane():
    (lane,) = found(WITH_RPC, RTX_2060)

    assert lane.devices[0].program_name == "CUDA0"


def test_apples_gpu_is_one_lane_and_needs_no_pinning():
    (lane,) = found(METAL)

    assert (lane.devices[0].kind, lane.devices[0].name) == ("metal", "Apple M2 Max")
    assert shown(lane) == {}


@pytest.mark.parametrize("gpus", [(), PAIR])
def test_a_program_without_any_gpu_runs_on_the_cpu_and_its_child_sees_none(gpus):
    (lane,) = found(NONE, *gpus)

    assert lane.devices[0].kind == "cpu"
    assert shown(lane)["CUDA_VISIBLE_DEVICES"] == ""
