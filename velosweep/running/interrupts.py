"""Ctrl-C once: the run under way ends and everything is written. Twice, SIGTERM or SIGHUP: at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Asked by lanes between runs; `at_once` runs the registered closers so that no lane stays in a request."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._at_once = threading.Event()
        self._closers: dict[int, Callable[[], None]] = {}
        self._lock = threading.RLock()
        self.signal_number: int | None = None

    @property
    def requested(self) -> bool:
        """Whether no further run is to be started."""
        return self._requested.is_set()

    @property
    def at_once(self) -> bool:
        """Whether the run under way is to be given up."""
        return self._at_once.is_set()

    def request(self, *, at_once: bool = False) -> None:
        """Ask for an end; a second request is one for an end at once."""
        at_once = at_once or self._requested.is_set()
        self._requested.set()
        if not at_once:
            return
        self._at_once.set()
        with self._lock:
            closers = list(self._closers.values())
        for close in closers:
            close()

    def wait(self, seconds: float) -> bool:
        """Sleep up to `seconds`; True as soon as an end is asked for."""
        return self._requested.wait(seconds)

    @contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        """Have `close` called if an end at once is asked for while the context lasts."""
        key = id(close)
        with self._lock:
            self._closers[key] = close
        try:
            yield
        finally:
            with self._lock:
                del self._closers[key]


@contextmanager
def stop_on_signals(stop: StopFlag, *, announce: Callable[[str], None]) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into requests to `stop`; the former handlers come back afterwards.

    Off the main thread (a Dask worker) Python allows no handlers: the caller's own stop applies there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.signal_number = number
        if number == signal.SIGINT and not stop.requested:
            announce("Interrupted: ending the run under way; Ctrl-C again stops at once")
            stop.request()
        else:
            # a closer waits for processes: off the handler, so that a handler never blocks one
            threading.Thread(target=stop.request, kwargs={"at_once": True}, daemon=True).start()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    former = {name: signal.signal(getattr(signal, name), handle) for name in names}
    try:
        yield
    finally:
        for name, handler in former.items():
            signal.signal(getattr(signal, name), handler)
