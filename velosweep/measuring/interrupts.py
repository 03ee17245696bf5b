"""Ctrl-C once: the run under way ends and everything is written. Twice, SIGTERM or SIGHUP: at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopFlag:
    """Lanes look at it between runs; a request also calls the registered closers, so that no lane stays in a wait."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._at_once = threading.Event()
        self._closers: dict[object, tuple[Callable[[], None], bool]] = {}
        self._lock = threading.Lock()

    @property
    def requested(self) -> bool:
        """Whether no further run is to be started."""
        return self._requested.is_set()

    @property
    def at_once(self) -> bool:
        """Whether the run under way is to be given up."""
        return self._at_once.is_set()

    def request(self, *, at_once: bool = False) -> None:
        """Ask for an end after the runs under way, or at once. Not for signal handlers: it waits for servers to end."""
        with self._lock:
            self._requested.set()
            if at_once:
                self._at_once.set()
            due = [close for close, early in self._closers.values() if early or at_once]
        # side by side: each may take some seconds with a server that doesn't respond
        threads = [threading.Thread(target=close, daemon=True) for close in due]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def wait(self, seconds: float) -> bool:
        """Sleep up to `seconds`; True as soon as an end is asked for."""
        return self._requested.wait(seconds)

    @contextmanager
    def closing(self, close: Callable[[], None], *, early: bool = False) -> Iterator[None]:
        """Have `close` called if an end at once (`early`: any end) is asked for, or has been, while this lasts."""
        key = object()
        with self._lock:
            self._closers[key] = (close, early)
            due = self.at_once or (early and self.requested)
        try:
            if due:
                close()
            yield
        finally:
            with self._lock:
                del self._closers[key]


@contextmanager
def stop_on_signals(stop: StopFlag, *, announce: Callable[[str], None]) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into requests to `stop`; the former handlers come back afterwards.

    A signal that is ignored stays so (nohup, a shell's background job). Off the main thread (a Dask worker) Python
    allows no handlers: the caller's own stop applies there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    # A handler may interrupt a print or the holder of a lock: it only writes a byte, on which a thread of its own acts.
    def handle(number: int, _frame: FrameType | None) -> None:
        os.write(write_end, bytes([number]))

    watcher = threading.Thread(target=_watch, args=(read_end, stop, announce), name="velosweep-signals", daemon=True)
    watcher.start()
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(write_end)
        watcher.join()
        os.close(read_end)


def _watch(read_end: int, stop: StopFlag, announce: Callable[[str], None]) -> None:
    """Act on each signal whose number the handler wrote, until its end of the pipe is closed."""
    while byte := os.read(read_end, 1):
        first = byte[0] == signal.SIGINT and not stop.requested
        stop.request(at_once=not first)
        if first:
            announce("Interrupted: ending the run under way; Ctrl-C again stops at once")
