"""What a lane works with."""

import importlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from velosweep.errors import VelosweepError
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.machine.conditions import Monitor
from velosweep.measuring.cooldown import Cooldown
from velosweep.measuring.events import Recorder
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.memory_estimates import MemoryEstimates
from velosweep.measuring.prepare import Prepared
from velosweep.measuring.resuming import OutputKey
from velosweep.models.model_checks import fingerprint
from velosweep.records import ModelFile
from velosweep.results.paths import SweepPaths
from velosweep.values import Lane

MODULES = (
    "orjson",
    "pyarrow.compute",
    "pyarrow.parquet",
    "scipy.special",
    "jinja2",
    "velosweep.statistics.summarise",
    "velosweep.reporting.html",
    "velosweep.results.derived_files",
)


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


class ModelWatch:
    """Whether model files are still what the sweep began with. Safe to use from several threads."""

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


class Preload:
    """Imports `modules`, which the end of a sweep needs, once and while servers load, so that results come sooner.

    Importing SciPy, pyarrow and jinja2 takes a second, and preparing the report's page a tenth. Runs that count wait
    until it is over. Safe to use from any thread. A module that can't be imported is left to whoever needs it, who says
    so.
    """

    def __init__(self, modules: Sequence[str] = MODULES) -> None:
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._import_all, args=(modules,), daemon=True, name="velosweep-preload")

    def begin(self) -> None:
        """Start, if that was not done; returns at once."""
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()

    def finish(self) -> None:
        """Return when all is imported."""
        self.begin()
        self._thread.join()

    @staticmethod
    def _import_all(modules: Sequence[str]) -> None:
        for name in modules:
            with suppress(ImportError):
                importlib.import_module(name)
        if "pyarrow" in sys.modules:
            sys.modules["pyarrow"].array([0])  # its first array looks for pandas, and imports it where it is there
        if page := sys.modules.get("velosweep.reporting.html"):
            page.prepare_page()


@dataclass(frozen=True, kw_only=True)
class LaneContext:
    """The lane's own `outputs`, `order`, `monitor`, `cooldown` and `memory`; all else is shared by a sweep's lanes.

    `outputs`: the tokens of each first vanilla run, also noted in the journal, so that a resumed sweep has them.
    `order` numbers the runs.
    """

    sweep_id: str
    lane: Lane
    outputs: dict[OutputKey, tuple[int, ...]]
    order: Iterator[int]
    monitor: Monitor
    cooldown: Cooldown
    memory: MemoryEstimates
    prepared: Prepared
    recorder: Recorder
    stop: StopFlag
    model_files: ModelWatch
    logs: ServerLogs
    preload: Preload
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)  # see EarlierResults
