"""A sweep's record made from its samples alone, for a folder whose samples.parquet another program wrote."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from velosweep.records import Environment, JobRecord, SweepRecord
from velosweep.values import Mode

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS = ("job_id", "mode", "prompt_id")
_FIRST: tuple[str, ...] = (
    "sweep_id",
    "job_num",
    "model_pair",
    "main_model",
    "draft_model",
    "speculation",
    "n_draft",
    "n_predict",
)
_FIRST += ("prompt_set", "started_at", "host", "device", "engine", "llama_cpp_build")


def record_from_samples(table: pa.Table) -> SweepRecord:
    """One job a `job_id` of speculative rows, in order of `job_num`; what samples don't say stays at its default."""
    rows = table.group_by(list(_KEYS), use_threads=False)
    grouped = rows.aggregate([*((name, "first") for name in _FIRST), ("iteration", "max")]).to_pylist()
    speculative = [row for row in grouped if row["mode"] == Mode.SPECULATIVE.value]
    chosen = speculative or grouped
    jobs: dict[str, list[dict[str, Any]]] = {}
    for row in chosen:
        jobs.setdefault(row["job_id"] or "", []).append(row)
    ordered = sorted(jobs.items(), key=lambda item: (item[1][0]["job_num_first"] or 0, item[0]))
    first = chosen[0] if chosen else {}
    started = [row["started_at_first"] for row in chosen if row["started_at_first"] is not None]
    return SweepRecord(
        sweep_id=first.get("sweep_id_first") or "",
        created_at=min(started) if started else datetime.fromtimestamp(0, timezone.utc),
        command=(),
        single=len(ordered) == 1,
        jobs=tuple(_job(number, job_id, members) for number, (job_id, members) in enumerate(ordered)),
        environment=_environment(first),
    )


def _job(number: int, job_id: str, rows: list[dict[str, Any]]) -> JobRecord:
    first = rows[0]
    num = first["job_num_first"]
    return JobRecord(
        id=job_id,
        num=number if num is None else num,
        baseline_id="",
        directory=str(number if num is None else num),
        overrides=(),
        model_pair=first["model_pair_first"] or "",
        main_model=first["main_model_first"] or "",
        draft_model=first["draft_model_first"],
        speculation=first["speculation_first"] or "draft",
        n_draft=first["n_draft_first"] or 0,
        n_predict=first["n_predict_first"] or 0,
        prompt_set=first["prompt_set_first"] or "",
        prompt_ids=tuple(sorted(row["prompt_id"] or "" for row in rows)),
        iterations=max(row["iteration_max"] for row in rows),
        state="done",
    )


def _environment(row: dict[str, Any]) -> Environment:
    return Environment(
        velosweep="unknown",
        python="unknown",
        host=row.get("host_first") or "unknown",
        system="unknown",
        cpu=row.get("device_first") or "unknown",
        physical_cores=0,
        logical_cores=0,
        memory_bytes=0,
        devices=(),
        engine=row.get("engine_first") or "unknown",
        program=None,
        program_sha256=None,
        llama_cpp_build=row.get("llama_cpp_build_first") or "unknown",
    )
