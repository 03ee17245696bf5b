"""A lock file that says who holds it. The system frees it with its holder, however that one dies."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from velosweep.files import write_text


class HolderLock:
    """An exclusive lock on `path`, with a JSON file beside it that says who holds it.

    Not bound to a thread: any may release it.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        self._path = path
        self._note = path.with_suffix(".json")
        self._lock = FileLock(path, timeout=0, mode=mode, thread_local=False)

    def acquire(self, **holder: object) -> bool:
        """Take the lock and write down `holder` with this process's `pid`; False where somebody else has it.

        Raises OSError, and StorageError for a note that can't be written.
        """
        try:
            self._lock.acquire()
        except Timeout:
            return False
        try:
            write_text(self._note, json.dumps({"pid": os.getpid(), **holder}), durable=False)
        except BaseException:
            self.release()
            raise
        return True

    def holder(self) -> Mapping[str, Any]:
        """What the holder wrote down; empty where that is not there yet or can't be read."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def is_held(self) -> bool:
        """Whether another process has the lock. One that a dead holder left a note of is taken for an instant."""
        if not self.holder():
            return False
        try:
            with self._lock:
                return False
        except Timeout:
            return True
        except OSError:  # somebody else's, in a folder that we may only read
            return False

    def release(self, *, remove: bool = False) -> None:
        """Let others take the lock; idempotent. `remove`: leave no lock file either."""
        if not self._lock.is_locked:
            return
        with suppress(OSError):  # the folder may be gone or read-only by now
            self._note.unlink(missing_ok=True)
            if remove:
                self._path.unlink(missing_ok=True)
        self._lock.release()
