"""Where servers write their logs: a file for each start, which a resumed sweep never writes to again."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from velosweep.llama_cpp.engine import ServerConfig
from velosweep.results.paths import SweepPaths


class ServerLogs:
    """The logs of a sweep. Safe to use from several threads: lanes share server configurations."""

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._next: Counter[str] = Counter()
        self._lock = threading.Lock()

    def new_path(self, server: ServerConfig) -> Path:
        """A file that doesn't exist yet, and is given to nobody else."""
        with self._lock:
            while True:
                path = self._paths.log(server.id, self._next[server.id])
                self._next[server.id] += 1
                if not path.exists():
                    return path
