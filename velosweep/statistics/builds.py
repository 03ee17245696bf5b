"""Series of runs side by side in tokens a second, such as builds of llama.cpp beside the first of a sweep.

Twins are series of runs that differ in the build alone. Where builds took turns round by round, the ratio of twins is
a contrast of the two-way model of all series of these builds (two_way), over launch means where there are several
launches; else it is Welch's, which assumes no drift between the builds.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from velosweep.planning.job_settings import settings_of, value_of
from velosweep.statistics.best_of_several import Task, task_of
from velosweep.statistics.comparison import BuildComparison, Comparison
from velosweep.statistics.intervals import (
    MODERATED_LAUNCHES,
    MODERATED_ONE_LAUNCH,
    Interval,
    log_ratio_interval,
    welch_ratio,
)
from velosweep.statistics.two_way import TwoWayModel

if TYPE_CHECKING:
    import pyarrow as pa

_BUILD = ("llama_cpp.path", "engine.kind")

Pass = tuple[int, int]
"""Launch and iteration."""


@dataclass(kw_only=True)
class RunSeries:
    """The good runs of one job or baseline: log tokens a second by pass and prompt, and in which order they ran."""

    logs: dict[Pass, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    order: dict[Pass, list[int]] = field(default_factory=lambda: defaultdict(list))
    places: set[tuple[str, str]] = field(default_factory=set)


def with_builds_compared(
    comparisons: Sequence[Comparison], baselines: Mapping[str, str], samples: "pa.Table"
) -> list[Comparison]:
    """The comparisons, with `beside_first` of each whole job that has a twin of an earlier build.

    `baselines`: the id of each job's vanilla series, by job id.
    """
    families: dict[tuple[object, ...], list[Comparison]] = defaultdict(list)
    for job in (row for row in comparisons if row.prompt_id is None):
        families[
            tuple(sorted((key, str(value)) for key, value in settings_of(job).items() if key not in _BUILD))
        ].append(job)
    twins = [members for members in families.values() if len({_build(job) for job in members}) > 1]
    if not twins:
        return list(comparisons)
    vanilla = {job.job_id: baselines.get(job.job_id, job.job_id) for members in twins for job in members}
    series = series_of(samples, {*vanilla, *vanilla.values()})
    # Series of one load and set of prompts are of the same rounds, whatever they speculate with.
    rounds: dict[Task, dict[str, RunSeries]] = defaultdict(dict)
    for job in (job for members in twins for job in members):
        rounds[task_of(job)] |= {name: series[name] for name in (vanilla[job.job_id], job.job_id) if name in series}
    shared = {task: SharedRounds(together) for task, together in rounds.items()}
    found: dict[str, BuildComparison] = {}
    for first, *others in twins:
        for job in others:
            together, names = shared[task_of(job)], (vanilla[job.job_id], vanilla[first.job_id])
            found[job.job_id] = BuildComparison(
                reference=first.job_id,
                vanilla=together.ratio(*names),
                speculative=None if job.speculative is None else together.ratio(job.job_id, first.job_id),
            )
    return [
        replace(row, beside_first=found[row.job_id]) if row.prompt_id is None and row.job_id in found else row
        for row in comparisons
    ]


def _build(job: Comparison) -> tuple[object, ...]:
    settings = settings_of(job)
    return tuple(value_of(settings, key) for key in _BUILD)


def series_of(samples: "pa.Table", names: set[str]) -> dict[str, RunSeries]:
    """Of each name that has good runs; of several attempts at a run the last, as samples stand in the order taken."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known: Any = pa.array(sorted(names), pa.string())
    wanted = (pc.field("status") == "ok") & ~pc.field("warmup") & pc.is_in(pc.field("job_id"), known)
    columns = ["job_id", "launch", "iteration", "prompt_id", "tokens_per_second", "order", "host", "device"]
    found: dict[str, RunSeries] = defaultdict(RunSeries)
    for row in samples.filter(wanted).select(columns).to_pylist():
        speed, own = row["tokens_per_second"], found[row["job_id"]]
        if speed is None or not math.isfinite(speed) or speed <= 0:
            continue
        place = (row["launch"], row["iteration"])
        own.logs[place][row["prompt_id"]] = math.log(speed)
        own.order[place].append(row["order"])
        own.places.add((row["host"], row["device"]))
    return {name: own for name, own in found.items() if own.logs}


def _table(series: Mapping[str, RunSeries]) -> tuple[list[Pass], Any]:
    """Passes, and log tokens a second: series x passes, over the prompts that all of a pass have."""
    passes = sorted({place for one in series.values() for place in one.logs})
    values = np.full((len(series), len(passes)), math.nan)
    for column, place in enumerate(passes):
        runs = [one.logs.get(place, {}) for one in series.values()]
        prompts = set.intersection(*(set(run) for run in runs if run))
        for row, run in enumerate(runs):
            if run and prompts:
                values[row, column] = math.fsum(run[prompt] for prompt in prompts) / len(prompts)
    return passes, values


class SharedRounds:
    """Series of runs of which two are compared, and the rest say how noisy the machine was."""

    def __init__(self, series: Mapping[str, RunSeries]) -> None:
        self._names, self._took_turns = list(series), _took_turns(series.values())
        passes, self._values = _table(series)
        self._several = len({launch for launch, _ in passes}) > 1
        # What is independent of each other: starts where there are several, else passes.
        self._units = np.array(_starts(passes) if self._several else range(len(passes)))
        rounds = self._values
        if self._several:
            whole = ~np.isnan(rounds).any(axis=0)
            means = [rounds[:, whole & (self._units == one)].mean(axis=1) for one in np.unique(self._units[whole])]
            rounds = np.array(means).T
        self._model = TwoWayModel.of(rounds[None]) if self._took_turns and rounds.size else None

    def ratio(self, name: str, reference: str) -> Interval | None:
        """The ratio of two series: by rounds where all took turns, else Welch's; None for fewer than two rounds."""
        if not {name, reference} <= set(self._names):
            return None
        arm, base = (self._names.index(one) for one in (name, reference))
        if not self._took_turns:
            return welch_ratio(self._means(base), self._means(arm)).interval
        if self._model is None:
            return None
        found, place = self._model.contrasts(base), (0, arm)
        rounds = int(found.rounds[place])
        if rounds < 2:
            return None
        return log_ratio_interval(
            float(found.difference[place]),
            float(found.standard_error[place]),
            df=float(found.df[place]),
            n=rounds,
            method=MODERATED_LAUNCHES if self._several else MODERATED_ONE_LAUNCH,
        )

    def _means(self, row: int) -> list[float]:
        """Of one series, each start's mean where there are several, else each pass's."""
        measured = ~np.isnan(self._values[row])
        values, units = self._values[row, measured], self._units[measured]
        return [float(values[units == one].mean()) for one in np.unique(units)]


def _starts(passes: Sequence[Pass]) -> list[int]:
    """Of each pass, in order, the start of its servers: what `velosweep more` added to a launch was on new ones."""
    new = [launch != before or iteration > last + 1 for (before, last), (launch, iteration) in pairwise(passes)]
    return [0, *accumulate(map(int, new))]


def _took_turns(series: Iterable[RunSeries]) -> bool:
    """Whether each pass of all series ended before any began the next, on one device."""
    spans: dict[Pass, list[int]] = defaultdict(list)
    for one in (series := list(series)):
        for place, order in one.order.items():
            spans[place] += order
    if len({place for one in series for place in one.places}) > 1:
        return False
    # `velosweep more` adds iterations to launches that were over
    return all(max(before) < min(after) for before, after in pairwise(sorted(spans.values(), key=min)))
