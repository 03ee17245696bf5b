"""One sweep per device: locks that all of a user's sweeps on this machine share."""

import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import psutil

from velosweep.errors import BusyError, Interrupted, StorageError
from velosweep.locks import HolderLock
from velosweep.machine.devices import device_key
from velosweep.values import Device


def lock_folder() -> Path:
    """The folder of the locks, made private to the user.

    Not the session's runtime directory on POSIX: that ends with the login, while a sweep in tmux outlives it and one
    from cron has none. All sessions must use the same path; VELOSWEEP_LOCK_DIR overrides it.
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
        raise StorageError(f"Lock folder {folder} is not yours", remedy="set VELOSWEEP_LOCK_DIR to one that is")
    return folder


@contextmanager
def lock_devices(
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
    `on_busy` "wait": `on_wait` gets a sentence once for each holder, and every `poll_s` we try again until
    `should_stop()`, which raises Interrupted. "fail": BusyError with who holds it. `sweep`: our folder, for others.
    """
    folder = lock_folder()
    names = {device_key(device): device.name for device in devices}
    with ExitStack() as stack:
        for key in sorted(names):
            label = names[key] if key == "cpu" else f"{names[key]} ({key})"
            lock = HolderLock(folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', key)}.lock", mode=0o600)
            announced = None
            while not lock.acquire(sweep=sweep, since=datetime.now(timezone.utc).isoformat(timespec="seconds")):
                holder = _holder(lock)
                if on_busy == "fail":
                    raise BusyError(f"{label} is in use by {holder}", remedy="wait for it, or set on_busy=wait")
                if should_stop():
                    raise Interrupted(
                        f"Stopped while waiting for {label}, in use by {holder}", remedy="run it again later"
                    )
                if holder != announced:
                    on_wait(f"Waiting for {label}, in use by {holder}")
                    announced = holder
                time.sleep(poll_s)
            stack.callback(lock.release)
        yield


def _holder(lock: HolderLock) -> str:
    """Who holds the lock, as far as it is written down: not yet, or a dead holder's note is left."""
    match lock.holder():
        case {"pid": int(pid), "sweep": sweep, "since": since} if psutil.pid_exists(pid):
            return f"{sweep} (process {pid}, since {since})"
    return "another sweep"
