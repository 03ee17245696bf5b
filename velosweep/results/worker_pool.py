"""Processes that work side by side, or this one alone where the work is little or the memory short."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from velosweep.errors import StorageError

T = TypeVar("T")
S = TypeVar("S")

# Starting processes costs a second or two, which fewer pieces of work don't take.
_FEWEST_PIECES = 3
_MOST_WORKERS = 8
_WORKER_BYTES = 700 << 20
# Each core has a worker: threads of its libraries would only take turns.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Crew:
    """`pool` is None where this process works alone."""

    pool: Any

    @property
    def alone(self) -> bool:
        """Whether this process does all the work."""
        return self.pool is None

    def map(self, work: Callable[[S], T], pieces: Iterable[S]) -> Iterator[T]:
        """What `work` makes of each piece, in order: begun at once, but alone one at a time, when it is asked for."""
        return map(work, pieces) if self.pool is None else self.pool.map(work, pieces)


@contextmanager
def crew(root: Path, pieces: int, prepare: Callable[[], object]) -> Iterator[Crew]:
    """As many processes as `pieces` of work and the machine have room for; each begins with `prepare` at once.

    Raises StorageError, naming `root`, where one is ended from outside.
    """
    workers = _workers(pieces)
    if workers < 2:
        yield Crew(None)
        return
    from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

    # Unlike multiprocessing's, these processes don't run the main module again, which may be anybody's.
    pool = ProcessPoolExecutor(workers, initializer=_begin, initargs=(prepare,), env=_ONE_THREAD)
    # Public calls start them with the first piece of work only, and a made-up one is no way out: what memory a worker
    # has after its first piece loky takes for what it needs, and replaces it, with a warning, when it has much more.
    getattr(pool, "_ensure_executor_running", int)()
    whole = False
    try:
        yield Crew(pool)
        whole = True
    except BrokenProcessPool as error:
        raise StorageError(
            f"A process that worked on {root} was ended from outside: {error}",
            remedy="memory may be short; free some, then run `velosweep collate` on the folder",
        ) from error
    finally:  # where something failed, the others need not end what they are at
        pool.shutdown(wait=True, kill_workers=not whole)


@contextmanager
def without_collector() -> Iterator[None]:
    """Python does not look for cycles meanwhile: collating makes none, and looking took a third of a report's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _workers(pieces: int) -> int:
    if pieces < _FEWEST_PIECES:
        return 1
    import psutil
    from joblib import cpu_count

    fitting = psutil.virtual_memory().available // _WORKER_BYTES
    return int(min(pieces, cpu_count(), fitting, _MOST_WORKERS))


def _begin(prepare: Callable[[], object]) -> None:
    prepare()
    gc.disable()  # see without_collector: a twentieth of a worker's time
