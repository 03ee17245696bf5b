"""No test of an engine touches the caches of the person who runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from velosweep.llama_cpp import capabilities


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Capabilities are asked anew in each test and kept beside it."""
    capabilities._known.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that the stand-ins take for a model."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0")
    return str(path)
