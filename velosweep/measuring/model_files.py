"""Whether a model file is still what the sweep began with: checked before each load and between rounds."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from velosweep.errors import VelosweepError
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.models.model_checks import fingerprint
from velosweep.records import ModelFile


class ModelWatch:
    """The model files of a sweep, as they were when it began. Safe to use from several threads."""

    def __init__(self, models: Sequence[ModelFile]) -> None:
        self._expected = {model.path: model.fingerprint for model in models}
        self._known: dict[str, os.stat_result] = {}
        self._lock = threading.Lock()
        for path in self._expected:
            self._check(path, loaded=False)

    def changed(self, server: ServerConfig, *, loaded: bool) -> str | None:
        """Why a server can't be loaded, or (`loaded`) no longer reads what it was started with; None if all is well.

        A loaded server keeps the file that it opened: one that was moved away or replaced does it no harm until the
        next load, one that is written to does.
        """
        with self._lock:
            for path in (server.main_model, server.draft_model):
                if path in self._expected and (words := self._check(path, loaded=loaded)):
                    return words
        return None

    def _check(self, path: str, *, loaded: bool) -> str | None:
        try:
            now = Path(path).stat()
        except OSError as error:
            return None if loaded else f"The model file {path} is gone: {error.strerror}; put it back and resume"
        known = self._known.get(path)
        if known is not None:
            same_file = os.path.samestat(now, known)
            untouched = (now.st_size, now.st_mtime_ns) == (known.st_size, known.st_mtime_ns)
            if (same_file and untouched) or (loaded and not same_file):
                return None
        try:
            same = fingerprint(Path(path)) == self._expected[path]
        except (OSError, VelosweepError):
            same = False  # cut short, or no longer a model
        if not same:
            return f"The model file {path} was changed during the sweep; put the former one back and resume"
        self._known[path] = now
        return None
