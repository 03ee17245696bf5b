"""Which processor cores are ours, and how they are shared between lanes.

Ours are those of the process's affinity mask, bounded by the control group's quota: in a container of 4 cores on a
machine of 128, 4 it is.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

from velosweep.errors import ConfigError

SYS = Path("/sys")
PROC = Path("/proc")


def physical_cores(*, sys_root: Path = SYS, proc_root: Path = PROC) -> tuple[tuple[int, ...], ...]:
    """Our physical cores, each as the logical processors on it that we may use; neighbours (same package) together.

    Not bounded by the quota, which takes time, not cores.
    """
    ours = _affinity()
    cores: dict[tuple[int, int, int], list[int]] = {}
    for processor in ours:
        topology = sys_root / "devices/system/cpu" / f"cpu{processor}" / "topology"
        package, core = _number(topology / "physical_package_id"), _number(topology / "core_id")
        # an unreadable topology makes each logical processor a core of its own
        place = (0, 1, processor) if package is None or core is None else (package, 0, core)
        cores.setdefault(place, []).append(processor)
    if all(place[1] for place in cores):  # no topology at all (macOS, Windows, sandboxes)
        count = psutil.cpu_count(logical=False) or len(ours)
        return tuple((processor,) for processor in ours[: max(1, min(count, len(ours)))])
    return tuple(tuple(sorted(cores[place])) for place in sorted(cores))


def usable_core_count(*, sys_root: Path = SYS, proc_root: Path = PROC) -> int:
    """Physical cores that we may keep busy at once, at least 1."""
    count = len(physical_cores(sys_root=sys_root, proc_root=proc_root))
    quota = cpu_quota(sys_root=sys_root, proc_root=proc_root)
    return max(1, count if quota is None else min(count, int(quota)))


def resolve_threads(lane_count: int, requested: int | None, *, cores: int | None = None) -> int:
    """Threads of a lane's server: the requested number, or an equal share of all our physical cores but one.

    One core stays free for the driver and the system: oversubscription changes results many times over
    (llama-cpp-facts section 6). `cores` defaults to `usable_core_count()`.
    """
    if requested is not None:
        if requested < 1:
            raise ConfigError(f"engine.threads is {requested}", remedy="set a positive number, or leave it out")
        return requested
    available = usable_core_count() if cores is None else cores
    return max(1, (available - 1) // max(1, lane_count))


BEYOND_SENSE = 4  # threads for each logical processor of the machine


def check_threads(requested: int | None, *, key: str = "engine.threads", processors: int | None = None) -> None:
    """Raise ConfigError for more threads than this machine could make any sense of.

    `processors` defaults to the machine's logical ones: a narrower affinity or quota is no refusal, see `crowded`.
    """
    count = processors or psutil.cpu_count() or 1
    if requested is not None and requested > BEYOND_SENSE * count:
        raise ConfigError(
            f"{key} is {requested}, and this machine has {count} logical cores",
            remedy=f"set {count} or fewer, or leave it out: then the physical cores but one are used",
        )


def crowded(threads: int, *, lanes: int = 1, processors: float | None = None) -> str | None:
    """A sentence on more threads than logical processors for us (`processors`, by default asked); else None.

    `lanes`: how many lanes of so many threads share the processors.
    """
    count = _usable_processors() if processors is None else processors
    if threads * lanes <= count:
        return None
    each = f"{lanes} lanes of {threads} threads each" if lanes > 1 else f"engine.threads is {threads}"
    return f"{each}, and {count:g} logical cores are ours: threads that wait for a core make runs slower and less even"


def _usable_processors() -> float:
    quota = cpu_quota()
    return max(1.0, min(len(_affinity()), math.inf if quota is None else quota))


def share_cores(lanes: int, cores: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """The logical processors of each of `lanes` CPU lanes: disjoint, equally many whole physical cores each.

    One core is left to the driver where that leaves a core for each lane. One lane is not confined (an empty tuple):
    the system places threads better than we do. Raises ConfigError for more lanes than cores.
    """
    if lanes < 1:
        raise ConfigError(f"cpu_lanes is {lanes}", remedy="set 1 or more")
    if lanes == 1:
        return ((),)
    if lanes > len(cores):
        raise ConfigError(
            f"cpu_lanes={lanes}, but there are {len(cores)} physical cores for us",
            remedy=f"set cpu_lanes to {len(cores)} or fewer",
        )
    each = max(1, (len(cores) - 1) // lanes)
    first = 1 if len(cores) > each * lanes else 0  # core 0 takes most of the system's interrupts: ours is that one
    groups = (cores[first + lane * each : first + (lane + 1) * each] for lane in range(lanes))
    return tuple(tuple(sorted(processor for core in group for processor in core)) for group in groups)


def cpu_quota(*, sys_root: Path = SYS, proc_root: Path = PROC) -> float | None:
    """Cores' worth of time that our control group (or one above it) grants; None for no bound."""
    quotas = [
        quota
        for folder in cgroup_folders("cpu", sys_root=sys_root, proc_root=proc_root)
        for quota in (_quota_v2(folder / "cpu.max"), _quota_v1(folder))
        if quota is not None
    ]
    return min(quotas, default=None)


def cgroup_folders(controller: str, *, sys_root: Path = SYS, proc_root: Path = PROC) -> tuple[Path, ...]:
    """Our control group's folder for a controller and all above it, version 1 and 2, those that exist."""
    try:
        lines = (proc_root / "self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    folders: list[Path] = []
    root = sys_root / "fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        if not top.is_dir():  # version 1 mounts cpu,cpuacct also as cpu
            top = root / controller
        inner = top / path.lstrip("/")
        folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top) and folder.is_dir()]
    return tuple(dict.fromkeys(folders))


def _quota_v2(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None


def _affinity() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
