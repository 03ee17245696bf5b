"""One old llama.cpp in every test run: the one whose drafts repeat and that is served, not started, by somebody."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.matrix import generations
from tests.matrix.generations import Pair
from tests.matrix.measure import measure
from velosweep.config.settings import SyntheticShape
from velosweep.llama_cpp.attached import AttachedEngine

VERSION = "0.2.14"
SHAPE = SyntheticShape(
    layers=4, kept_layers=1, width=64, feed_forward=128, heads=4, kv_heads=4, vocabulary=260, eps=0.2, seed=3
)


@pytest.mark.real
def test_a_llama_cpp_of_early_2026_is_measured_without_its_repeat_artefact(tmp_path: Path) -> None:
    from velosweep.models.synthetic.pair import write_files

    try:
        generations.wheel(VERSION)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"pip can't get xllamacpp {VERSION}: {error.stderr[-200:]!r}")
    pair = Pair(str(tmp_path / "main.gguf"), str(tmp_path / "draft.gguf"))
    write_files(SHAPE, "draft", (Path(pair.main), Path(pair.draft)))
    with (
        generations.served(VERSION, tmp_path / "v.log", pair.main) as vanilla_url,
        generations.served(VERSION, tmp_path / "s.log", pair.main, pair.draft, "4") as speculative_url,
    ):
        engine = AttachedEngine(vanilla_url=vanilla_url, speculative_url=speculative_url)
        (row,) = measure("old", [engine], pair, tmp_path, rounds=3, n_predict=48)

    assert row.invalid == []
    assert len(row.acceptances) == 1
    ((drafted, accepted),) = row.acceptances
    assert drafted is not None
    assert accepted is not None
    assert accepted < drafted
    assert row.same_tokens == "all"
