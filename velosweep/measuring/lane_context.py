"""What a lane works with."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from velosweep.llama_cpp.engine import ServerConfig
from velosweep.machine.conditions import Monitor
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.memory_estimates import MemoryEstimates
from velosweep.measuring.model_files import ModelWatch
from velosweep.measuring.preload import Preload
from velosweep.measuring.prepare import Prepared
from velosweep.measuring.recorder import Recorder
from velosweep.measuring.sample_rows import SampleMaker
from velosweep.results.paths import SweepPaths
from velosweep.values import Lane


class ServerLogs:
    """Where servers write their logs: a file for each start, which a resumed sweep never writes to again.

    Safe to use from several threads: lanes share server configurations.
    """

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


@dataclass(frozen=True, kw_only=True)
class LaneContext:
    """The lane's own `samples`, `monitor` and `memory`; all else is shared by the lanes of a sweep."""

    lane: Lane
    samples: SampleMaker
    monitor: Monitor
    memory: MemoryEstimates
    prepared: Prepared
    recorder: Recorder
    stop: StopFlag
    model_files: ModelWatch
    logs: ServerLogs
    preload: Preload
