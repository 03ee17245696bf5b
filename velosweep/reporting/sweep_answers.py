"""All that a sweep answers, alike on the screen, on the page and in what people post."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from velosweep.records import SweepRecord
from velosweep.reporting.baseline_answers import build_answers, fastest_of_all
from velosweep.reporting.recommendation import Recommendation, recommend
from velosweep.reporting.wording import whole_jobs
from velosweep.reporting.workload_map import LoadAnswer, as_answered, where_it_pays
from velosweep.statistics.comparison import Comparison


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepAnswers:
    """`jobs`: over whole prompt sets; `recommendations`: one for each task.

    `builds`: how each further build compares, a sentence each; `loads`: where speculation pays, by the jobs `of_loads`,
    where loads vary; `fastest`: which of several baselines is, in short and in full, where they don't.
    """

    record: SweepRecord
    jobs: list[Comparison]
    recommendations: tuple[Recommendation, ...]
    builds: tuple[str, ...]
    of_loads: list[Comparison]
    loads: tuple[LoadAnswer, ...]
    fastest: tuple[tuple[str, str], ...]


def sweep_answers(
    comparisons: Sequence[Comparison], record: SweepRecord, samples: pa.Table | None = None
) -> SweepAnswers:
    """The answers of a sweep. With its `samples` baselines are compared by the rounds that they shared."""
    jobs, found = whole_jobs(comparisons), recommend(comparisons, record)
    of_loads = as_answered(jobs, found, record)
    loads = tuple(where_it_pays(of_loads))
    return SweepAnswers(
        record=record,
        jobs=jobs,
        recommendations=found,
        builds=tuple(build_answers(jobs, record)),
        of_loads=of_loads,
        loads=loads,
        fastest=() if loads else tuple(fastest_of_all(jobs, record, samples)),
    )
