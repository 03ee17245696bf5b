"""How many layers a server's models have on its GPUs, by llama.cpp's own log."""

from __future__ import annotations

import re
from pathlib import Path

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
