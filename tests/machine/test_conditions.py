"""What is read of the machine around a run."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine.fake_pynvml import FakeGpu, FakePynvml
from velosweep.machine.conditions import CpuTimes, Monitor, busy_by_others, machine_seconds
from velosweep.machine.nvml import NvmlDriver
from velosweep.values import Device, Lane

CPU_LANE = Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))


def gpu_lane(*gpus):
    return Lane(
        number=0,
        devices=tuple(Device(kind="cuda", name=gpu.name, index=i, uuid=gpu.uuid) for i, gpu in enumerate(gpus)),
    )


def monitor(*gpus, **further):
    return Monitor(gpu_lane(*gpus), nvml=NvmlDriver(FakePynvml(*gpus)), **further)


def test_a_gpu_runs_conditions_are_read_and_its_energy_is_the_counters_difference():
    gpu = FakeGpu("GPU-a", "H100", temperature=63, clock=1755, power_mw=512_500, energy_mj=7_000_000)
    watching = monitor(gpu)
    watching.begin()
    gpu.energy_mj += 123_400

    conditions = watching.end()

    assert (conditions.gpu_temperature_c, conditions.gpu_clock_mhz, conditions.gpu_power_w) == (63, 1755, 512.5)
    assert pytest.approx(123.4) == conditions.energy_j
    assert conditions.throttle_reasons is None
    assert conditions.gpu_processes == 0


def test_a_group_of_gpus_has_the_hottest_the_slowest_and_the_sums():
    one = FakeGpu("GPU-a", "H100", temperature=50, clock=1980, power_mw=300_000, throttle=0x04)
    other = FakeGpu("GPU-b", "H100", temperature=70, clock=1500, power_mw=200_000, throttle=0x44)
    watching = monitor(one, other)
    watching.begin()
    one.energy_mj += 2000
    other.energy_mj += 3000

    conditions = watching.end()

    assert (conditions.gpu_temperature_c, conditions.gpu_clock_mhz, conditions.gpu_power_w, conditions.energy_j) == (
        70,
        1500,
        500.0,
        5.0,
    )
    assert conditions.throttle_reasons == "power cap, thermal (hardware)"


def test_what_a_card_can_not_tell_is_none():
    gpu = FakeGpu("GPU-a", "GT 710", refuses={"power", "energy", "temperature", "events", "throttle", "processes"})
    watching = monitor(gpu)
    watching.begin()

    conditions = watching.end()

    assert (
        conditions.gpu_temperature_c,
        conditions.gpu_power_w,
        conditions.energy_j,
        conditions.throttle_reasons,
        conditions.gpu_processes,
    ) == (None, None, None, None, None)
    assert conditions.gpu_clock_mhz == 1980


def test_throttle_reasons_are_read_from_drivers_before_535_too():
    gpu = FakeGpu("GPU-a", "H100", throttle=0x08, refuses={"events"})

    assert monitor(gpu).end().throttle_reasons == "hardware slowdown"


def test_idling_and_clocks_set_by_a_person_are_no_throttling():
    driver = NvmlDriver(FakePynvml(FakeGpu("GPU-a", "H100", throttle=0x1 | 0x2 | 0x100)))

    assert driver.reading("GPU-a").throttle == ()


def test_an_energy_counter_that_went_back_is_unknown():
    gpu = FakeGpu("GPU-a", "H100")
    watching = monitor(gpu)
    watching.begin()
    gpu.energy_mj = 5

    assert watching.end().energy_j is None


def test_without_a_beginning_energy_and_cpu_are_unknown():
    conditions = monitor(FakeGpu("GPU-a", "H100")).end()

    assert (conditions.energy_j, conditions.cpu_busy) == (None, None)


def test_only_other_processes_on_the_gpu_are_counted():
    gpu = FakeGpu("GPU-a", "H100", processes=[(100, 5 << 30), (200, None), (300, 1)])

    assert monitor(gpu, own_pids={100, 200}).end().gpu_processes == 1
    assert monitor(gpu).end().gpu_processes == 3


def test_in_a_container_where_ours_go_by_the_hosts_ids_no_process_is_called_anothers():
    gpu = FakeGpu("GPU-a", "H100", processes=[(70100, 5 << 30)])

    assert monitor(gpu, own_pids={100}).end().gpu_processes is None


def test_a_mig_instance_has_its_gpus_heat_but_no_energy():
    instance = FakeGpu("MIG-a", "H100 MIG 1g", temperature=99, processes=[(7, 1)])
    card = FakeGpu("GPU-a", "H100", temperature=55, instances=[instance])
    driver = NvmlDriver(FakePynvml(card))
    lane = Lane(number=0, devices=(Device(kind="cuda", name="H100 MIG 1g", uuid="MIG-a"),))
    watching = Monitor(lane, nvml=driver)
    watching.begin()

    conditions = watching.end()

    assert (conditions.gpu_temperature_c, conditions.energy_j, conditions.gpu_processes) == (55, None, 1)


def test_a_gpu_that_vanished_reads_as_unknown():
    watching = Monitor(gpu_lane(FakeGpu("GPU-gone", "H100")), nvml=NvmlDriver(FakePynvml()))
    watching.begin()

    assert watching.end().gpu_temperature_c is None


def test_a_cpu_lane_on_this_machine_reads_load_and_no_gpu():
    watching = Monitor(CPU_LANE, own_pids={os.getpid()})
    watching.begin()
    sum(range(3_000_000))

    conditions = watching.end()

    assert conditions.gpu_temperature_c is None
    assert conditions.load_average is None or conditions.load_average >= 0
    assert conditions.cpu_busy is None or 0 <= conditions.cpu_busy <= 1


def test_our_own_work_is_not_others():
    before = CpuTimes(busy_s=10, total_s=100, own_s={1: 3.0, 2: 1.0})
    after = CpuTimes(busy_s=15, total_s=110, own_s={1: 6.0, 2: 2.0})

    assert pytest.approx(0.1) == busy_by_others(before, after)


def test_a_server_started_meanwhile_counts_as_ours():
    before = CpuTimes(busy_s=10, total_s=100, own_s={1: 3.0})
    after = CpuTimes(busy_s=15, total_s=110, own_s={1: 3.0, 2: 5.0})

    assert busy_by_others(before, after) == 0


def test_a_program_that_ran_and_ended_meanwhile_is_ours():
    """As each run of engine=binaries is."""
    watching = Monitor(CPU_LANE)
    before = watching._seconds(os.getpid())
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)

    assert watching._seconds(os.getpid()) - before >= 0.4


def test_a_server_that_ended_after_its_run_is_not_taken_for_all_of_the_load():
    before = CpuTimes(busy_s=10, total_s=100, own_s={1: 3.0})
    after = CpuTimes(busy_s=15, total_s=110, own_s={1: 60.0})

    assert busy_by_others(before, after) is None


def test_load_by_others_is_unknown_where_one_of_ours_ended():
    before = CpuTimes(busy_s=10, total_s=100, own_s={1: 3.0, 2: 1.0})
    after = CpuTimes(busy_s=15, total_s=110, own_s={1: 6.0})

    assert busy_by_others(before, after) is None


@given(
    st.floats(0, 1e6), st.floats(-10, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)
)
def test_load_by_others_is_a_share_or_unknown(busy, busy_more, total, total_more, own, own_more):
    before = CpuTimes(busy_s=busy, total_s=total, own_s={1: own})
    after = CpuTimes(busy_s=busy + busy_more, total_s=total + total_more, own_s={1: own + own_more})

    share = busy_by_others(before, after)

    assert share is None or 0 <= share <= 1


def test_proc_stat_is_read_as_busy_and_total_seconds(tmp_path, monkeypatch):
    (tmp_path / "stat").write_text("cpu  100 20 30 800 50 1 2 3 9 9\ncpu0 1 2 3\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    ticks = os.sysconf("SC_CLK_TCK")

    assert machine_seconds() == pytest.approx((156 / ticks, 1006 / ticks))


def test_an_unreadable_proc_stat_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    missing = machine_seconds()
    (tmp_path / "stat").write_text("nonsense\n")

    assert (missing, machine_seconds()) == (None, None)
