from __future__ import annotations

import csv
import io
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.reporting import sweeps
from tests.strategies import samples_to_table
from velosweep.cli import main
from velosweep.results.parquet_files import write_samples
from velosweep.results.sweep_record import write_record


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A finished sweep's folder, as far as the report needs it."""
    made = sweeps.default_sweep()
    write_record(tmp_path / "sweep.json", made.record)
    write_samples(tmp_path / "samples.parquet", samples_to_table(made.runs))
    return tmp_path


def test_the_report_is_shown_and_written_again(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(sweep)]) == 0

    shown = capsys.readouterr().out
    assert "Run the synthetic draft, n_draft 4" in shown
    assert str(sweep / "report.html") in shown
    page = (sweep / "report.html").read_text("utf-8")
    assert "Run the synthetic draft, n_draft 4" in page
    assert "/home/somebody" not in page


def test_where_the_report_can_not_be_written_it_is_shown_all_the_same(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "report.html" / "in the way").mkdir(parents=True)

    assert main(["report", str(sweep)]) == 0

    shown = capsys.readouterr().out
    assert "report.html is not written anew: Can't write" in shown
    assert "Run the synthetic draft, n_draft 4" in shown


def test_a_folder_of_sweeps_is_listed_with_each_ones_answer(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("2026-11-24/one", "2026-11-24/the other"):
        folder = sweep.parent / "outputs" / place
        shutil.copytree(sweep, folder)

    assert main(["report", str(sweep.parent / "outputs")]) == 0

    shown = capsys.readouterr().out
    assert "holds 2 sweeps" in shown
    assert "2026-11-24/one: Run the synthetic draft, n_draft 4" in shown
    assert f"velosweep report '{folder}'" in shown
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("words", [("--format", "csv"), ("--plots",), ("--mlflow",)])
def test_what_is_made_of_one_sweep_is_refused_for_a_folder_of_them(
    sweep: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep.with_name(f"{sweep.name} and others")
    for place in ("one", "the other"):
        shutil.copytree(sweep, folder / place)

    assert main(["report", str(folder), *words]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert f"holds 2 sweeps, and {words[0]} is for one" in said.err
    assert f"'{folder / 'the other'}'" in said.err


@pytest.mark.parametrize("form", ["text", "html"])
def test_a_format_that_there_is_not_is_refused_with_those_there_are(
    sweep: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(sweep), "--format", form]) == 2
    assert "choose md, csv, json, row, command, preset or llama-swap; without --format it is" in capsys.readouterr().err


def test_paths_are_kept_where_that_is_asked_for(sweep: Path) -> None:
    assert main(["report", str(sweep), "--paths", "-q"]) == 0

    assert "/home/somebody" in (sweep / "report.html").read_text("utf-8")


@pytest.mark.parametrize("form", ["md", "csv", "json"])
def test_an_export_goes_to_stdout_and_nothing_is_written(
    sweep: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    before = sorted(sweep.rglob("*"))

    assert main(["report", str(sweep), "--format", form]) == 0

    text = capsys.readouterr().out
    assert sorted(sweep.rglob("*")) == before
    if form == "json":
        assert {row["n_draft"] for row in json.loads(text)["results"]} == {4, 8, 12}
    elif form == "csv":
        assert {row["n_draft"] for row in csv.DictReader(io.StringIO(text))} == {"4", "8", "12"}
    else:
        assert text.startswith("**Run the synthetic draft")


@pytest.mark.parametrize("flags", [["--plots"], ["--mlflow"]])
def test_what_writes_is_refused_beside_a_format(
    sweep: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(sweep), "--format", "csv", *flags]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert f"--format only prints, and {flags[0]} writes" in said.err


def test_plots_are_written_beside_the_page(sweep: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")

    assert main(["report", str(sweep), "-q", "--plots"]) == 0

    assert (sweep / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (sweep / "report.svg").is_file()


def test_jobs_are_logged_to_a_local_mlflow_store(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    assert main(["report", str(sweep), "-q", "--mlflow", (tmp_path / "mlruns").as_uri()]) == 0

    assert "Logged to MLflow: 3 runs" in capsys.readouterr().out


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2

    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.skipif(find_spec("alembic") is not None, reason="MLflow's databases can be used here")
def test_what_mlflow_lacks_is_told_in_words(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.chdir(sweep)

    assert main(["report", str(sweep), "--mlflow", f"sqlite:///{sweep}/mlflow.db"]) == 2

    # without SQLAlchemy it knows no databases, with it and without alembic it can't make one
    assert re.match(r"velosweep: MLflow (needs the package|refused: .*unsupported URI)", capsys.readouterr().err)
