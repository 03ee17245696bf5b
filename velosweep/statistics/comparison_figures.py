"""The figures of comparisons: of each a ratio with its interval, both modes' statistics, findings and draft counts.

Comparisons whose series are as long as each other are computed together, as rows of one array.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from velosweep.config.settings import Adaptive
from velosweep.statistics.acceptance import Counts
from velosweep.statistics.comparison import Finding, ModeStatistics
from velosweep.statistics.findings import acceptance_findings, interval_findings, output_findings
from velosweep.statistics.intervals import (
    PAIRED_LAUNCHES,
    PAIRED_ONE_LAUNCH,
    PAIRED_SEQUENTIAL,
    WELCH,
    Ratio,
    t_ratios,
    welch_ratio,
)
from velosweep.statistics.latency import Latency, depth_ms_of, latency_of
from velosweep.statistics.runs import Runs, Series
from velosweep.statistics.series_checks import pair_findings, series_findings


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """How a job was measured.

    `paired`: there are pairs. `not_paired`: why runs would be no interleaved pairs, as the finding's subject: `passes`,
    no pass has a good run of both modes; `repeats`, they were to be interleaved, and all that is good of one mode came
    before the other; `pairs`, that is how they were ordered. `target`: the relative half-width that an adaptive job was
    to reach.
    """

    paired: bool
    not_paired: str
    target: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRuns:
    """The rows of runs behind one comparison: passes, or passes x prompts where passes over a prompt set are compared.

    Where `design.paired`, `vanilla` and `speculative` have the same shape.
    """

    vanilla: Any
    speculative: Any
    design: Design


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedStatistics:
    """What one comparison's runs show. `counts` are of a single prompt, `suite_speedup` of a prompt set; `drafted` is
    `Comparison.drafted`.
    """

    vanilla: ModeStatistics | None
    speculative: ModeStatistics | None
    ratio: Ratio
    findings: list[Finding]
    counts: Counts | None
    suite_speedup: float | None
    pairs: int
    finished_at: datetime | None
    energy_vanilla: float | None
    energy_speculative: float | None
    drafted: bool | None
    latency_vanilla: Latency | None
    latency_speculative: Latency | None
    depth_ms_vanilla: float | None
    depth_ms_speculative: float | None


def figures_of(runs: Runs, compared: Sequence[ComparedRuns]) -> list[PairedStatistics]:
    """The figures of each comparison, in order."""
    launch = runs.columns.integer("launch")
    alike: dict[object, list[int]] = defaultdict(list)
    for number, one in enumerate(compared):
        modes = one.vanilla, one.speculative
        launches = [launch[rows if rows.ndim == 1 else rows[:, 0]].tobytes() for rows in modes]
        alike[one.vanilla.shape, one.speculative.shape, tuple(launches), one.design].append(number)
    found: dict[int, PairedStatistics] = {}
    for numbers in alike.values():
        vanilla = np.stack([compared[number].vanilla for number in numbers])
        speculative = np.stack([compared[number].speculative for number in numbers])
        found.update(zip(numbers, _figures(runs, vanilla, speculative, compared[numbers[0]].design), strict=True))
    return [found[number] for number in range(len(compared))]


def _figures(runs: Runs, vanilla: Any, speculative: Any, design: Design) -> Iterator[PairedStatistics]:
    """Of comparisons whose runs are the rows of two arrays, comparisons x passes (x prompts)."""
    suites = vanilla.ndim > 2
    series_of = runs.suite_series if suites else runs.series
    place_of: dict[bytes, int] = {}  # jobs of one baseline share its runs: each distinct row is looked at once
    place = [place_of.setdefault(rows.tobytes(), len(place_of)) for rows in vanilla]
    distinct = vanilla[np.unique(place, return_index=True)[1]]
    baselines, series = series_of(distinct), series_of(speculative)
    of_vanilla = baselines.statistics()
    statistics = [of_vanilla[i] for i in place], series.statistics()
    d = None
    if design.paired:
        speed = runs.columns.number("tokens_per_second")
        d = np.log(speed[speculative] / speed[vanilla])
        d = d.mean(axis=2) if suites else d
    ratios, findings = _ratios(series_of(vanilla), series, d, design)
    of_baselines = series_findings(baselines.tokens_per_second, baselines.time, baselines.launch, subject="vanilla")
    of_series = series_findings(series.tokens_per_second, series.time, series.launch, subject="speculative")
    rows = [mode.reshape(len(mode), -1) for mode in (vanilla, speculative)]
    of_outputs = output_findings(runs, rows[1], rows[0] if design.paired else None)
    tokens = [runs.columns.number(name)[speculative] for name in ("draft_tokens", "accepted_tokens")]
    of_acceptance = acceptance_findings(*(count.sum(axis=2) if suites else count for count in tokens))
    counts = [None] * len(vanilla) if suites else runs.counts(speculative)
    drafted = was_drafted(tokens[0].reshape(len(vanilla), -1))
    speedups: list[float | None] = [None] * len(vanilla)
    if suites and design.paired and vanilla.shape[1]:
        speedups[:] = runs.suite_speedup(vanilla, speculative)
    finished, energies = runs.finished(rows), [runs.energy_j_per_token(mode) for mode in rows]
    for p, ratio in enumerate(ratios):
        yield PairedStatistics(
            vanilla=statistics[0][p],
            speculative=statistics[1][p],
            ratio=ratio,
            findings=[*of_baselines[place[p]], *of_series[p], *findings[p], *of_outputs[p], *of_acceptance[p]],
            counts=counts[p],
            suite_speedup=speedups[p],
            pairs=0 if d is None else d.shape[1],
            finished_at=finished[p],
            energy_vanilla=energies[0][p],
            energy_speculative=energies[1][p],
            drafted=drafted[p],
            latency_vanilla=latency_of(runs.columns, rows[0][p]),
            latency_speculative=latency_of(runs.columns, rows[1][p]),
            depth_ms_vanilla=depth_ms_of(runs.columns, rows[0][p]),
            depth_ms_speculative=depth_ms_of(runs.columns, rows[1][p]),
        )


def was_drafted(tokens: Any) -> list[bool | None]:
    """Whether any run drafted a token; None where that isn't known of every run. Counts, comparisons x runs."""
    if not tokens.shape[1]:
        return [None] * len(tokens)
    return [True if (row > 0).any() else False if (row == 0).all() else None for row in tokens]


