"""Which devices become which lanes: the program's list, the driver's, and what was asked for."""

from __future__ import annotations

import pytest

from tests.machine.fake_pynvml import FakeGpu, FakePynvml
from velosweep.errors import ConfigError
from velosweep.machine.devices import device_key, find_lanes, visible_gpus
from velosweep.machine.nvml import NvmlDriver
from velosweep.values import Device

H100 = "NVIDIA H100 80GB HBM3"
RTX = "NVIDIA GeForce RTX 4090"


def cuda(number, name=H100):
    return Device(kind="cuda", name=name, index=number, program_name=f"CUDA{number}", memory_bytes=80 << 30)


def nvml(*gpus):
    return NvmlDriver(FakePynvml(*gpus))


def two_h100():
    return nvml(FakeGpu("GPU-aaaa1111", H100), FakeGpu("GPU-bbbb2222", H100))


def lanes(gpus=None, per_lane=1, program=(), driver=None, **further):
    return find_lanes(
        gpus=gpus,
        gpus_per_lane=per_lane,
        program_devices=program,
        nvml=driver,
        environ=further.pop("env", {}),
        **further,
    )


def test_each_gpu_of_the_program_becomes_a_lane_with_what_the_driver_knows():
    found = lanes(program=[cuda(0), cuda(1)], driver=two_h100())

    assert [lane.devices[0].uuid for lane in found] == ["GPU-aaaa1111", "GPU-bbbb2222"]
    assert [lane.devices[0].program_name for lane in found] == ["CUDA0", "CUDA1"]
    assert [lane.number for lane in found] == [0, 1]


def test_without_a_driver_library_the_programs_list_is_enough():
    (lane,) = lanes(program=[Device(kind="rocm", name="AMD Instinct MI300X", program_name="ROCm0")])

    assert (lane.devices[0].uuid, lane.devices[0].index, lane.devices[0].program_name) == (None, 0, "ROCm0")


def test_a_cpu_build_runs_on_the_cpu_and_says_that_a_gpu_stands_idle():
    notes = []

    (lane,) = lanes(program=[Device(kind="cpu", name="CPU")], driver=two_h100(), note=notes.append)

    assert lane.devices[0].kind == "cpu"
    assert len(notes) == 1
    assert H100 in notes[0]


def test_a_machine_without_any_gpu_has_one_cpu_lane_and_no_note():
    notes = []

    (lane,) = lanes(note=notes.append)

    assert (lane.devices[0].kind, lane.cores) == ("cpu", ())
    assert notes == []


def test_an_empty_list_of_gpus_means_the_cpu():
    (lane,) = lanes(gpus=[], program=[cuda(0)], driver=two_h100())

    assert lane.devices[0].kind == "cpu"


@pytest.mark.parametrize("name", [1, "1", "GPU-bbbb2222", "GPU-bbbb", "gpu-BBBB2", "CUDA1", "cuda1"])
def test_a_gpu_is_named_by_index_uuid_its_beginning_or_the_programs_name(name):
    (lane,) = lanes(gpus=[name], program=[cuda(0), cuda(1)], driver=two_h100())

    assert lane.devices[0].uuid == "GPU-bbbb2222"


def test_lanes_keep_the_order_in_which_gpus_are_named():
    found = lanes(gpus=[1, 0], program=[cuda(0), cuda(1)], driver=two_h100())

    assert [lane.devices[0].index for lane in found] == [1, 0]


def test_an_unknown_gpu_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match=r"'7'.*choose from 0 NVIDIA H100.*GPU-aaaa1111; 1 "):
        lanes(gpus=[7], program=[cuda(0), cuda(1)], driver=two_h100())


def test_a_beginning_that_fits_several_uuids_is_refused():
    driver = nvml(FakeGpu("GPU-aaaa1", H100), FakeGpu("GPU-aaaa2", H100))
    with pytest.raises(ConfigError, match="fits several GPUs"):
        lanes(gpus=["GPU-aaaa"], program=[cuda(0), cuda(1)], driver=driver)


def test_the_same_gpu_by_two_names_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        lanes(gpus=[0, "GPU-aaaa"], program=[cuda(0), cuda(1)], driver=two_h100())


def test_named_gpus_of_a_program_without_any_are_refused():
    with pytest.raises(ConfigError, match=r"gpus=\[0\], but this llama.cpp can use no GPU"):
        lanes(gpus=[0], driver=two_h100())


def test_gpus_are_grouped():
    driver = nvml(*(FakeGpu(f"GPU-{letter * 8}", H100) for letter in "abcd"))

    found = lanes(per_lane=2, program=[cuda(number) for number in range(4)], driver=driver)

    assert [[device.index for device in lane.devices] for lane in found] == [[0, 1], [2, 3]]
    assert f"{H100} + {H100}" == found[0].label


