"""One sweep a device: locks that all of a user's sweeps on this machine share.

The system holds them (flock), so that they are gone with their holder, however it dies. Who holds one stands in a
file beside it, for the waiting to read.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from velosweep.errors import BusyError, Interrupted, StorageError
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
            lock = _acquire(folder, key, label, on_busy, on_wait, poll_s, should_stop)
            stack.callback(_release, lock, _holder_path(folder, key))
            _write_holder(_holder_path(folder, key), sweep)
        yield


def holder_of(device: Device) -> Holder | None:
    """Who holds the device now, None where nobody does or can't be read. Takes nothing."""
    folder = lock_folder()
    key = device_key(device)
    if not _lock_path(folder, key).exists():
        return None
    lock = _lock(folder, key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _read_holder(_holder_path(folder, key))
    lock.release()
    return None


def _acquire(
    folder: Path,
    key: str,
    label: str,
    on_busy: str,
    on_wait: Callable[[str], None],
    poll_s: float,
    should_stop: Callable[[], bool],
) -> FileLock:
    lock = _lock(folder, key)
    told: Holder | str | None = None
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _read_holder(_holder_path(folder, key)) or "another sweep"
        else:
            return lock
        if on_busy == "fail":
            raise BusyError(f"{label} is in use by {holder}", remedy="wait for it, or set on_busy=wait")
        if should_stop():
            raise Interrupted(f"Stopped while waiting for {label}, in use by {holder}", remedy="run it again later")
        if holder != told:
            on_wait(f"Waiting for {label}, in use by {holder}")
            told = holder
        time.sleep(poll_s)


def _lock(folder: Path, key: str) -> FileLock:
    # not thread-local: a lane's thread may release what the driver's took
    return FileLock(_lock_path(folder, key), timeout=0, mode=0o600, thread_local=False)


def _release(lock: FileLock, holder: Path) -> None:
    holder.unlink(missing_ok=True)
    lock.release()


def _lock_path(folder: Path, key: str) -> Path:
    return folder / f"{_safe(key)}.lock"


def _holder_path(folder: Path, key: str) -> Path:
    return folder / f"{_safe(key)}.json"


def _safe(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", key)


def _write_holder(path: Path, sweep: str) -> None:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    holder = Holder(pid=os.getpid(), sweep=sweep, since=since)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(json.dumps(asdict(holder)), encoding="utf-8")
    beside.replace(path)


def _read_holder(path: Path) -> Holder | None:
    """What the holder wrote; None while it hasn't yet, or where a dead one's note is left."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        holder = Holder(pid=int(kept["pid"]), sweep=str(kept["sweep"]), since=str(kept["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return holder if psutil.pid_exists(holder.pid) else None
