"""How long drafting took, by llama.cpp's own statistics in a server's log.

After each request a server that speculates prints a line for each of its kinds (at the level `trace`):
`statistics draft-simple: #calls(b,g,a) = 1 46 46, … dur(b,g,a) = 0.001, 2456.037, 0.031 ms`. The middle duration is the
time spent drafting since the server started, so the difference of two lines is one request's.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from velosweep.llama_cpp.process import wait_for

_STATISTICS = re.compile(rb"statistics +([a-z0-9_-]+): [^\n]*dur\(b,g,a\) *= *[\d.]+, *([\d.]+), *[\d.]+ ms[^\n]*\n")
# The log has a thread of its own, which writes a line some time after the answer is sent.
_LATE_S = 0.25


class DraftingLog:
    """Reads one server's log as it grows. `kinds`: how many kinds of speculation the server has; 0 for vanilla."""

    def __init__(self, path: Path, *, kinds: int) -> None:
        self._path = path
        self._kinds = kinds
        self._offset = 0
        self._total_ms: dict[bytes, float] = {}
        self._prints = kinds > 0

    def skip(self, requests: int = 0) -> None:
        """What was asked until now is none of the next request's. `requests` of them may not be in the log yet."""
        self._wait_for_lines(requests)

    def request_ms(self) -> float | None:
        """How long drafting took in the only request since the last call; None where the build doesn't say.

        Waits a moment for the line, but only once for a build that prints none.
        """
        before = sum(self._total_ms.values())
        return sum(self._total_ms.values()) - before if self._wait_for_lines(1) else None

    def _wait_for_lines(self, requests: int) -> bool:
        """Whether the lines of so many requests have come."""
        lines = 0

        def complete() -> bool:
            nonlocal lines
            lines += self._read()
            return lines >= self._kinds * requests

        if self._prints and not wait_for(complete, time.perf_counter() + _LATE_S, longest_s=0.02):
            self._prints = lines > 0
        return self._prints and lines >= self._kinds * requests

    def _read(self) -> int:
        """How many lines of statistics are new."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return 0
        text = text[: text.rfind(b"\n") + 1]  # the last line may not be whole yet
        self._offset += len(text)
        found = _STATISTICS.findall(text)
        self._total_ms |= {kind: float(ms) for kind, ms in found}
        return len(found)
