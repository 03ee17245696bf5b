"""A sweep's record made from its samples alone, for a folder whose samples.parquet another program wrote."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import groupby
from typing import TYPE_CHECKING, Any

from velosweep.records import Environment, JobRecord, SweepRecord
from velosweep.values import Mode

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS = ["job_id", "mode", "prompt_id"]
_FIRST = ["sweep_id", "job_num", "model_pair", "main_model", "draft_model", "speculation", "n_draft", "n_predict"]
_FIRST += ["prompt_set", "started_at", "host", "device", "engine", "llama_cpp_build"]

Row = dict[str, Any]


def record_from_samples(table: pa.Table) -> SweepRecord:
    """One job a `job_id` of speculative rows, in order of `job_num`; what samples don't say stays at its default."""
    grouped = table.group_by(_KEYS, use_threads=False)
    firsts = grouped.aggregate([*((name, "first") for name in _FIRST), ("iteration", "max")])
    rows: list[Row] = [{name.removesuffix("_first"): row[name] for name in row} for row in firsts.to_pylist()]
    chosen = [row for row in rows if row["mode"] == Mode.SPECULATIVE.value] or rows
    by_job = groupby(sorted(chosen, key=lambda row: row["job_id"] or ""), key=lambda row: row["job_id"] or "")
    jobs = sorted((list(members) for _, members in by_job), key=lambda members: members[0]["job_num"] or 0)
    first: Row = chosen[0] if chosen else {}
    started = [row["started_at"] for row in chosen if row["started_at"] is not None]
    return SweepRecord(
        sweep_id=first.get("sweep_id") or "",
        created_at=min(started) if started else datetime.fromtimestamp(0, timezone.utc),
        command=(),
        single=len(jobs) == 1,
        jobs=tuple(_job(number, members) for number, members in enumerate(jobs)),
        environment=Environment(
            velosweep="unknown",
            python="unknown",
            host=first.get("host") or "unknown",
            system="unknown",
            cpu=first.get("device") or "unknown",
            physical_cores=0,
            logical_cores=0,
            memory_bytes=0,
            devices=(),
            engine=first.get("engine") or "unknown",
            program=None,
            program_sha256=None,
            llama_cpp_build=first.get("llama_cpp_build") or "unknown",
        ),
    )


def _job(number: int, rows: list[Row]) -> JobRecord:
    first = rows[0]
    num = number if first["job_num"] is None else first["job_num"]
    return JobRecord(
        id=first["job_id"] or "",
        num=num,
        baseline_id="",
        directory=str(num),
        overrides=(),
        model_pair=first["model_pair"] or "",
        main_model=first["main_model"] or "",
        draft_model=first["draft_model"],
        speculation=first["speculation"] or "draft",
        n_draft=first["n_draft"] or 0,
        n_predict=first["n_predict"] or 0,
        prompt_set=first["prompt_set"] or "",
        prompt_ids=tuple(sorted(row["prompt_id"] or "" for row in rows)),
        iterations=max(row["iteration_max"] for row in rows),
        state="done",
    )
