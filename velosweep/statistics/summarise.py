"""From samples to comparisons: one a job and prompt, and one a job. Independent of the order of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from velosweep.records import JobRecord
from velosweep.statistics import acceptance
from velosweep.statistics.columns import columns_of
from velosweep.statistics.comparison import Acceptance, Comparison
from velosweep.statistics.cooling import looks_of
from velosweep.statistics.costs import costs_of
from velosweep.statistics.job_comparisons import Job, JobViews, Table, there
from velosweep.statistics.measures import complete, measures_of
from velosweep.statistics.pairing import FoundJob, arrange, find_jobs, job_rows
from velosweep.statistics.views import View, views_of_prompts, views_of_suites

if TYPE_CHECKING:
    import pyarrow as pa

# Comparisons of so many vanilla runs at a time (each with its speculative one): some MB.
_BATCH_CELLS = 50_000


def compare_jobs(
    samples: pa.Table, *, jobs: Mapping[str, JobRecord] | None = None, logical_cores: int | None = None
) -> list[Comparison]:
    """All comparisons of a table of samples, by job number and then the prompts' order, the job's own last.

    `samples`: the data contract's columns; only job_id, mode, iteration and the three metrics are required.
    `jobs`: records by job id, which name each job's baseline; without them a job's baseline is the vanilla series with
    the same main model, prompts, n_predict, machine and engine. `logical_cores` judges load averages.
    Raises StorageError for a missing column or an unknown mode.
    """
    return [row for rows in iterate_jobs(samples, jobs=jobs, logical_cores=logical_cores) for row in rows]


def iterate_jobs(
    samples: pa.Table, *, jobs: Mapping[str, JobRecord] | None = None, logical_cores: int | None = None
) -> Iterator[list[Comparison]]:
    """As `compare_jobs`, some jobs at a time, so that only those jobs' comparisons need memory."""
    columns = columns_of(samples)
    measures = measures_of(columns)
    arrangement = arrange(columns)
    found = find_jobs(arrangement, jobs or {})
    table = Table(
        arrangement=arrangement,
        measures=measures,
        costs=costs_of(arrangement, measures, found),
        looks=looks_of(measures),
        logical_cores=logical_cores,
    )
    for batch in _batches(table, found):
        yield from _comparisons(table, batch)


def _batches(table: Table, found: Iterable[FoundJob]) -> Iterator[list[Job]]:
    """The jobs in order, some at a time: numpy's calls cost as much for one as for hundreds."""
    batch: list[Job] = []
    cells = 0
    for one in found:
        batch.append(Job(table=table, found=one, rows=job_rows(table.arrangement, one)))
        cells += batch[-1].vanilla.size
        if cells >= _BATCH_CELLS:
            yield batch
            batch, cells = [], 0
    if batch:
        yield batch


def _comparisons(table: Table, batch: Sequence[Job]) -> Iterator[list[Comparison]]:
    """Those of each job: one for each prompt, then the job's."""
    views: dict[int, JobViews] = {}
    alike: dict[object, list[int]] = defaultdict(list)
    for number, job in enumerate(batch):
        if job.regular:
            alike[job.shape].append(number)
        else:
            views[number] = _views_alone(table, job)
    for numbers in alike.values():
        views.update(zip(numbers, _views_together(table, [batch[number] for number in numbers]), strict=True))
    for number, job in enumerate(batch):
        yield job.comparisons(views[number])


def _views_together(table: Table, jobs: Sequence[Job]) -> Iterator[JobViews]:
    """Of jobs of one shape with every run there: their prompts are columns side by side."""
    import numpy as np

    measures, lead = table.measures, jobs[0]
    width = lead.vanilla.shape[1]
    cubes = np.concatenate([j.vanilla for j in jobs], axis=1), np.concatenate([j.speculative for j in jobs], axis=1)
    n_drafts = [job.n_draft for job in jobs for _ in range(width)]
    views, counts = views_of_prompts(measures, cubes, n_drafts, lead.design)
    suites: list[View | None] = [None] * len(jobs)
    speedups: list[float | None] = [None] * len(jobs)
    if width > 1:
        deep = tuple(cube.reshape(len(cube), len(jobs), width) for cube in cubes)
        parts = [counts[k : k + width] for k in range(0, len(counts), width)]
        estimates = [_estimate(part, job) for part, job in zip(parts, jobs, strict=True)]
        suites[:] = views_of_suites(measures, (deep[0], deep[1]), estimates, lead.design)
        speedups = measures.suite_speedup(*deep)
    for k in range(len(jobs)):
        yield JobViews(
            prompts=views[k * width : (k + 1) * width],
            suite=suites[k],
            suite_speedup=speedups[k],
            whole_passes=len(lead.vanilla),
        )


def _views_alone(table: Table, job: Job) -> JobViews:
    """Of a job some of whose runs are missing: each prompt has its own number of them."""
    measures, vanilla, speculative = table.measures, job.vanilla, job.speculative
    views: list[View] = []
    counts: list[acceptance.Counts | None] = []
    for p in range(vanilla.shape[1]):
        cubes = there(vanilla[:, p])[:, None], there(speculative[:, p])[:, None]
        some, known = views_of_prompts(measures, cubes, [job.n_draft], job.design)
        views += some
        counts += known
    if len(views) < 2:
        return JobViews(prompts=views, suite=None, suite_speedup=None, whole_passes=len(speculative))
    whole = complete(vanilla, speculative, paired=job.design.paired)
    deep = whole[0][:, None], whole[1][:, None]
    (suite,) = views_of_suites(measures, deep, [_estimate(counts, job)], job.design)
    return JobViews(
        prompts=views,
        suite=suite,
        suite_speedup=measures.suite_speedup(*deep)[0] if job.design.paired else None,
        whole_passes=len(whole[1]),
    )


def _estimate(counts: Sequence[acceptance.Counts | None], job: Job) -> Acceptance | None:
    return acceptance.estimate([known for known in counts if known is not None], job.n_draft)
