"""What the tests of engines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from velosweep.llama_cpp import capabilities


@pytest.fixture(autouse=True)
def ask_anew() -> None:
    """Capabilities are asked anew in each test."""
    capabilities.of_program.cache_clear()


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that the stand-ins take for a model."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0")
    return str(path)
