"""The main job as a person runs it: the command line, the embedded llama.cpp, the files it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import velosweep
from tests import forked

pytestmark = pytest.mark.real

QUICK = ["iterations=2", "n_predict=24"]


def run(arguments: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_COLOR": "1", "VELOSWEEP_LOCK_DIR": str(cwd / "locks"), **environment}
    for name in ("LLAMA_CPP_PATH", "HYDRA_FULL_ERROR"):
        env.pop(name, None)
    return forked.velosweep(*arguments, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a small sweep over n_draft on the embedded engine, and what the screen said."""
    cwd = tmp_path_factory.mktemp("sweep")
    done = run(["-m", "n_draft=2,4", "engine=embedded", *QUICK, "hydra.sweep.dir=out"], cwd)

    assert done.returncode == 0, done.stdout + done.stderr
    return cwd / "out", done.stdout


def test_a_sweep_leaves_every_file_of_the_contract(sweep: tuple[Path, str]) -> None:
    root, _ = sweep
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "logs" not in path.parts}

    expected = {"multirun.yaml", "sweep.json", "samples.parquet", "results.parquet", "summaries.json", "report.html"}
    for job in ("0", "1"):
        expected |= {f"{job}/summary.json", f"{job}/samples.parquet"}
        expected |= {f"{job}/.hydra/{name}.yaml" for name in ("config", "hydra", "overrides")}

    assert expected <= files
    assert not [name for name in files - expected if not name.startswith("journal")]


_OTHER_SWEEP = """
import sys
from velosweep import sweep
from velosweep.cli import main
from velosweep.errors import BusyError
from velosweep.machine.device_locks import lock_devices
from velosweep.values import Device

write_results = sweep.collate

def collate(root):
    try:
        with lock_devices([Device(kind="cpu", name="CPU")], on_busy="fail", sweep="another"):
            print("the machine was free")
    except BusyError:
        print("the machine was taken")
    return write_results(root)

sweep.collate = collate
sys.exit(main(sys.argv[1:]))
"""


def test_no_other_sweep_is_measured_while_results_are_written(tmp_path: Path) -> None:
    env = {**os.environ, "NO_COLOR": "1", "VELOSWEEP_LOCK_DIR": str(tmp_path / "locks")}
    arguments = ["engine=embedded", "iterations=1", "n_predict=8", "hydra.run.dir=out"]

    done = subprocess.run(
        [sys.executable, "-c", _OTHER_SWEEP, *arguments],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240,
    )  # fmt: skip

    assert "the machine was taken" in done.stdout, done.stdout + done.stderr


def test_the_summary_is_the_specifications_object(sweep: tuple[Path, str]) -> None:
    root, _ = sweep
    summary = json.loads((root / "0" / "summary.json").read_text())

    assert list(summary) == ["config", "vanilla", "speculative", "speedup", "speedup_stddev", "timestamp"]
    assert summary["config"]["n_draft"] == 2
    assert summary["config"]["prompt"] == "Explain quantum computing in simple terms"
    assert [len(summary[mode]["tokens_per_second"]["samples"]) for mode in ("vanilla", "speculative")] == [2, 2]
    assert summary["speedup"] == pytest.approx(
        summary["speculative"]["tokens_per_second"]["mean"] / summary["vanilla"]["tokens_per_second"]["mean"]
    )


def test_vanilla_is_measured_once_for_all_n_draft_and_drafts_nothing(sweep: tuple[Path, str]) -> None:
    root, _ = sweep
    rows = velosweep.load(root).to_pylist()
    counted = [row for row in rows if not row["warmup"]]
    vanilla = [row for row in counted if row["mode"] == "Vanilla"]
    speculative = [row for row in counted if row["mode"] == "Speculative"]

    assert (len(vanilla), len(speculative)) == (2, 4)
    assert all(not row["draft_tokens"] for row in vanilla)
    assert all(row["draft_tokens"] > 0 for row in speculative)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["engine"] for row in rows} == {"embedded"}


def test_speculative_output_is_the_vanilla_output_on_the_cpu(sweep: tuple[Path, str]) -> None:
    root, _ = sweep
    rows = [row for row in velosweep.load(root).to_pylist() if not row["warmup"]]

    assert len({row["output_sha256"] for row in rows}) == 1
    assert {row["first_divergence"] for row in rows} == {None}


def test_the_screen_says_what_the_specification_shows(sweep: tuple[Path, str]) -> None:
    root, screen = sweep

    assert "Configuration:" in screen
    assert "Iteration 1/2" in screen
    assert "Iteration 2/2" in screen
    assert "tok/s (" in screen
    assert f"Report:     {root.name}/report.html" in screen
    assert "times" in screen
    assert "text is not" in screen


def test_collate_rebuilds_every_derived_file_to_the_same_bytes(sweep: tuple[Path, str]) -> None:
    root, _ = sweep
    derived = [root / name for name in ("samples.parquet", "results.parquet", "summaries.json", "report.html")]
    derived += [root / job / name for job in ("0", "1") for name in ("summary.json", "samples.parquet")]
    before = {path: path.read_bytes() for path in derived}
    for path in derived:
        path.unlink()
    done = run(["collate", str(root)], root.parent)

    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in derived} == before


