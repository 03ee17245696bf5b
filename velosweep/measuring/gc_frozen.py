"""Python's look for cycles, which holds up every thread, and with it the reading of a run's first token."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def long_lived() -> Iterator[None]:
    """What is there by now is looked through no more meanwhile: one look takes .6 s at 100,000 jobs.

    Where somebody froze objects before, all stays as it is: giving ours free would free theirs.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
