"""Our share of processor and memory, and how cores are divided between lanes.

Ours are those of the process's affinity mask, bounded by the control group's quota: in a container of 4 cores on a
machine of 128, 4 it is. Control groups of Linux are of versions 1 and 2.
"""

import os
from contextlib import suppress
from pathlib import Path

import psutil

from velosweep.errors import ConfigError

MOST_THREADS_PER_PROCESSOR = 4


ROOT = Path("/")  # below it are the kernel's files, proc and sys


def cpu_quota(root: Path = ROOT) -> float | None:
    """Cores' worth of time that our control group, or one above it, grants; None where there is no bound."""
    quotas = []
    for folder in _folders("cpu", root):
        words = _read(folder / "cpu.max") or _read(folder / "cpu.cfs_quota_us") + _read(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0] not in ("max", "-1"):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def quota_throttled_s(root: Path = ROOT) -> float | None:
    """Seconds so far in which a quota kept our control group, or one above it, from running; None where not told."""
    seconds = []
    for folder in _folders("cpu", root):
        words = _read(folder / "cpu.stat")
        stat = dict(zip(words[::2], words[1::2], strict=False))
        for name, unit in (("throttled_usec", 1e6), ("throttled_time", 1e9)):  # of version 2, of version 1
            with suppress(KeyError, ValueError):
                seconds.append(int(stat[name]) / unit)
    return max(seconds, default=None)


def free_memory_bytes(root: Path = ROOT) -> int | None:
    """What our control group, and each above it, still grants, at the least; None where there is no bound.

    File pages that could be dropped count as free, as they do for the machine.
    """
    free = []
    for folder in _folders("memory", root):
        limit = read_number(folder / "memory.max") or read_number(folder / "memory.limit_in_bytes")
        used = read_number(folder / "memory.current") or read_number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            words = _read(folder / "memory.stat")
            stat = dict(zip(words[::2], words[1::2], strict=False))
            # in version 1 the names of a whole tree begin with `total_`
            pages = [stat.get(f"total_{name}", stat.get(name, "0")) for name in ("inactive_file", "active_file")]
            free.append(limit - used + sum(map(int, pages)))
    return min(free, default=None)


def _folders(controller: str, root: Path) -> tuple[Path, ...]:
    """Our control group's folder for a controller and all above it, those that exist."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    folders: list[Path] = []
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mounts / controllers if controllers else mounts
        if not top.is_dir():  # version 1 mounts cpu,cpuacct also as cpu
            top = mounts / controller
        inner = top / path.lstrip("/")
        folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top) and folder.is_dir()]
    return tuple(dict.fromkeys(folders))


def read_number(path: Path) -> int | None:
    """A file's whole number; None where it holds none ("max" is no limit) or can't be read."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _read(path: Path) -> list[str]:
    """A file's words; none where it can't be read."""
    try:
        return path.read_text().split()
    except (OSError, ValueError):
        return []


def physical_cores(root: Path = ROOT) -> tuple[tuple[int, ...], ...]:
    """Our physical cores, each as the logical processors on it that we may use; neighbours (same package) together.

    Not bounded by the quota, which takes time, not cores.
    """
    ours = _affinity()
    cores: dict[tuple[int, int, int], list[int]] = {}
    for processor in ours:
        topology = root / "sys/devices/system/cpu" / f"cpu{processor}" / "topology"
        package, core = read_number(topology / "physical_package_id"), read_number(topology / "core_id")
        # an unreadable topology makes each logical processor a core of its own
        place = (0, 1, processor) if package is None or core is None else (package, 0, core)
        cores.setdefault(place, []).append(processor)
    if all(place[1] for place in cores):  # no topology at all (macOS, Windows, sandboxes)
        count = psutil.cpu_count(logical=False) or len(ours)
        return tuple((processor,) for processor in ours[: max(1, min(count, len(ours)))])
    return tuple(tuple(sorted(cores[place])) for place in sorted(cores))


def usable_core_count(root: Path = ROOT) -> int:
    """Physical cores that we may keep busy at once, at least 1."""
    count, quota = len(physical_cores(root)), cpu_quota(root)
    return max(1, count if quota is None else min(count, int(quota)))


def resolve_threads(lane_count: int, requested: int | None, *, cores: int | None = None) -> int:
    """Threads of a lane's server: the requested number, or an equal share of all our physical cores but one.

    One core stays free for the driver and the system: oversubscription changes results many times over.
    `cores` defaults to `usable_core_count()`.
    """
    if requested is not None:
        if requested < 1:
            raise ConfigError(f"engine.threads is {requested}", remedy="set a positive number, or leave it out")
        return requested
    available = usable_core_count() if cores is None else cores
    return max(1, (available - 1) // max(1, lane_count))


def check_threads(requested: int | None, *, key: str = "engine.threads", processors: int | None = None) -> None:
    """Raise ConfigError for many times more threads than this machine has processors.

    `processors` defaults to the machine's logical ones: a narrower affinity or quota only warns, see
    `oversubscription`.
    """
    count = processors or psutil.cpu_count() or 1
    if requested is not None and requested > MOST_THREADS_PER_PROCESSOR * count:
        raise ConfigError(
            f"{key} is {requested}, and this machine has {count} logical cores",
            remedy=f"set {count} or fewer, or leave it out: then all physical cores but one are used",
        )


def oversubscription(threads: int, *, lanes: int = 1, processors: float | None = None) -> str | None:
    """A sentence where there are more threads than logical processors for us, else None.

    `lanes`: how many lanes of so many threads share the processors. `processors`: ours, found out by default.
    """
    if processors is None:
        quota, ours = cpu_quota(), len(_affinity())
        processors = max(1.0, ours if quota is None else min(ours, quota))
    if threads * lanes <= processors:
        return None
    each = f"{lanes} lanes of {threads} threads each" if lanes > 1 else f"engine.threads is {threads}"
    waiting = "threads that wait for a core make runs slower and less even"
    return f"{each}, and {processors:g} logical cores are ours: {waiting}"


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
            f"cpu_lanes={lanes}, but only {len(cores)} physical cores are usable",
            remedy=f"set cpu_lanes to {len(cores)} or fewer",
        )
    each = max(1, (len(cores) - 1) // lanes)
    first = 1 if len(cores) > each * lanes else 0  # core 0 takes most of the system's interrupts: ours is that one
    groups = (cores[first + lane * each : first + (lane + 1) * each] for lane in range(lanes))
    return tuple(tuple(sorted(processor for core in group for processor in core)) for group in groups)


def _affinity() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
