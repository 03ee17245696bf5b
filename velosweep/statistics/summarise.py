"""From samples to comparisons: one a job and prompt, and one a job. Independent of the order of rows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from velosweep.records import JobRecord
from velosweep.statistics.best_of_several import with_best_marked
from velosweep.statistics.columns import sample_columns
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.comparison_figures import figures_of
from velosweep.statistics.findings import recovery_probes
from velosweep.statistics.job_comparison import Analysis, ComparedJob
from velosweep.statistics.pairing import arrange, find_jobs
from velosweep.statistics.runs import Runs, runs_of
from velosweep.statistics.speculation_cost import costs_of

if TYPE_CHECKING:
    import pyarrow as pa

# Baselines with so many vanilla runs are computed at a time: numpy's calls cost as much for one job as for hundreds.
_BATCH_RUNS = 50_000


def compare_jobs(samples: "pa.Table", *, jobs: Mapping[str, JobRecord] | None = None) -> list[Comparison]:
    """All comparisons of a table of samples, by job number and then the prompts' order, the job's own last.

    `samples`: the data contract's columns; only job_id, mode, iteration and the three metrics are required.
    `jobs`: records by job id, which name each job's baseline; without them a job's baseline is the vanilla series with
    the same main model, prompts, n_predict, machine and engine.
    Raises StorageError for a missing column or an unknown mode.
    """
    found = sorted(_jobs_by_baseline(samples, jobs), key=itemgetter(0))
    return with_best_marked(row for _, rows in found for row in rows)


def iterate_jobs(samples: "pa.Table", *, jobs: Mapping[str, JobRecord] | None = None) -> Iterator[list[Comparison]]:
    """As `compare_jobs`, a job at a time, and without what competing jobs say of each other.

    Only some jobs' comparisons need memory. Jobs of one baseline come together, baselines in the order of their first.
    """
    return (rows for _, rows in _jobs_by_baseline(samples, jobs))


def _jobs_by_baseline(
    samples: "pa.Table", jobs: Mapping[str, JobRecord] | None
) -> Iterator[tuple[int, list[Comparison]]]:
    """Each job's place in the order of jobs, and its comparisons: one for each prompt, then its own."""
    columns = sample_columns(samples)
    runs = runs_of(columns)
    arrangement = arrange(columns)
    found = find_jobs(arrangement, jobs or {})
    analysis = Analysis(
        arrangement=arrangement, runs=runs, costs=costs_of(arrangement, runs, found), probes=recovery_probes(runs)
    )
    batch: list[tuple[int, ComparedJob]] = []
    # Jobs that share vanilla runs also share the noise by which they are judged.
    baselines: dict[int | None, list[int]] = defaultdict(list)
    for place, job in enumerate(found):
        baselines[job.vanilla].append(place)
    for together in baselines.values():
        batch += [(place, ComparedJob(analysis, found[place])) for place in together]
        if sum(job.vanilla.size for _, job in batch) >= _BATCH_RUNS:
            yield from _comparisons(runs, batch)
            batch = []
    yield from _comparisons(runs, batch)


def _comparisons(runs: Runs, batch: Sequence[tuple[int, ComparedJob]]) -> Iterator[tuple[int, list[Comparison]]]:
    figures = iter(figures_of(runs, [one for _, job in batch for one in job.compared]))
    for place, job in batch:
        yield place, job.comparisons([next(figures) for _ in job.compared])
