"""The machine around one run, read before and after it and never during; and when to let it cool.

Both readings lie outside the timed span. What can't be read is None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from velosweep.config.settings import Protocol
from velosweep.machine.nvml import GpuReading, NvmlLike
from velosweep.values import Lane


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """The machine around one run; None where it can't be read."""

    gpu_temperature_c: float | None = None
    gpu_clock_mhz: float | None = None
    gpu_power_w: float | None = None
    energy_j: float | None = None
    load_average: float | None = None
    throttle_reasons: str | None = None
    gpu_processes: int | None = None  # other processes on the GPU
    cpu_busy: float | None = None  # share of all cores used by others during the run, 0..1


STAT = Path("/proc/stat")


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuTimes:
    """Seconds of all cores since boot: spent working, and spent at all; and those of our own processes by pid."""

    busy_s: float
    total_s: float
    own_s: tuple[tuple[int, float], ...]


class Monitor:
    """Reads a lane's conditions around runs: `begin()`, the run, `end()`.

    `own_pids`: our servers' process ids now; the driver itself is added. Costs well below a millisecond on the CPU
    (tests/benchmarks/bench_conditions.py), on a GPU a few driver calls.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        nvml: NvmlLike | None = None,
        own_pids: Callable[[], Iterable[int]] = tuple,
        stat_path: Path = STAT,
    ) -> None:
        self._uuids = tuple(device.uuid for device in lane.devices if device.uuid and device.kind != "cpu")
        self._nvml = nvml if self._uuids else None
        self._own_pids = own_pids
        self._stat_path = stat_path
        self._processes: dict[int, psutil.Process] = {}
        self._cpu_before: CpuTimes | None = None
        self._energy_before: tuple[float | None, ...] = ()

    def begin(self) -> None:
        """Note where the counters stand."""
        self._energy_before = tuple(reading.energy_j for reading in self._readings())
        self._cpu_before = self._cpu_times()

    def end(self) -> Conditions:
        """The conditions since `begin()`. Heat, clock and power are those at this moment, the run's end."""
        cpu_after = self._cpu_times()
        readings = self._readings()
        own = {*self._own_pids(), os.getpid()}
        before = self._energy_before if len(self._energy_before) == len(readings) else (None,) * len(readings)
        return Conditions(
            gpu_temperature_c=_over(max, [reading.temperature_c for reading in readings]),
            gpu_clock_mhz=_over(min, [reading.sm_clock_mhz for reading in readings]),
            gpu_power_w=_over(sum, [reading.power_w for reading in readings]),
            energy_j=_over(sum, [_difference(now.energy_j, then) for now, then in zip(readings, before, strict=True)]),
            load_average=_load_average(),
            throttle_reasons=_throttle(readings),
            gpu_processes=other_gpu_processes(readings, own),
            cpu_busy=busy_by_others(self._cpu_before, cpu_after),
        )

    def temperature_c(self) -> float | None:
        """The hottest of the lane's GPUs now."""
        return _over(max, [reading.temperature_c for reading in self._readings()])

    def _readings(self) -> list[GpuReading]:
        return [self._nvml.reading(uuid) for uuid in self._uuids] if self._nvml is not None else []

    def _cpu_times(self) -> CpuTimes | None:
        machine = machine_seconds(self._stat_path)
        if machine is None:
            return None
        own = tuple((pid, seconds) for pid in {*self._own_pids(), os.getpid()} if (seconds := self._seconds(pid)))
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
        return float(times.user + times.system)


def machine_seconds(stat_path: Path = STAT) -> tuple[float, float] | None:
    """Seconds that all cores worked and that there were, since boot (proc(5), first line of /proc/stat); or None.

    Elsewhere than on Linux by psutil. Time stolen by the hypervisor counts as work of others; time of guests is
    within `user` already.
    """
    try:
        with stat_path.open() as file:
            fields = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return _machine_seconds_by_psutil()
    if len(fields) < 5:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / ticks, sum(fields) / ticks


def _machine_seconds_by_psutil() -> tuple[float, float] | None:
    if STAT.exists():
        return None  # Linux, and unreadable
    times = psutil.cpu_times()
    total = float(sum(times))
    return total - float(times.idle), total


def busy_by_others(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Share of all cores that others used, 0..1.

    None if no time passed by the system's clock, or one of our processes ended meanwhile: its time is unknown.
    """
    if before is None or after is None or after.total_s <= before.total_s:
        return None
    then, now = dict(before.own_s), dict(after.own_s)
    if not then.keys() <= now.keys():
        return None
    own = sum(seconds - then.get(pid, 0.0) for pid, seconds in now.items())
    others = (after.busy_s - before.busy_s - own) / (after.total_s - before.total_s)
    return min(1.0, max(0.0, others))


def other_gpu_processes(readings: Iterable[GpuReading], own: set[int]) -> int | None:
    """Processes on the GPUs that are not ours; None where the driver doesn't tell.

    In a container the driver tells the host's process ids: ours can't be told from others' there, and the
    count includes them.
    """
    known = [reading.processes for reading in readings if reading.processes is not None]
    if not known:
        return None
    return len({process.pid for processes in known for process in processes} - own)


def rest_needed_s(*, baseline: float, latest: float, protocol: Protocol) -> float:
    """Seconds to rest, by how far the vanilla arm (tokens per second) fell from its first round.

    0 up to a relative fall of `cooldown_drift`, then in proportion to the excess, at most `cooldown_max_s`, which
    twice the drift reaches. Getting faster never asks for a rest.
    """
    if not protocol.cooldown or baseline <= 0 or protocol.cooldown_drift <= 0:
        return 0.0
    excess = (1 - latest / baseline) / protocol.cooldown_drift - 1
    return protocol.cooldown_max_s * min(1.0, max(0.0, excess))


def wait_until_cool(
    rest_s: float,
    *,
    temperature: Callable[[], float | None] = lambda: None,
    target_c: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    poll_s: float = 1.0,
) -> float:
    """Rest for `rest_s` seconds and return how long it was.

    Ends early when `should_stop()`, or when `temperature()` has come down to `target_c` (that of the first round).
    """
    start = clock()
    while (left := rest_s - (clock() - start)) > 0:
        now_c = temperature() if target_c is not None else None
        if should_stop() or (now_c is not None and target_c is not None and now_c <= target_c):
            break
        sleep(min(poll_s, left))
    return clock() - start


def _over(combine: Callable[[list[float]], float], values: list[float | None]) -> float | None:
    """The values combined, None if any is unknown or there is none."""
    known = [value for value in values if value is not None]
    return combine(known) if known and len(known) == len(values) else None


def _difference(now: float | None, then: float | None) -> float | None:
    """None too where the counter went back (a reloaded driver)."""
    return None if now is None or then is None or now < then else now - then


def _throttle(readings: Iterable[GpuReading]) -> str | None:
    """Reasons joined by commas; empty string never: None where there is none or it can't be read."""
    reasons = dict.fromkeys(reason for reading in readings for reason in reading.throttle or ())
    return ", ".join(reasons) or None


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
