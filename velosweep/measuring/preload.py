"""Imports that the end of a sweep needs, made while servers load and warm up, so that results stand sooner.

Importing SciPy, pyarrow and jinja2 takes a second. Runs that count wait until it is over.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

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
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=_import_all, args=(modules,), daemon=True, name="velosweep-preload")

    def begin(self) -> None:
        """Start, if that was not done; returns at once."""
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()

    def finish(self) -> None:
        """Return when all is imported."""
        self.begin()
        self._thread.join()


def _import_all(modules: Sequence[str]) -> None:
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].array([0])  # its first array looks for pandas, and imports it where it is there
