"""One sweep a device: locks that all of a user's sweeps on this machine share.

A lock is gone with its holder, however that dies. Those who wait can read who it is.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil

from velosweep.errors import BusyError, Interrupted, StorageError
from velosweep.locks import HolderLock
from velosweep.machine.lanes import device_key
from velosweep.values import Device


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who holds a device: `sweep` is its folder, `since` UTC in ISO 8601."""

    pid: int
    sweep: str
    since: str

    def __str__(self) -> str:
        return f"{self.sweep} (process {self.pid}, since {self.since})"


def lock_folder() -> Path:
    """The folder of the locks, made private to the user.

    Not the session's runtime directory on POSIX: that ends with the login, and a sweep in tmux or from cron outlives
    or never has one. The same path for every session is what makes the locks meet; VELOSWEEP_LOCK_DIR overrides it.
    Raises StorageError if the folder belongs to somebody else.
    """
    named = os.environ.get("VELOSWEEP_LOCK_DIR")
    if named:
        folder = Path(named)
    elif sys.platform == "win32":
        import platformdirs

        folder = Path(platformdirs.user_runtime_dir("velosweep", appauthor=False))
    else:
        folder = Path("/tmp") / f"velosweep-{os.getuid()}"  # noqa: S108 -- ownership is checked below
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise StorageError(f"Can't make the lock folder {folder}: {error}", remedy="set VELOSWEEP_LOCK_DIR") from error
    if not stat.S_ISDIR(status.st_mode) or (sys.platform != "win32" and status.st_uid != os.getuid()):
        raise StorageError(f"The lock folder {folder} is not ours", remedy="set VELOSWEEP_LOCK_DIR to one that is")
    return folder


@contextmanager
def hold(
    devices: Sequence[Device],
    *,
    on_busy: str,
    sweep: str,
    on_wait: Callable[[str], None] = lambda _: None,
    poll_s: float = 1.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the devices' locks while the body runs; the CPU is one device, whatever its lanes.

    Locks are taken in one order, so that sweeps over several GPUs never wait for each other in a ring.
    `on_busy` "wait": `on_wait` is told once for each holder, and every `poll_s` we try again until `should_stop()`,
    which raises Interrupted. "fail": BusyError with who holds it.
    """
    folder = lock_folder()
    names = {device_key(device): device.name for device in devices}
    with ExitStack() as stack:
        for key in sorted(names):
            label = names[key] if key == "cpu" else f"{names[key]} ({key})"
            lock = _lock(folder, key)
            _acquire(lock, label, sweep, on_busy, on_wait, poll_s, should_stop)
            stack.callback(lock.release)
        yield


def holder_of(device: Device) -> Holder | None:
    """Who holds the device now, None where nobody does or can't be read. Takes nothing."""
    folder, key = lock_folder(), device_key(device)
    if not _path(folder, key).exists():
        return None
    lock = _lock(folder, key)
    if lock.is_free():
        return None
    return _holder(lock)


def _acquire(
    lock: HolderLock,
    label: str,
    sweep: str,
    on_busy: str,
    on_wait: Callable[[str], None],
    poll_s: float,
    should_stop: Callable[[], bool],
) -> None:
    announced: Holder | str | None = None
    while not lock.acquire(sweep=sweep, since=datetime.now(timezone.utc).isoformat(timespec="seconds")):
        holder = _holder(lock) or "another sweep"
        if on_busy == "fail":
            raise BusyError(f"{label} is in use by {holder}", remedy="wait for it, or set on_busy=wait")
        if should_stop():
            raise Interrupted(f"Stopped while waiting for {label}, in use by {holder}", remedy="run it again later")
        if holder != announced:
            on_wait(f"Waiting for {label}, in use by {holder}")
            announced = holder
        time.sleep(poll_s)


def _lock(folder: Path, key: str) -> HolderLock:
    return HolderLock(_path(folder, key), mode=0o600)


def _path(folder: Path, key: str) -> Path:
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', key)}.lock"


def _holder(lock: HolderLock) -> Holder | None:
    """What the holder wrote down; None while it hasn't yet, or where a dead one's note is left."""
    note = lock.holder()
    try:
        holder = Holder(pid=int(note["pid"]), sweep=str(note["sweep"]), since=str(note["since"]))
    except (KeyError, TypeError, ValueError):
        return None
    return holder if psutil.pid_exists(holder.pid) else None
