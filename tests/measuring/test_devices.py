from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measuring.fake_pynvml import FakeGpu, FakePynvml
from velosweep.errors import ConfigError
from velosweep.machine.cores import (
    check_threads,
    cpu_quota,
    crowded,
    physical_cores,
    resolve_threads,
    share_cores,
    usable_core_count,
)
from velosweep.machine.lanes import device_key, find_lanes, visible_gpus
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

    assert (
        lane.devices[0].program_name,
        lane.devices[0].index,
        lane.devices[0].uuid,
    ) == ("CUDA0", 1, "GPU-bbbb2222")


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


# ---------------------------------------------------------------- cores


@given(lanes=st.integers(2, 64), cores=st.integers(1, 128), smt=st.integers(1, 2))
def test_cpu_lanes_never_share_a_core_and_are_equally_large(lanes, cores, smt):
    machine = tuple(tuple(core + cores * thread for thread in range(smt)) for core in range(cores))
    if lanes > cores:
        with pytest.raises(ConfigError, match="physical cores"):
            share_cores(lanes, machine)
        return

    shares = share_cores(lanes, machine)

    flat = [processor for share in shares for processor in share]
    assert lanes == len(shares)
    assert len(flat) == len(set(flat))
    assert len({len(share) for share in shares}) == 1
    assert len(flat) < cores * smt or cores - 1 < lanes


def test_two_lanes_on_two_cores_get_one_each():
    assert share_cores(2, ((0,), (1,))) == ((0,), (1,))


def test_one_cpu_lane_is_not_confined():
    assert share_cores(1, ((0,), (1,))) == ((),)


@pytest.mark.parametrize(
    ("lanes", "requested", "cores", "expected"),
    [(1, None, 16, 15), (2, None, 16, 7), (2, None, 2, 1), (8, None, 4, 1), (1, None, 1, 1), (3, 12, 4, 12)],
)
def test_threads_leave_one_core_free_and_are_at_least_one(lanes, requested, cores, expected):
    assert expected == resolve_threads(lanes, requested, cores=cores)


def test_threads_below_one_are_refused():
    with pytest.raises(ConfigError, match=r"engine\.threads is 0"):
        resolve_threads(1, 0)


def test_threads_beyond_any_sense_are_refused():
    check_threads(None, processors=2)
    check_threads(8, processors=2)
    with pytest.raises(ConfigError, match=r"engine\.threads is 9, and this machine has 2 logical cores"):
        check_threads(9, processors=2)


@pytest.mark.parametrize(
    ("threads", "lanes", "processors", "said"),
    [
        (2, 1, 2.0, None),
        (3, 1, 2.0, "engine.threads is 3, and 2 logical cores are ours"),
        (2, 1, 1.5, "1.5 logical cores"),
        (1, 2, 2.0, None),
        (2, 2, 2.0, "2 lanes of 2 threads each"),
    ],
)
def test_more_threads_than_cores_are_doubted(threads, lanes, processors, said):
    doubt = crowded(threads, lanes=lanes, processors=processors)

    assert doubt is None if said is None else said in doubt


def machine(tmp_path, monkeypatch, *, processors, affinity=None, smt=1):
    """A recorded-like /sys and /proc: `processors` logical ones, siblings far apart as on x86."""
    cores = processors // smt
    for processor in range(processors):
        topology = tmp_path / "sys/devices/system/cpu" / f"cpu{processor}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{processor % cores}\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(affinity or range(processors)), raising=False)
    return {"sys_root": tmp_path / "sys", "proc_root": tmp_path / "proc"}


def test_hyperthreads_of_a_core_count_once(tmp_path, monkeypatch):
    roots = machine(tmp_path, monkeypatch, processors=8, smt=2)

    assert physical_cores(**roots) == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_cores_outside_the_affinity_mask_are_not_ours(tmp_path, monkeypatch):
    roots = machine(tmp_path, monkeypatch, processors=8, smt=2, affinity={0, 1, 4})

    assert physical_cores(**roots) == ((0, 4), (1,))


def test_the_quota_of_a_control_group_above_ours_bounds_the_cores(tmp_path, monkeypatch):
    roots = machine(tmp_path, monkeypatch, processors=64)
    (tmp_path / "proc/self/cgroup").write_text("0::/user.slice/job_7\n")
    (tmp_path / "sys/fs/cgroup/user.slice/job_7").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/user.slice/job_7/cpu.max").write_text("max 100000\n")
    (tmp_path / "sys/fs/cgroup/user.slice/cpu.max").write_text("400000 100000\n")

    assert cpu_quota(**roots) == 4.0
    assert usable_core_count(**roots) == 4


def test_the_quota_of_version_1_control_groups_is_read(tmp_path, monkeypatch):
    roots = machine(tmp_path, monkeypatch, processors=64)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/\n3:cpu,cpuacct:/docker/abc\n")
    folder = tmp_path / "sys/fs/cgroup/cpu,cpuacct/docker/abc"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")

    assert cpu_quota(**roots) == 2.5
    assert usable_core_count(**roots) == 2


def test_no_quota_is_no_bound(tmp_path, monkeypatch):
    roots = machine(tmp_path, monkeypatch, processors=2)

    assert cpu_quota(**roots) is None
    assert usable_core_count(**roots) == 2


def test_this_machine_has_a_core_for_us():
    assert 1 <= usable_core_count() <= len(physical_cores())
