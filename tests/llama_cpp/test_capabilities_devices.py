"""Devices as llama.cpp's back ends list them, and the variables that confine a child."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llama_cpp.servers import CPU, gpu_lane
from velosweep.errors import ProgramError
from velosweep.llama_cpp.capabilities import (
    capabilities_of,
    list_devices,
    parse_list,
    pinning_environment,
    visible_names,
)

LISTS = {
    "cuda": (
        "ggml_cuda_init: found 2 CUDA devices:\nAvailable devices:\n"
        "  CUDA0: NVIDIA H100 80GB HBM3 (81079 MiB, 80555 MiB free)\n"
        "  CUDA1: NVIDIA GeForce RTX 4090 (24080 MiB, 23012 MiB free)\n",
        [("cuda", 0, "CUDA0", "NVIDIA H100 80GB HBM3"), ("cuda", 1, "CUDA1", "NVIDIA GeForce RTX 4090")],
    ),
    "rocm": (
        "Available devices:\n  ROCm0: AMD Radeon RX 7900 XTX (24560 MiB, 24508 MiB free)\n",
        [("rocm", 0, "ROCm0", "AMD Radeon RX 7900 XTX")],
    ),
    "vulkan": (
        "Available devices:\n  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 23000 MiB free)\n"
        "  Vulkan1: Intel(R) Arc(tm) A770 Graphics (DG2) (16288 MiB, 16288 MiB free)\n",
        [
            ("vulkan", 0, "Vulkan0", "AMD Radeon RX 7900 XTX (RADV NAVI31)"),
            ("vulkan", 1, "Vulkan1", "Intel(R) Arc(tm) A770 Graphics (DG2)"),
        ],
    ),
    "metal": (
        "Available devices:\n  Metal: Apple M2 Max (49152 MiB, 49151 MiB free)\n  BLAS: Apple (0 MiB, 0 MiB free)\n",
        [("metal", None, "Metal", "Apple M2 Max")],
    ),
    "metal of 2026": (
        "Available devices:\n  MTL0: Apple M4 (12124 MiB, 12123 MiB free)\n",
        [("metal", 0, "MTL0", "Apple M4")],
    ),
    "sycl": (
        "Available devices:\n  SYCL0: Intel(R) Data Center GPU Max 1100 (48946 MiB, 48946 MiB free)\n",
        [("sycl", 0, "SYCL0", "Intel(R) Data Center GPU Max 1100")],
    ),
    "cpu": ("Available devices:\n  (none)\n", []),
    "rpc": ("Available devices:\n  RPC0: 10.0.0.1:50052 (8000 MiB, 8000 MiB free)\n", []),
}


@pytest.mark.parametrize("name", LISTS)
def test_each_back_ends_list_is_read(name: str) -> None:
    text, expected = LISTS[name]

    assert expected == [(device.kind, device.index, device.program_name, device.name) for device in parse_list(text)]


DIES = "case $1 in --help) echo '-m, --model FNAME'; echo '--list-devices';; {question}) {first} kill -SEGV $$;; esac"


@pytest.mark.parametrize("question", ["--version", "--list-devices"])
def test_a_program_that_a_signal_ended_is_asked_once_more(tmp_path: Path, question: str) -> None:
    answer = "version: 7 (abc)" if question == "--version" else LISTS["metal"][0].replace("\n", "\\n")
    program = script(
        tmp_path, DIES.format(question=question, first=f'[ -e asked ] && printf "{answer}" && exit; > asked;')
    )
    found = capabilities_of(program)
    devices = list_devices(found.program)

    assert found.build == ("7 (abc)" if question == "--version" else "unknown")
    assert [device.name for device in devices] == ([] if question == "--version" else ["Apple M2 Max"])


def test_a_program_that_dies_of_the_question_for_its_devices_is_not_taken_for_one_without_any(tmp_path: Path) -> None:
    program = script(tmp_path, DIES.format(question="--list-devices", first=""))

    with pytest.raises(ProgramError, match=r"doesn't say which GPUs there are .killed by SIGSEGV"):
        list_devices(program)


def script(folder: Path, text: str) -> str:
    """A program; it is run in its own folder."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


def test_a_memory_of_thousands_of_digits_is_no_device() -> None:
    assert parse_list(LISTS["cuda"][0].replace("81079", "9" * 5000))[0].program_name == "CUDA1"


def test_memory_is_the_total_in_bytes() -> None:
    assert parse_list(LISTS["cuda"][0])[0].memory_bytes == 81079 << 20


def test_cuda_lanes_are_pinned_by_uuid_in_the_order_of_the_bus() -> None:
    environment = pinning_environment(gpu_lane("GPU-a", "GPU-b"))

    assert environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}


def test_a_cuda_lane_without_uuid_is_pinned_by_index() -> None:
    assert pinning_environment(gpu_lane("", ""))["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_rocm_lanes_are_pinned_by_index_or_by_rocrs_uuid() -> None:
    assert pinning_environment(gpu_lane("", kind="rocm", prefix="ROCm")) == {"HIP_VISIBLE_DEVICES": "0"}
    assert pinning_environment(gpu_lane("GPU-00ff", kind="rocm", prefix="ROCm")) == {
        "ROCR_VISIBLE_DEVICES": "GPU-00ff",
        "HIP_VISIBLE_DEVICES": None,
    }


def test_vulkan_and_sycl_lanes_have_their_own_variables() -> None:
    assert pinning_environment(gpu_lane("", "", kind="vulkan", prefix="Vulkan")) == {"GGML_VK_VISIBLE_DEVICES": "0,1"}
    assert pinning_environment(gpu_lane("", kind="sycl", prefix="SYCL")) == {"ONEAPI_DEVICE_SELECTOR": "level_zero:0"}


def test_a_cpu_lane_hides_every_gpu() -> None:
    environment = pinning_environment(CPU)

    assert (environment["CUDA_VISIBLE_DEVICES"], environment["GGML_VK_VISIBLE_DEVICES"]) == ("", "")


def test_what_is_visible_is_numbered_from_nought() -> None:
    lane = gpu_lane("GPU-a", "GPU-b", "GPU-c")

    assert visible_names(replace(lane, devices=lane.devices[1:])) == ["CUDA0", "CUDA1"]
    assert visible_names(gpu_lane("", kind="metal", prefix="MTL")) == ["MTL0"]


def test_a_device_whose_name_is_unknown_is_not_named() -> None:
    lane = gpu_lane("GPU-a")

    assert visible_names(replace(lane, devices=(replace(lane.devices[0], program_name=None),))) == []


@given(st.text())
def test_no_list_breaks_the_parser(text: str) -> None:
    parse_list(text)
