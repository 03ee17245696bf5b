"""Rows for jobs of which no run went well: what they were, and no figures but vanilla's."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from velosweep.records import JobRecord, SweepRecord
from velosweep.statistics.comparison import Comparison
from velosweep.values import Verdict

_PARAMETERS = {field.name for field in fields(JobRecord)} & {field.name for field in fields(Comparison)}
_MACHINE = ("host", "device", "engine", "llama_cpp_build")
_VANILLA = (
    *("vanilla", "vanilla_latency", "energy_j_per_token_vanilla", "memory_bytes_vanilla"),
    *("depth_ms_vanilla", "answer_tokens_vanilla"),
)


def failed_jobs(rows: Sequence[Comparison], record: SweepRecord) -> list[Comparison]:
    """One row for each job of the record that failed without any comparison; none where there is no other row.

    It has its vanilla figures where a job of the same baseline has some.
    """
    jobs = [row for row in rows if row.prompt_id is None]
    there = {job.job_id: job for job in jobs}
    of_baseline = {entry.baseline_id: there[entry.id] for entry in record.jobs if entry.id in there}
    failed = [entry for entry in record.jobs if entry.state == "failed" and entry.id not in there] if jobs else []
    return [_row(entry, jobs[0], of_baseline.get(entry.baseline_id)) for entry in failed]


def _row(entry: JobRecord, any_job: Comparison, sibling: Comparison | None) -> Comparison:
    values: dict[str, Any] = {}
    for field in fields(Comparison):
        if field.default_factory is not MISSING:
            values[field.name] = field.default_factory()
        else:
            values[field.name] = None if field.default is MISSING else field.default
    values |= {name: getattr(entry, name) for name in _PARAMETERS}
    values |= {name: getattr(any_job, name) for name in _MACHINE}
    values |= {name: getattr(sibling, name) for name in _VANILLA} if sibling else {}
    return Comparison(
        **values | {"job_id": entry.id, "job_num": entry.num, "n_pairs": 0, "verdict": Verdict.INVALID, "findings": ()}
    )
