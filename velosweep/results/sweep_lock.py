"""One writer a sweep: a lock that dies with its holder and says who that is."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from velosweep.errors import BusyError
from velosweep.files import explained, make_folder


class FolderLock:
    """Holds `path` exclusively from construction until `release`. Raises BusyError naming the holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        make_folder(path.parent)
        self._handle = self._take()
        with explained(path):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def _take(self) -> int:
        import fcntl

        while True:
            with explained(self._path):
                handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "another process"
                os.close(handle)
                raise BusyError(
                    f"{self._path.parent} is being written by {holder}",
                    remedy="wait until it ends, or choose another hydra.sweep.dir",
                ) from None
            if self._is_current(handle):
                return handle
            os.close(handle)  # its holder removed it between our open and our lock: take the new one

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self._path.stat())
        except FileNotFoundError:
            return False

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let others write; idempotent."""
        if self._handle < 0:
            return
        with suppress(OSError):  # the folder may be gone or read-only by now; closing alone frees the lock
            self._path.unlink()
        os.close(self._handle)
        self._handle = -1
