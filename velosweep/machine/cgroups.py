"""What Linux control groups (versions 1 and 2) grant this process: processor time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemRoots:
    """Where the kernel's files are."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")


REAL_ROOTS = SystemRoots()


def cpu_quota(roots: SystemRoots = REAL_ROOTS) -> float | None:
    """Cores' worth of time that our control group, or one above it, grants; None where there is no bound."""
    quotas = []
    for folder in _folders("cpu", roots):
        words = _read(folder / "cpu.max") or _read(folder / "cpu.cfs_quota_us") + _read(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0] not in ("max", "-1"):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def free_memory_bytes(roots: SystemRoots = REAL_ROOTS) -> int | None:
    """What our control group, and each above it, still grants, at the least; None where there is no bound.

    File pages that could be dropped count as free, as they do for the machine.
    """
    free = []
    for folder in _folders("memory", roots):
        limit = read_number(folder / "memory.max") or read_number(folder / "memory.limit_in_bytes")
        used = read_number(folder / "memory.current") or read_number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            words = _read(folder / "memory.stat")
            stat = dict(zip(words[::2], words[1::2], strict=False))
            # in version 1 the names of a whole tree begin with `total_`
            pages = [stat.get(f"total_{name}", stat.get(name, "0")) for name in ("inactive_file", "active_file")]
            free.append(limit - used + sum(map(int, pages)))
    return min(free, default=None)


def _folders(controller: str, roots: SystemRoots) -> tuple[Path, ...]:
    """Our control group's folder for a controller and all above it, those that exist."""
    try:
        lines = (roots.proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    folders: list[Path] = []
    root = roots.sys / "fs/cgroup"
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
