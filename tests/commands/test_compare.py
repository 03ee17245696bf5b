"""`velosweep compare`: which changes between two sweeps are real, and which sweeps can't be held together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.results.made import environment, journal_of, record, rounds
from velosweep.cli import main
from velosweep.errors import ExitStatus
from velosweep.results.sweep_record import write_record
from velosweep.values import Mode

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, *, speed: float = 1.0, vanilla: float = 1.0, host: str = "here", jobs: int = 3) -> str:
        """A sweep whose speculative runs have `speed` times 60 tokens a second, within ± 0.4 %; likewise `vanilla`."""
        taken = [
            replace(
                one,
                host=host,
                tokens_per_second=(28 * vanilla if one.mode is Mode.VANILLA else 60 * speed)
                * (1 + 0.002 * (one.order * 7 % 5)),
            )
            for one in rounds(jobs, iterations=6)
        ]
        paths = journal_of(tmp_path / name, taken)
        write_record(paths.record, record(jobs, environment=replace(environment(), host=host)))
        return str(tmp_path / name)

    return write


def test_the_same_figures_are_no_change(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["compare", write("old"), write("new"), "--fail-below", "0.97"])

    assert status == ExitStatus.OK
    assert "No change found in 3 settings" in capsys.readouterr().out


def test_a_real_loss_is_named_and_fails_where_asked(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write("old"), write("new", speed=0.9)

    assert main(["compare", old, new]) == ExitStatus.OK
    assert main(["compare", old, new, "--fail-below", "0.97"]) == ExitStatus.SOME_FAILED

    said = capsys.readouterr()
    assert "3 of 3 settings really changed speed: n_draft 4 is slower: 0.900×" in said.out
    assert "Slower than 0.97: 3 settings (n_draft 4, n_draft 8, n_draft 12)" in said.err


def test_the_screen_says_of_reproduction_what_the_page_says(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"

    main(["compare", write("old"), write("new"), "--html", str(page)])

    sentence = "Speedups reproduced within their intervals: 3 of 3 settings"
    assert capsys.readouterr().out.count(sentence) == 1
    assert sentence in page.read_text("utf-8")


def test_a_real_gain_does_not_fail(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", write("old"), write("new", speed=1.1), "--fail-below", "1"]) == ExitStatus.OK
    assert "is faster: 1.100×" in capsys.readouterr().out


def test_where_vanilla_moved_alike_the_headline_says_so(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old = write("old")
    doubt = "so did vanilla, but no speedup"

    main(["compare", old, write("machine", speed=1.5, vanilla=1.5)])
    assert doubt in capsys.readouterr().out

    main(["compare", old, write("setting", speed=1.5)])
    assert doubt not in capsys.readouterr().out
    main(["compare", old, write("both", speed=0.5, vanilla=1.5)])
    assert doubt not in capsys.readouterr().out


def test_unlike_sweeps_are_refused_with_the_difference(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write("old"), write("new", host="there")

    assert main(["compare", old, new]) == ExitStatus.REFUSED
    assert "host was here, is there\n  compare sweeps of one machine" in capsys.readouterr().err

    assert main(["compare", old, new, "--anyway"]) == ExitStatus.OK
    assert "Unlike: host was here, is there" in capsys.readouterr().out


def test_of_another_program_the_beginning_of_its_hash_is_told(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write("old"), write("new")
    for name, digits in ((old, "ab"), (new, "cd")):
        path = Path(name) / "sweep.json"
        path.write_text(re.sub(r'"program_sha256": *null', f'"program_sha256": "{digits * 32}"', path.read_text()))

    main(["compare", old, new])

    assert "program was abababababab, is cdcdcdcdcdcd\n" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [60, 80])
def test_on_a_narrow_screen_no_verdict_is_clipped_and_the_columns_left_out_are_told(
    write: Write, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")

    main(["compare", write("old"), write("new")])

    said = capsys.readouterr().out
    assert said.count("≈ none found") == 3
    assert "…" not in said
    assert re.search(r"\(.*(more columns|too).*\)\n", said)


def test_jobs_that_only_one_sweep_has_are_named(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", write("old", jobs=3), write("new", jobs=2)]) == ExitStatus.OK
    assert "Only in the old sweep: n_draft 12" in capsys.readouterr().out


def test_a_sweep_is_not_compared_with_itself(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old = write("old")

    assert main(["compare", old, f"{old}/."]) == ExitStatus.REFUSED
    assert "are one sweep" in capsys.readouterr().err


@pytest.mark.parametrize("fail_below", [[], ["--fail-below", "0.97"]])
def test_nothing_to_compare_is_said_and_is_no_success(
    write: Write, tmp_path: Path, fail_below: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    old = write("old", jobs=1)
    other = journal_of(tmp_path / "other", [one for one in rounds(3, iterations=6) if one.job_num in (None, 2)])
    write_record(other.record, record(3))

    assert main(["compare", old, str(other.root), *fail_below]) == ExitStatus.NOTHING_MEASURED

    said = " ".join(capsys.readouterr().out.split())
    assert (
        "Nothing to compare: the sweeps have no setting in common: n_draft is 4 in the old one, 12 in the new" in said
    )
    assert "n_predict is" not in said
    assert "Only in the old sweep: n_draft 4" in said


def test_the_page_is_whole_and_needs_no_network(write: Write, tmp_path: Path) -> None:
    new = write("new", speed=0.9)

    assert main(["compare", write("old"), new, "--html"]) == ExitStatus.OK
    assert main(["compare", write("old"), new, "--html", str(tmp_path / "page.html")]) == ExitStatus.OK

    page = (Path(new) / "comparison.html").read_text("utf-8")
    assert (tmp_path / "page.html").read_text("utf-8") == page
    assert "3 of 3 settings really changed" in page
    assert page.count('<circle cx="') == 3
    assert not any(sign in page for sign in ("http://", "https://", "<script", "src="))


@pytest.mark.parametrize("ratio", ["0", "1.5", "-1", "nan"])
def test_a_ratio_that_makes_no_sense_is_refused(write: Write, ratio: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", write("old"), write("new"), f"--fail-below={ratio}"]) == ExitStatus.REFUSED
    assert "give a ratio up to 1" in capsys.readouterr().err


def test_a_folder_that_is_no_sweep_is_refused(write: Write, tmp_path: Path) -> None:
    assert main(["compare", write("old"), str(tmp_path / "none")]) == ExitStatus.REFUSED


def test_without_folders_the_two_latest_are_compared(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("older", "new", "old")):
        os.utime(Path(write(name, speed=0.9 if name == "old" else 1.0)) / "journal.jsonl", (number, number))
    monkeypatch.chdir(tmp_path)

    assert main(["compare", "--fail-below", "0.97"]) == ExitStatus.SOME_FAILED
    assert main(["compare", "older", "new"]) == ExitStatus.OK

    assert "n_draft 4 is slower: 0.900×" in capsys.readouterr().out


def test_posted_rows_stand_beside_ones_own_without_a_ratio(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rows = tmp_path / "rows.md"
    rows.write_text(
        "| device | model | speedup |\n|---|---|---|\n| RTX 3090 | Qwen | 9.50× |\n| P40 | Qwen | 0.90× |\n"
    )

    assert main(["compare", write("mine"), str(rows)]) == ExitStatus.OK

    said = capsys.readouterr().out.splitlines()
    places = [line.split()[0] for line in said if line.lstrip().startswith(("rows.md", "this sweep"))]
    assert places == ["rows.md", "this", "this", "this", "rows.md"]
    assert "not what to expect" in said[-1]
