from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.reporting import sweeps
from velosweep.reporting.mlflow_export import log_to_mlflow, metrics_of


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def test_each_job_is_one_run_with_parameters_metrics_intervals_and_files(tmp_path: Path, store: str) -> None:
    from mlflow.tracking import MlflowClient

    made = sweeps.default_sweep()
    summary = tmp_path / "summary.json"
    summary.write_text("{}")

    ids = log_to_mlflow(
        made.comparisons, made.record, artefacts={"job0": [summary, tmp_path / "missing"]}, tracking_uri=store
    )

    client = MlflowClient(tracking_uri=store)
    run = client.get_run(ids[0])
    assert len(ids) == 3
    assert run.data.params["n_draft"] == "4"
    assert run.data.metrics["ci_low"] == made.comparisons[0].ci_low
    assert run.data.metrics["speculative_tokens_per_second_mean"] > run.data.metrics["vanilla_tokens_per_second_mean"]
    assert run.data.tags["velosweep.verdict"] == "faster"
    assert [artefact.path for artefact in client.list_artifacts(ids[0])] == ["summary.json"]
    assert run.info.status == "FINISHED"


def test_logging_again_does_not_double_the_runs(store: str) -> None:
    made = sweeps.default_sweep()

    first = log_to_mlflow(made.comparisons, made.record, tracking_uri=store)

    assert log_to_mlflow(made.comparisons, made.record, tracking_uri=store) == first


def test_what_was_measured_further_is_brought_up_to_date(store: str) -> None:
    from mlflow.tracking import MlflowClient

    made = sweeps.default_sweep()
    first = log_to_mlflow(made.comparisons, made.record, tracking_uri=store)
    more = replace(made.record, jobs=tuple(replace(job, iterations=99) for job in made.record.jobs))

    assert log_to_mlflow(made.comparisons, more, tracking_uri=store) == first

    assert MlflowClient(tracking_uri=store).get_run(first[0]).data.tags["velosweep.iterations"] == "99"


def test_a_failed_job_is_a_failed_run_with_its_error(store: str) -> None:
    from mlflow.tracking import MlflowClient

    made = sweeps.with_failures()

    ids = log_to_mlflow(made.comparisons, made.record, tracking_uri=store)

    run = MlflowClient(tracking_uri=store).get_run(ids[3])
    assert run.info.status == "FAILED"
    assert "kv cache" in run.data.tags["velosweep.error"]
    assert run.data.metrics["n_pairs"] == 0
    assert not [name for name in run.data.metrics if name.startswith("spe")]


def test_what_is_undefined_is_no_metric() -> None:
    assert "speedup" not in metrics_of(sweeps.skip_vanilla().comparisons[0])
