"""A bench for each test, and one pair of tiny real GGUF files for all of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Bench
from velosweep.config.settings import SyntheticShape
from velosweep.models.synthetic.pair import write_files

TINY = SyntheticShape(layers=2, kept_layers=1, width=64, feed_forward=64, heads=2, kv_heads=1, vocabulary=320, eps=0.1)


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A main and a draft model of some hundred kilobytes."""
    folder = tmp_path_factory.mktemp("models")
    pair = folder / "main.gguf", folder / "draft.gguf"
    write_files(TINY, "draft", pair)
    return pair


@pytest.fixture
def bench(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Iterator[Bench]:
    """A place of its own to run sweeps in."""
    models = tmp_path / "models"
    models.mkdir()
    main, draft = (Path(shutil.copy(path, models)) for path in tiny_pair)
    made = Bench(folder=tmp_path, main_model=main, draft_model=draft)
    yield made
    made.clear()