@pytest.mark.parametrize("per_lane", [0, 3, 4, -1])
def test_a_number_that_does_not_divide_is_refused(per_lane):
    with pytest.raises(ConfigError, match=f"2 GPUs can't be grouped by gpus_per_lane={per_lane}"):
        lanes(per_lane=per_lane, program=[cuda(0), cuda(1)], driver=two_h100())


def test_different_cards_are_joined_by_name_whatever_their_order():
    driver = nvml(FakeGpu("GPU-h", H100), FakeGpu("GPU-r", RTX))

    found = lanes(program=[cuda(0, RTX), cuda(1, H100)], driver=driver)

    assert [(lane.devices[0].program_name, lane.devices[0].uuid) for lane in found] == [
        ("CUDA0", "GPU-r"),
        ("CUDA1", "GPU-h"),
    ]


def test_cuda_visible_devices_hides_cards_from_the_join():
    (lane,) = lanes(program=[cuda(0)], driver=two_h100(), env={"CUDA_VISIBLE_DEVICES": "1"})

    assert (lane.devices[0].program_name, lane.devices[0].index, lane.devices[0].uuid) == ("CUDA0", 1, "GPU-bbbb2222")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["GPU-aaaa1111", "GPU-bbbb2222"]),
        ("", []),
        ("1,0", ["GPU-bbbb2222", "GPU-aaaa1111"]),
        ("GPU-b,0", ["GPU-bbbb2222", "GPU-aaaa1111"]),
        ("0,9,1", ["GPU-aaaa1111"]),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(value, expected):
    assert expected == [gpu.uuid for gpu in visible_gpus(two_h100().gpus(), value)]


def split_h100():
    instances = [FakeGpu(f"MIG-{letter * 8}", f"{H100} MIG 3g.40gb", total=40 << 30) for letter in "ab"]
    return FakeGpu("GPU-aaaa1111", H100, instances=instances)


def test_a_mig_instance_that_cuda_does_not_list_is_taken_by_its_uuid():
    (lane,) = lanes(gpus=["MIG-bbbb"], program=[cuda(0, f"{H100} MIG 3g.40gb")], driver=nvml(split_h100()))

    assert (lane.devices[0].uuid, lane.devices[0].memory_bytes) == ("MIG-bbbbbbbb", 40 << 30)


def test_a_gpu_that_is_split_is_refused_with_its_instances():
    with pytest.raises(ConfigError, match="split into MIG instances; name one of them: MIG-aaaaaaaa, MIG-bbbbbbbb"):
        lanes(gpus=["GPU-aaaa1111"], program=[cuda(0, f"{H100} MIG 3g.40gb")], driver=nvml(split_h100()))


def test_a_gpu_seen_by_two_back_ends_is_one_lane():
    vulkan = Device(kind="vulkan", name=H100, program_name="Vulkan0", index=0)

    found = lanes(program=[vulkan, cuda(0)], driver=nvml(FakeGpu("GPU-a", H100)))

    assert [lane.devices[0].program_name for lane in found] == ["CUDA0"]


@pytest.mark.parametrize(
    ("kind", "variable", "value", "expected"),
    [
        ("rocm", "HIP_VISIBLE_DEVICES", "2,3", [(2, None), (3, None)]),
        ("vulkan", "GGML_VK_VISIBLE_DEVICES", "1,0", [(1, None), (0, None)]),
        ("cuda", "CUDA_VISIBLE_DEVICES", "GPU-x,3", [(0, "GPU-x"), (3, None)]),
        ("rocm", "HIP_VISIBLE_DEVICES", "", [(0, None), (1, None)]),
    ],
)
def test_devices_behind_a_visibility_variable_keep_the_number_they_have_without_it(kind, variable, value, expected):
    program = [Device(kind=kind, name="GPU", program_name=f"X{number}", index=number) for number in range(2)]

    found = lanes(program=program, env={variable: value})

    assert expected == [(lane.devices[0].index, lane.devices[0].uuid) for lane in found]


def test_a_card_that_can_tell_little_is_found_all_the_same():
    driver = nvml(FakeGpu("GPU-old", "Tesla K80", refuses={"mig", "memory"}))

    (lane,) = lanes(program=[cuda(0, "Tesla K80")], driver=driver)

    assert (lane.devices[0].uuid, lane.devices[0].memory_bytes) == ("GPU-old", 80 << 30)


def test_cpu_lanes_beside_gpus_are_refused():
    with pytest.raises(ConfigError, match="cpu_lanes=2, but this sweep runs on GPUs"):
        lanes(program=[cuda(0)], cpu_lanes=2)


def test_devices_without_a_uuid_are_told_apart_by_kind_and_number():
    assert device_key(Device(kind="rocm", name="x", index=1)) == "rocm1"
    assert device_key(Device(kind="cuda", name="x", index=1, uuid="GPU-a")) == "GPU-a"
    assert device_key(Device(kind="cpu", name="x")) == "cpu"
