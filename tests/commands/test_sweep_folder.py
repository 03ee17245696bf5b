"""`last` is the sweep measured last, wherever a folder is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.commands.test_report import sweep  # noqa: F401
from velosweep.cli import main
from velosweep.commands.sweep_folder import latest_sweeps, sweep_folder
from velosweep.errors import StorageError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three sweeps, measured in another order than their names."""
    for seconds, name in enumerate(("outputs/2026-11-29/b", "again", "outputs/2026-11-29/a")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "sweep.json").write_text("{}")
        (folder / "journal.jsonl").touch()
        os.utime(folder / "journal.jsonl", (seconds, seconds))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_last_is_the_sweep_that_was_measured_last(place: Path) -> None:
    assert sweep_folder("last") == place / "outputs/2026-11-29/a"
    assert latest_sweeps(2) == [place / "again", place / "outputs/2026-11-29/a"]


@pytest.mark.parametrize("typed", ["lst", "latest", "Last"])
def test_a_slip_of_it_is_asked_about(place: Path, typed: str) -> None:
    with pytest.raises(StorageError, match="did you mean last"):
        sweep_folder(typed)


def test_a_folder_of_that_name_is_meant_where_it_is(place: Path) -> None:
    (place / "last").mkdir()

    assert sweep_folder("last") == place / "last"


def test_without_any_sweep_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StorageError) as caught:
        sweep_folder("last")
    assert str(tmp_path / "outputs") in str(caught.value)


@pytest.mark.parametrize("words", [["report"], ["report", "last"], ["collate", "last"], ["command"]])
def test_commands_take_it(
    sweep: Path,  # noqa: F811
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (sweep / "place" / "outputs").mkdir(parents=True)
    (sweep / "place" / "outputs" / "one").symlink_to(sweep)
    monkeypatch.chdir(sweep / "place")

    assert main(words) == 0
    assert capsys.readouterr().out