def test_the_folder_is_read_by_pandas_polars_and_duckdb(sweep: tuple[Path, str]) -> None:
    import duckdb
    import pandas
    import polars

    root, _ = sweep
    rows = pq.read_table(root / "samples.parquet").num_rows

    assert len(pandas.read_parquet(root / "samples.parquet")) == rows
    assert len(polars.read_parquet(root / "samples.parquet")) == rows
    counted = duckdb.connect().execute(f"select count(*) from '{root}/samples.parquet'").fetchall()

    assert counted == [(rows,)]
    assert len(pandas.read_parquet(root / "results.parquet")) == 4


def test_a_single_job_has_its_files_in_its_own_directory(tmp_path: Path) -> None:
    done = run(["n_draft=4", "engine=embedded", "iterations=1", "n_predict=16", "hydra.run.dir=one"], tmp_path)
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())

    assert done.returncode == 0, done.stderr
    assert summary["vanilla"]["tokens_per_second"]["stddev"] is None
    assert "=== Performance Comparison ===" in done.stdout
    assert "Speedup:" in done.stdout


def test_skip_vanilla_leaves_speedup_undefined(tmp_path: Path) -> None:
    out = tmp_path / "copy.json"
    arguments = ["skip_vanilla=true", "engine=embedded", *QUICK, "hydra.run.dir=one", f"output={out}"]
    done = run(arguments, tmp_path)
    summary = json.loads(out.read_text())

    assert done.returncode == 0, done.stderr
    assert (summary["vanilla"], summary["speedup"], summary["speedup_stddev"]) == (None, None, None)
    assert summary == json.loads((tmp_path / "one" / "summary.json").read_text())


def test_several_prompts_are_one_suite_and_each_by_itself(tmp_path: Path) -> None:
    two = ["prompts=mixed", "prompts.limit=2"]
    done = run([*two, "n_draft=4", "engine=embedded", "iterations=1", "n_predict=8", "hydra.run.dir=one"], tmp_path)
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    prompts = list((tmp_path / "one" / "prompts").glob("*.json"))
    results = velosweep.load_results(tmp_path / "one").to_pylist()

    assert done.returncode == 0, done.stderr
    assert summary["config"]["prompt"] == "mixed"
    assert len(prompts) == len(results) - 1 == 2


def test_dry_run_prints_the_plan_and_writes_no_sample(tmp_path: Path) -> None:
    done = run(["-m", "n_draft=4,8,12", "dry_run=true", "engine=embedded", "hydra.sweep.dir=out"], tmp_path)

    assert done.returncode == 0, done.stderr
    assert "3 settings" in done.stdout
    assert "20 runs" in done.stdout
    assert not list((tmp_path / "out").rglob("samples.parquet"))


def test_an_experiment_file_runs_a_whole_sweep(tmp_path: Path) -> None:
    done = run(["-m", "+experiment=ndraft_grid", "dry_run=true", "engine=embedded"], tmp_path)

    assert done.returncode == 0, done.stderr
    assert "4 settings" in done.stdout


def test_doctor_says_what_would_run(tmp_path: Path) -> None:
    done = run(["doctor", "engine=embedded"], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "engine embedded" in done.stdout
    assert "vocabulary fits" in done.stdout
    assert "MB" in done.stdout
    assert "iB" not in done.stdout
    assert "pip install 'velosweep" not in done.stdout  # there is none to be had by that name


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    done = run(["doctor", "model_pair=llama8b_1b"], tmp_path, VELOSWEEP_MODELS=str(tmp_path))

    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert any(line.startswith("    - No model at") and "llama-3.1-8b" in line for line in lines)
    assert "⏎" not in done.stdout


def test_doctor_says_each_lack_once(tmp_path: Path) -> None:
    done = run(["doctor", "llama_cpp.path=/nonexistent"], tmp_path)

    assert done.returncode == 2
    assert done.stdout.count("No llama-server for llama_cpp.path=/nonexistent") == 1
    assert "❌ devices: unknown without llama.cpp" in done.stdout


def test_lengths_that_come_to_one_run_are_measured_once_and_every_job_has_an_outcome(tmp_path: Path) -> None:
    sweep = ["-m", "speculation=ngram-cache", "n_draft=4,8,12", "engine=embedded", *QUICK, "hydra.sweep.dir=out"]
    done = run(sweep, tmp_path)
    (job,) = json.loads((tmp_path / "out" / "sweep.json").read_text())["jobs"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert (job["num"], job["n_draft"], job["twins"], job["state"]) == (0, 8, [1, 2], "done")
    assert "n_draft 4, 8, 12 are measured once, as n_draft 8" in " ".join(done.stdout.split())
    assert run(["resume", "out"], tmp_path).returncode == 0
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["jobs"][0]["twins"] == [1, 2]


def test_a_job_without_speculation_measures_vanilla_alone(tmp_path: Path) -> None:
    done = run(["speculation=none", "engine=embedded", *QUICK, "hydra.run.dir=one"], tmp_path)
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())

    assert done.returncode == 0, done.stdout + done.stderr
    assert summary["speculative"] is None
    assert len(summary["vanilla"]["tokens_per_second"]["samples"]) == 2
    assert "this setting does not speculate" in done.stdout
