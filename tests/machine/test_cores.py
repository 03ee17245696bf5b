"""Which cores are ours, how lanes divide them, and how many threads that gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.errors import ConfigError
from velosweep.machine.cores import (
    check_threads,
    cpu_quota,
    oversubscription,
    physical_cores,
    quota_throttled_s,
    resolve_threads,
    share_cores,
    usable_core_count,
)


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


def test_many_times_more_threads_than_processors_are_refused():
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
def test_more_threads_than_cores_are_warned_of(threads, lanes, processors, said):
    words = oversubscription(threads, lanes=lanes, processors=processors)

    assert words is None if said is None else said in words


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


def test_hyperthreads_of_a_core_count_once(tmp_path, monkeypatch):
    machine(tmp_path, monkeypatch, processors=8, smt=2)

    assert physical_cores(tmp_path) == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_cores_outside_the_affinity_mask_are_not_ours(tmp_path, monkeypatch):
    machine(tmp_path, monkeypatch, processors=8, smt=2, affinity={0, 1, 4})

    assert physical_cores(tmp_path) == ((0, 4), (1,))


def test_the_quota_of_a_control_group_above_ours_bounds_the_cores(tmp_path, monkeypatch):
    machine(tmp_path, monkeypatch, processors=64)
    (tmp_path / "proc/self/cgroup").write_text("0::/user.slice/job_7\n")
    (tmp_path / "sys/fs/cgroup/user.slice/job_7").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/user.slice/job_7/cpu.max").write_text("max 100000\n")
    (tmp_path / "sys/fs/cgroup/user.slice/cpu.max").write_text("400000 100000\n")

    assert cpu_quota(tmp_path) == 4.0
    assert usable_core_count(tmp_path) == 4


@pytest.mark.parametrize(
    ("cgroup", "place", "stat"),
    [
        ("0::/job", "job", "nr_periods 9\nnr_throttled 4\nthrottled_usec 2500000\n"),
        ("3:cpu,cpuacct:/docker/abc", "cpu,cpuacct/docker/abc", "nr_throttled 4\nthrottled_time 2500000000\n"),
        ("0::/job", "job", "nr_throttled 0\n"),
    ],
)
def test_the_time_that_a_quota_took_is_read_from_both_versions(tmp_path, monkeypatch, cgroup, place, stat):
    machine(tmp_path, monkeypatch, processors=4)
    (tmp_path / "proc/self/cgroup").write_text(f"{cgroup}\n")
    (tmp_path / "sys/fs/cgroup" / place).mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup" / place / "cpu.stat").write_text(stat)

    assert quota_throttled_s(tmp_path) == (2.5 if "throttled_" in stat else None)


def test_the_quota_of_version_1_control_groups_is_read(tmp_path, monkeypatch):
    machine(tmp_path, monkeypatch, processors=64)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/\n3:cpu,cpuacct:/docker/abc\n")
    folder = tmp_path / "sys/fs/cgroup/cpu,cpuacct/docker/abc"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")

    assert cpu_quota(tmp_path) == 2.5
    assert usable_core_count(tmp_path) == 2


def test_no_quota_is_no_bound(tmp_path, monkeypatch):
    machine(tmp_path, monkeypatch, processors=2)

    assert cpu_quota(tmp_path) is None
    assert usable_core_count(tmp_path) == 2


def test_this_machine_has_a_core_for_us():
    assert 1 <= usable_core_count() <= len(physical_cores())
