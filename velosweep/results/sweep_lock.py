"""One writer a sweep."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from velosweep.errors import BusyError
from velosweep.files import explained, make_folder
from velosweep.locks import HolderLock


@contextmanager
def sweep_lock(path: Path) -> Iterator[None]:
    """Hold a sweep's lock file exclusively. Raises BusyError naming the holder."""
    make_folder(path.parent)
    lock = HolderLock(path)
    with explained(path):
        taken = lock.acquire(host=socket.gethostname())
    if not taken:
        holder = lock.holder()
        named = (
            f"process {holder['pid']} on {holder['host']}" if {"pid", "host"} <= holder.keys() else "another process"
        )
        raise BusyError(
            f"{path.parent} is being written by {named}",
            remedy="wait until it ends, or choose another hydra.sweep.dir",
        )
    try:
        yield
    finally:
        lock.release(remove=True)
