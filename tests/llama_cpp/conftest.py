"""What the tests of engines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from velosweep.config.settings import SyntheticShape
from velosweep.llama_cpp import capabilities


@pytest.fixture(autouse=True)
def ask_anew() -> None:
    """Capabilities are asked anew in each test."""
    capabilities.capabilities_of.cache_clear()


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that the stand-ins take for a model."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0")
    return str(path)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A synthetic pair of less than a megabyte."""
    from velosweep.models.synthetic.pair import write_files

    shape = SyntheticShape(
        layers=4, kept_layers=1, width=64, feed_forward=128, heads=4, kv_heads=4, vocabulary=260, eps=0.2, seed=3
    )
    folder = tmp_path_factory.mktemp("pair")
    write_files(shape, "draft", (folder / "main.gguf", folder / "draft.gguf"))
    return str(folder / "main.gguf"), str(folder / "draft.gguf")