def _ratios(vanilla: Series, speculative: Series, d: Any, design: Design) -> tuple[list[Ratio], list[list[Finding]]]:
    """The ratio of each comparison by the design that was measured, and what its pairs and interval show.

    `d`: the passes' log ratios, None where nothing is paired.
    """
    if d is None:
        ratios = [_welch(vanilla, speculative, p) for p in range(len(vanilla.time))]
        findings: list[list[Finding]] = [[] for _ in ratios]
    else:
        ratios = _paired_ratios(vanilla, speculative, d, adaptive=design.target is not None)
        findings = pair_findings(d, vanilla.time, [ratio.interval for ratio in ratios])
    for p, interval in enumerate(ratio.interval for ratio in ratios):
        if interval is None:
            continue
        if interval.method == WELCH:
            findings[p] = []  # they are no pairs
        findings[p] += interval_findings(interval, adaptive_target=design.target, not_paired=design.not_paired)
    return ratios, findings


def _paired_ratios(vanilla: Series, speculative: Series, d: Any, *, adaptive: bool) -> list[Ratio]:
    """The mean of the passes' log ratios, by launch means where there are several launches.

    Runs that were not interleaved (all of one mode before the other) are no pairs: they get Welch's interval.
    """
    confidence = Adaptive().confidence if adaptive else 0.95
    launches = np.unique(vanilla.launch)
    if len(launches) > 1:
        means = [np.compress(vanilla.launch == launch, d, axis=1).mean(axis=1) for launch in launches]
        return t_ratios(np.stack(means, axis=1), confidence=confidence, method=PAIRED_LAUNCHES)
    ratios = t_ratios(d, confidence=confidence, method=PAIRED_SEQUENTIAL if adaptive else PAIRED_ONE_LAUNCH)
    if d.shape[1] < 2:
        return ratios
    vanilla_first = vanilla.time.max(axis=1) < speculative.time.min(axis=1)
    vanilla_last = speculative.time.max(axis=1) < vanilla.time.min(axis=1)
    for p in np.flatnonzero(vanilla_first | vanilla_last).tolist():
        ratios[p] = _welch(vanilla, speculative, p)
    return ratios


def _welch(vanilla: Series, speculative: Series, p: int) -> Ratio:
    return welch_ratio(np.log(vanilla.tokens_per_second[p]), np.log(speculative.tokens_per_second[p]))
