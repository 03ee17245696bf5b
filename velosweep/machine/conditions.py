"""The machine around one run, read before and after it and never during.

Both readings are outside the timed span. What can't be read is None.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from velosweep.machine.cores import quota_throttled_s
from velosweep.machine.nvml import GpuReading, NvmlDriver
from velosweep.values import QUOTA_THROTTLED, Lane


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """The machine around one run: columns of its sample; None where it can't be read."""

    gpu_temperature_c: float | None = None
    gpu_clock_mhz: float | None = None
    gpu_power_w: float | None = None
    energy_j: float | None = None
    load_average: float | None = None
    throttle_reasons: str | None = None
    gpu_processes: int | None = None  # other processes on the GPU
    cpu_busy: float | None = None  # share of all cores used by others during the run, 0..1


_MOST_MISCOUNTED = 0.25  # share of all cores by which clocks that tick every 10 ms differ in a run of 100 ms


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuTimes:
    """Busy and total seconds of all cores since boot; and busy seconds of our own processes, by pid."""

    busy_s: float
    total_s: float
    own_s: Mapping[int, float]


class Monitor:
    """Reads a lane's conditions around runs: `begin()`, the run, `end()`.

    `own_pids`: the process ids of our servers, kept up to date by whoever starts them; the driver itself counts too.
    A reading takes well below a millisecond on the CPU (tests/benchmarks/bench_conditions.py), on a GPU a few driver
    calls.
    """

    def __init__(self, lane: Lane, *, nvml: NvmlDriver | None = None, own_pids: set[int] | None = None) -> None:
        self._uuids = tuple(device.uuid for device in lane.devices if device.uuid and device.kind != "cpu")
        self._nvml = nvml if self._uuids else None
        self.own_pids = set[int]() if own_pids is None else own_pids
        self._processes: dict[int, psutil.Process] = {}
        self._cpu_before: CpuTimes | None = None
        self._throttled_before: float | None = None
        self._energy_before: tuple[float | None, ...] = ()

    def begin(self) -> None:
        """Note where the counters stand."""
        self._energy_before = tuple(reading.energy_j for reading in self._readings())
        self._throttled_before = quota_throttled_s()
        self._cpu_before = self._cpu_times()

    def end(self) -> Conditions:
        """The conditions since `begin()`. Temperature, clock and power are those at this moment, the run's end."""
        cpu_after = self._cpu_times()
        throttled_s = _difference(quota_throttled_s(), self._throttled_before)
        readings = self._readings()
        load_average = None
        with suppress(OSError, AttributeError):
            load_average = os.getloadavg()[0]
        by_quota = [QUOTA_THROTTLED] if throttled_s else []
        of_gpus = [name for one in readings for name in one.throttle or ()]
        before = self._energy_before if len(self._energy_before) == len(readings) else (None,) * len(readings)
        return Conditions(
            gpu_temperature_c=_over(max, [reading.temperature_c for reading in readings]),
            gpu_clock_mhz=_over(min, [reading.sm_clock_mhz for reading in readings]),
            gpu_power_w=_over(sum, [reading.power_w for reading in readings]),
            energy_j=_over(sum, [_difference(now.energy_j, then) for now, then in zip(readings, before, strict=True)]),
            load_average=load_average,
            throttle_reasons=", ".join(dict.fromkeys((*by_quota, *of_gpus))) or None,
            gpu_processes=self._other_processes(readings),
            cpu_busy=busy_by_others(self._cpu_before, cpu_after),
        )

    def temperature_c(self) -> float | None:
        """The hottest of the lane's GPUs now."""
        return _over(max, [reading.temperature_c for reading in self._readings()])

    def _other_processes(self, readings: Sequence[GpuReading]) -> int | None:
        """How many the GPUs have beside ours; None where ours are not among them.

        In a container the driver gives the host's process ids, by which ours can't be told from others'.
        """
        told = [set(reading.processes) for reading in readings if reading.processes is not None]
        there = set[int]().union(*told)
        if not told or (self.own_pids and not there & self._own()):
            return None
        return len(there - self._own())

    def _own(self) -> set[int]:
        return {*self.own_pids, os.getpid()}

    def _readings(self) -> list[GpuReading]:
        return [self._nvml.reading(uuid) for uuid in self._uuids] if self._nvml is not None else []

    def _cpu_times(self) -> CpuTimes | None:
        machine = machine_seconds()
        if machine is None:
            return None
        own = {pid: seconds for pid in self._own() if (seconds := self._seconds(pid))}
        return CpuTimes(busy_s=machine[0], total_s=machine[1], own_s=own)

    def _seconds(self, pid: int) -> float | None:
        """CPU seconds of one of our processes; None once it is gone."""
        try:
            if pid not in self._processes:
                self._processes[pid] = psutil.Process(pid)
            times = self._processes[pid].cpu_times()
        except psutil.Error:
            self._processes.pop(pid, None)
            return None
        if pid != os.getpid():
            return float(times.user + times.system)
        # With the programs that ended meanwhile, as those of engine=binaries do.
        return float(times.user + times.system + times.children_user + times.children_system)


def machine_seconds() -> tuple[float, float] | None:
    """Busy and total seconds of all cores since boot; None where the system doesn't say.

    Time stolen by the hypervisor counts as work of others; time of guests is within `user` already (proc(5)).
    """
    try:
        times = psutil.cpu_times()
    except (OSError, ValueError, TypeError, IndexError):  # a /proc/stat that can't be read, or is not like Linux's
        return None
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return float(total - times.idle - getattr(times, "iowait", 0.0)), float(total)


def busy_by_others(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Share of all cores that others used, 0..1.

    None if no time passed by the system's clock, or one of our servers ended meanwhile: its time is unknown, and then
    it counts in whole as a program that ran meanwhile.
    """
    if before is None or after is None or after.total_s <= before.total_s:
        return None
    if not before.own_s.keys() <= after.own_s.keys():
        return None
    own = sum(seconds - before.own_s.get(pid, 0.0) for pid, seconds in after.own_s.items())
    others = (after.busy_s - before.busy_s - own) / (after.total_s - before.total_s)
    return min(1.0, max(0.0, others)) if others > -_MOST_MISCOUNTED else None


def _over(combine: Callable[[list[float]], float], values: list[float | None]) -> float | None:
    """The values combined, None if any is unknown or there is none."""
    known = [value for value in values if value is not None]
    return combine(known) if known and len(known) == len(values) else None


def _difference(now: float | None, then: float | None) -> float | None:
    """None also where the counter went back (a reloaded driver)."""
    return None if now is None or then is None or now < then else now - then
