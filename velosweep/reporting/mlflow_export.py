"""MLflow: one run a job, with its parameters, its metrics with intervals, and its files.

MLflow (extra `mlflow`) is imported when it is asked for, and talks to the store that its own settings name.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from velosweep.errors import ConfigError, install_extra
from velosweep.records import JobRecord, SweepRecord
from velosweep.reporting.wording import recorded_names, whole_jobs
from velosweep.results.results_file import results_to_table
from velosweep.statistics.comparison import Comparison

_PARAMETERS = (
    "model_pair", "main_model", "draft_model", "speculation", "n_draft", "n_predict", "prompt_set", "iterations",
    "launches", "protocol", "order", "target_speedup", "skip_vanilla",
)  # fmt: skip


def log_to_mlflow(
    comparisons: Iterable[Comparison],
    record: SweepRecord,
    *,
    artefacts: Mapping[str, Sequence[Path]] | None = None,
    tracking_uri: str | None = None,
) -> tuple[str, ...]:
    """Log every job as one MLflow run; the runs' ids in the order of the jobs.

    A job that is there already (tag `velosweep.job_id` with the same sweep) is not logged twice: its run is
    brought up to date. `artefacts`: files by job id; those that are missing are left out. Without `tracking_uri`
    MLflow's own setting (MLFLOW_TRACKING_URI) holds. Raises ConfigError where MLflow is not installed.
    """
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ConfigError("MLflow is not installed", remedy=install_extra("mlflow")) from error
    client = MlflowClient(tracking_uri=tracking_uri)
    found = client.get_experiment_by_name("velosweep")
    experiment_id = found.experiment_id if found else client.create_experiment("velosweep")
    rows = {row.job_id: row for row in whole_jobs(comparisons)}
    return tuple(
        _log_job(client, experiment_id, job, rows.get(job.id), record, (artefacts or {}).get(job.id, ()))
        for job in record.jobs
    )


def _log_job(
    client: Any, experiment_id: str, job: JobRecord, row: Comparison | None, record: SweepRecord, files: Sequence[Path]
) -> str:
    here = record.environment
    tags = {
        "velosweep.sweep_id": record.sweep_id,
        "velosweep.job_id": job.id,
        "velosweep.version": here.velosweep,
        "velosweep.state": job.state,
        "velosweep.host": here.host,
        "velosweep.device": ", ".join(device.name for device in here.devices) or "CPU",
        "velosweep.engine": here.engine,
        "velosweep.llama_cpp_build": here.llama_cpp_build,
    }
    if row is not None:
        tags["velosweep.verdict"] = row.verdict.value
        tags["velosweep.findings"] = "; ".join(str(finding) for finding in row.findings) or "none"
    if job.error:
        tags["velosweep.error"] = job.error
    wanted = f"tags.`velosweep.sweep_id` = '{record.sweep_id}' and tags.`velosweep.job_id` = '{job.id}'"
    earlier = client.search_runs([experiment_id], filter_string=wanted, max_results=1)
    name = f"{job.model_pair}, {recorded_names(record).labels[job.id]}"
    run = earlier[0] if earlier else client.create_run(experiment_id, tags=tags, run_name=name)
    run_id = str(run.info.run_id)
    for name, tag in tags.items():
        client.set_tag(run_id, name, tag)
    logged = run.data.params
    for name in _PARAMETERS:
        value = str(getattr(job, name))
        if logged.setdefault(name, value) == value:
            client.log_param(run_id, name, value)
        else:  # MLflow changes no parameter, and `velosweep more` changes iterations
            client.set_tag(run_id, f"velosweep.{name}", value)
    for name, metric in metrics_of(row).items() if row is not None else ():
        client.log_metric(run_id, name, metric)
    for path in filter(Path.is_file, files):
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id, status="FAILED" if job.state == "failed" else "FINISHED")
    return run_id


def metrics_of(row: Comparison) -> dict[str, float]:
    """The figures of results.parquet by name; what is undefined is left out."""
    (values,) = results_to_table([row], sweep_id="").to_pylist()
    figures = {name: value for name, value in values.items() if isinstance(value, float)}
    return {"n_pairs": float(row.n_pairs), **figures}
