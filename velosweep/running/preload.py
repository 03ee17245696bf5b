"""What the end of a sweep needs is imported while servers load and warm up, so that results stand sooner.

Importing SciPy, pyarrow and jinja2 takes a second. Runs that count wait until it is over.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence

MODULES = (
    "pyarrow.compute",
    "pyarrow.parquet",
    "scipy.special",
    "jinja2",
    "velosweep.analysis.summarise",
    "velosweep.reporting.html",
    "velosweep.storage.derive",
)


def preload(modules: Sequence[str] = MODULES) -> Callable[[], None]:
    """Import `modules` in the background; returns what waits for the end of it.

    A module that can't be imported is left to whoever needs it, who says so.
    """
    thread = threading.Thread(target=_import_all, args=(modules,), daemon=True, name="velosweep-preload")
    thread.start()
    return thread.join


def _import_all(modules: Sequence[str]) -> None:
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            return
