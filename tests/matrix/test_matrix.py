"""Every generation of llama.cpp that can be had, measured: `pytest -m matrix -s tests/matrix`.

Takes an hour the first time (four builds), minutes after that. The table goes to the screen and to matrix.md in the
folder that $VELOSWEEP_MATRIX names. MATRIX_ONLY=0.3.36,0.2.14 measures only those; MATRIX_ROUNDS=40 tells engines of
one build apart on a noisy machine, MATRIX_WIDTH=1536 MATRIX_TOKENS=32 does it with tokens that take ten times as long.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.matrix import generations
from tests.matrix.generations import SOURCES, WHEELS, Pair
from tests.matrix.measure import HEAD, Row, agreement, measure
from velosweep.config.settings import SyntheticShape
from velosweep.llama_cpp.attached import AttachedEngine
from velosweep.llama_cpp.binaries import BinariesEngine
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.server import ServerEngine

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(7200)]

ROUNDS = int(os.environ.get("MATRIX_ROUNDS", "6"))
N_PREDICT = int(os.environ.get("MATRIX_TOKENS", "128"))
WIDTH = int(os.environ.get("MATRIX_WIDTH", "512"))
SHAPE = SyntheticShape(
    layers=8, kept_layers=1, width=WIDTH, feed_forward=3 * WIDTH, heads=8, kv_heads=8, vocabulary=260, eps=0.1, seed=0
)
ONLY = tuple(filter(None, os.environ.get("MATRIX_ONLY", "").split(",")))


@pytest.fixture(scope="module")
def pair() -> Pair:
    """One pair for all generations."""
    from velosweep.models.synthetic.pair import write_files

    size = "" if WIDTH == 512 else f"-{WIDTH}"
    main, draft = generations.folder() / f"main{size}.gguf", generations.folder() / f"draft{size}.gguf"
    if not draft.exists():
        write_files(SHAPE, "draft", (main, draft))
    return Pair(str(main), str(draft))


def report(rows: list[Row]) -> None:
    """Add to the table."""
    table = generations.folder() / "matrix.md"
    lines = "\n".join(row.line() for row in rows)
    head = "" if table.exists() else HEAD + "\n"
    with table.open("a") as file:
        file.write(head + lines + "\n")
    print("\n" + lines)


def wanted(version: str) -> None:
    """Skip what MATRIX_ONLY leaves out."""
    if ONLY and version not in ONLY:
        pytest.skip("not in MATRIX_ONLY")


@pytest.mark.parametrize("version", WHEELS)
def test_an_old_wheel_as_attached_servers(version: str, pair: Pair, tmp_path: Path) -> None:
    wanted(version)
    drafting = (pair.main, pair.draft, "4")
    with (
        generations.served(version, tmp_path / "v.log", pair.main) as vanilla_url,
        generations.served(version, tmp_path / "s.log", *drafting) as speculative_url,
    ):
        engine = AttachedEngine(vanilla_url=vanilla_url, speculative_url=speculative_url)
        rows = measure(WHEELS[version], [engine], pair, tmp_path, rounds=ROUNDS, n_predict=N_PREDICT)
    report(rows)

    assert_sound(rows)


@pytest.mark.parametrize("version", SOURCES)
def test_a_native_build_by_server_and_by_its_programs(version: str, pair: Pair, tmp_path: Path) -> None:
    wanted(version)
    programs = generations.native(version)
    engines = [ServerEngine(str(programs / "llama-server")), BinariesEngine(str(programs))]
    rows = measure(SOURCES[version], engines, pair, tmp_path, rounds=ROUNDS, n_predict=N_PREDICT, programs=programs)
    report(rows)
    print("\n".join(agreement(rows)))

    assert_sound(rows)


def test_the_embedded_engine(pair: Pair, tmp_path: Path) -> None:
    wanted("embedded")
    rows = measure("embedded", [EmbeddedEngine()], pair, tmp_path, rounds=ROUNDS, n_predict=N_PREDICT)
    report(rows)

    assert_sound(rows)


def assert_sound(rows: list[Row]) -> None:
    """Every run valid, the same drafts accepted and the same text each time."""
    for row in rows:
        assert row.invalid == []
        assert len(row.acceptances) == 1, f"acceptance drifted between runs: {row.acceptances}"
        assert [len(texts) for texts in row.outputs.values()] == [1, 1], "the text differs between runs of one mode"
