"""From samples to comparisons: one a job and prompt, and one a job. Independent of the order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from velosweep.records import JobRecord
from velosweep.statistics.columns import columns_of
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.comparison_figures import figures_of
from velosweep.statistics.findings import looks_of
from velosweep.statistics.job_comparison import Analysis, ComparedJob
from velosweep.statistics.pairing import arrange, find_jobs
from velosweep.statistics.rounds_cost import costs_of
from velosweep.statistics.runs import runs_of

if TYPE_CHECKING:
    import pyarrow as pa

# Jobs with so many vanilla runs are computed at a time: numpy's calls cost as much for one job as for hundreds.
_BATCH_RUNS = 50_000


def compare_jobs(samples: pa.Table, *, jobs: Mapping[str, JobRecord] | None = None) -> list[Comparison]:
    """All comparisons of a table of samples, by job number and then the prompts' order, the job's own last.

    `samples`: the data contract's columns; only job_id, mode, iteration and the three metrics are required.
    `jobs`: records by job id, which name each job's baseline; without them a job's baseline is the vanilla series with
    the same main model, prompts, n_predict, machine and engine.
    Raises StorageError for a missing column or an unknown mode.
    """
    return [row for rows in iterate_jobs(samples, jobs=jobs) for row in rows]


def iterate_jobs(samples: pa.Table, *, jobs: Mapping[str, JobRecord] | None = None) -> Iterator[list[Comparison]]:
    """As `compare_jobs`, a job at a time, so that only some jobs' comparisons need memory."""
    columns = columns_of(samples)
    runs = runs_of(columns)
    arrangement = arrange(columns)
    found = find_jobs(arrangement, jobs or {})
    analysis = Analysis(
        arrangement=arrangement, runs=runs, costs=costs_of(arrangement, runs, found), looks=looks_of(runs)
    )
    batch: list[ComparedJob] = []
    batch_runs = 0
    for job in found:
        batch.append(ComparedJob(analysis, job))
        batch_runs += batch[-1].vanilla.size
        if batch_runs >= _BATCH_RUNS:
            yield from _comparisons(batch)
            batch, batch_runs = [], 0
    yield from _comparisons(batch)


def _comparisons(batch: Sequence[ComparedJob]) -> Iterator[list[Comparison]]:
    """Those of each job: one for each prompt, then the job's."""
    if not batch:
        return
    figures = iter(figures_of(batch[0].analysis.runs, [one for job in batch for one in job.compared]))
    for job in batch:
        yield job.comparisons([next(figures) for _ in job.compared])
