"""What the end of a sweep needs is imported while servers load and warm up, so that results stand sooner.

Importing SciPy, pyarrow and jinja2 takes a second. Runs that count wait until it is over.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence

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


class Preload:
    """Imports `modules` in the background, once. Safe to use from any thread.

    A module that can't be imported is left to whoever needs it, who says so.
    """

    def __init__(self, modules: Sequence[str] = MODULES) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start, if that was not done; returns at once."""
        self._begun()

    def finish(self) -> None:
        """Return when all is imported."""
        self._begun().join()

    def _begun(self) -> threading.Thread:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._import_all, daemon=True, name="velosweep-preload")
                self._thread.start()
            return self._thread

    def _import_all(self) -> None:
        for name in self._modules:
            try:
                importlib.import_module(name)
            except ImportError:
                return
        if "pyarrow" in sys.modules:
            sys.modules["pyarrow"].array([0])  # its first array looks for pandas, and imports it where it is there
