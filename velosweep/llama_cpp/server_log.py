"""What a server's log says: how many layers are on GPUs, and how long drafting took, by llama.cpp's own statistics.

After each request a server that speculates prints a line for each of its kinds (at the level `trace`):
`statistics draft-simple: #calls(b,g,a) = 1 46 46, … #gen tokens = 178, … dur(b,g,a) = 0.001, 2456.037, 0.031 ms`. The
tokens and the middle duration, the time spent drafting, count from the server's start, so that the difference of two
lines is one request's.
"""

import re
import time
from pathlib import Path

from velosweep.llama_cpp.process import wait_for

_STATISTICS = re.compile(
    rb"statistics +([a-z0-9_-]+): [^\n]*#gen tokens *= *(\d{1,15}),"
    rb"[^\n]*dur\(b,g,a\) *= *[\d.]+, *(\d+(?:\.\d+)?), *[\d.]+ ms"
)
# The log has a thread of its own, which writes a line some time after the answer is sent.
_LATE_S = 0.25
_OFFLOADED = re.compile(rb"offloaded (\d{1,6})/(\d{1,6}) layers to GPU")


def offloaded_layers(log_path: Path) -> tuple[int | None, int | None]:
    """(on GPUs, in all) over all models of a server that has loaded them; None where the build doesn't say."""
    try:
        found = _OFFLOADED.findall(log_path.read_bytes())
    except OSError:
        found = []
    if not found:
        return None, None
    return sum(int(there) for there, _ in found), sum(int(layers) for _, layers in found)


class DraftingLog:
    """Reads one server's log as it grows. `kinds`: how many kinds of speculation the server has; 0 to read nothing."""

    def __init__(self, path: Path, *, kinds: int) -> None:
        self._path = path
        self._kinds = kinds
        self._offset = 0
        self._totals: dict[bytes, tuple[int, float]] = {}  # tokens and ms by kind
        self._prints = kinds > 0

    def skip(self) -> None:
        """What was asked until now is none of the next run's."""
        if self._prints:
            self._read()

    def run_ms(self, drafted: int | None) -> float | None:
        """How long drafting took in a run of so many drafted tokens, the only ones since `skip`.

        None where the build doesn't say, or says that other tokens were drafted. Waits a moment for the line, but only
        once for a build that prints none.
        """
        if not self._prints or drafted is None:
            return None
        (tokens_before, ms_before), lines = self._total(), 0

        def complete() -> bool:
            nonlocal lines
            lines += self._read()
            return lines >= self._kinds and self._total()[0] - tokens_before >= drafted

        if not wait_for(complete, time.perf_counter() + _LATE_S, longest_s=0.02):
            self._prints = lines > 0
        tokens, ms = self._total()
        return ms - ms_before if lines >= self._kinds and tokens - tokens_before == drafted else None

    def _total(self) -> tuple[int, float]:
        """Tokens drafted and ms spent on it since the server started."""
        return sum(tokens for tokens, _ in self._totals.values()), sum(ms for _, ms in self._totals.values())

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
        self._totals |= {kind: (int(tokens), float(ms)) for kind, tokens, ms in found}
        return len(found)
