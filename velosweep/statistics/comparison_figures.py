"""The figures of comparisons: of each a ratio with its interval, both modes' statistics, findings and draft counts.

Comparisons whose series are as long as each other are computed together, as rows of one array.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from velosweep.statistics.acceptance import Counts
from velosweep.statistics.comparison import Finding, ModeStatistics, RequestTimes, RoundRatios
from velosweep.statistics.findings import acceptance_findings, interval_findings, output_findings
from velosweep.statistics.intervals import Ratio, welch_ratio
from velosweep.statistics.request_times import (
    Latency,
    answer_tokens,
    latency_of,
    mean_of,
    prefill_findings,
    request_logs,
    request_times,
)
from velosweep.statistics.runs import Runs, Series
from velosweep.statistics.series_checks import pair_findings, series_findings
from velosweep.statistics.within_rounds import ratios_within_rounds


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """How a job was measured.

    `paired`: there are pairs. `not_paired`: why runs would be no interleaved pairs, as the finding's subject: `passes`,
    no pass has a good run of both modes; `repeats`, they were to be interleaved, and all that is good of one mode came
    before the other; `pairs`, that is how they were ordered. `target`: the relative half-width that an adaptive job was
    to reach, by an interval of that `confidence`.
    """

    paired: bool
    not_paired: str
    target: float | None
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRuns:
    """The rows of runs behind one comparison: passes, or passes x prompts where passes over a prompt set are compared.

    Where `design.paired`, `vanilla` and `speculative` have the same shape. `table`: comparisons with the same one share
    their vanilla runs.
    """

    vanilla: Any
    speculative: Any
    design: Design
    table: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedStatistics:
    """What one comparison's runs show; fields that `Comparison` has, too, mean the same there.

    `counts` are of a single prompt, `suite_speedup` of a prompt set. `by_round` is None where runs are no interleaved
    pairs.
    """

    vanilla: ModeStatistics | None
    speculative: ModeStatistics | None
    ratio: Ratio
    by_round: RoundRatios | None
    findings: list[Finding]
    counts: Counts | None
    suite_speedup: float | None
    n_pairs: int
    finished_at: datetime | None
    energy_j_per_token_vanilla: float | None
    energy_j_per_token_speculative: float | None
    drafted: bool | None
    vanilla_latency: Latency | None
    speculative_latency: Latency | None
    depth_ms_vanilla: float | None
    depth_ms_speculative: float | None
    answer_tokens_vanilla: float | None
    answer_tokens_speculative: float | None
    memory_bytes_vanilla: int | None
    memory_bytes_speculative: int | None
    request: RequestTimes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stack:
    """Comparisons whose runs are the rows of two arrays, comparisons x passes (x prompts).

    `numbers`: which comparisons. `d`: the passes' log ratios, None where nothing is paired.
    """

    numbers: list[int]
    vanilla: Any
    speculative: Any
    design: Design
    d: Any


def figures_of(runs: Runs, compared: Sequence[ComparedRuns]) -> list[PairedStatistics]:
    """The figures of each comparison, in order."""
    stacks = list(_stacked(runs, compared))
    by_round: dict[int, RoundRatios] = {}
    of_requests: dict[str, dict[int, RoundRatios]] = {"prefill": {}, "total": {}}
    for stack in stacks:
        tables = [compared[number].table for number in stack.numbers]
        by_round |= _by_round(runs, stack, tables, stack.d)
        for name, logs in request_logs(runs, stack.vanilla, stack.speculative).items() if stack.d is not None else ():
            of_requests[name] |= _by_round(runs, stack, tables, logs)
    designs = [compared[number].design for number in by_round]
    stopped_at = {i: design.confidence for i, design in enumerate(designs) if design.target is not None}
    ratios = dict(zip(by_round, ratios_within_rounds(list(by_round.values()), stopped_at), strict=True))
    requests: dict[int, dict[str, Ratio]] = defaultdict(dict)
    for name, series in of_requests.items():
        known = {number: own for number, own in series.items() if np.isfinite(own.logs).all()}
        for number, ratio in zip(known, ratios_within_rounds(list(known.values()), {}), strict=True):
            requests[number][name] = ratio
    found: dict[int, PairedStatistics] = {}
    for stack in stacks:
        found.update(zip(stack.numbers, _figures(runs, stack, by_round, ratios), strict=True))
    return [_with_request(runs, one, found[number], requests[number]) for number, one in enumerate(compared)]


def _with_request(
    runs: Runs, compared: ComparedRuns, found: PairedStatistics, ratios: Mapping[str, Ratio]
) -> PairedStatistics:
    """With what a whole request takes. `ratios`: by what they are of; none where nothing is paired."""
    rows = compared.vanilla.ravel(), compared.speculative.ravel()
    times = request_times(runs, ratios, found.vanilla, found.speculative, rows)
    slower = prefill_findings(times, found.vanilla, found.speculative)
    return replace(found, request=times, findings=[*found.findings, *slower]) if times else found


def _stacked(runs: Runs, compared: Sequence[ComparedRuns]) -> Iterator[_Stack]:
    """The comparisons whose series are as long as each other, together."""
    launch, speed = runs.columns.integer("launch"), runs.columns.number("tokens_per_second")
    alike: dict[object, list[int]] = defaultdict(list)
    for number, one in enumerate(compared):
        modes = one.vanilla, one.speculative
        launches = [launch[rows if rows.ndim == 1 else rows[:, 0]].tobytes() for rows in modes]
        alike[one.vanilla.shape, one.speculative.shape, tuple(launches), one.design].append(number)
    for numbers in alike.values():
        vanilla = np.stack([compared[number].vanilla for number in numbers])
        speculative = np.stack([compared[number].speculative for number in numbers])
        design, d = compared[numbers[0]].design, None
        if design.paired:
            d = np.log(speed[speculative] / speed[vanilla])
            d = d.mean(axis=2) if vanilla.ndim > 2 else d
        yield _Stack(numbers=numbers, vanilla=vanilla, speculative=speculative, design=design, d=d)


def _by_round(runs: Runs, stack: _Stack, tables: Sequence[str], d: Any) -> dict[int, RoundRatios]:
    """The log ratios of each comparison but those whose runs are no interleaved pairs (all of a mode came first).

    `d`: of the passes, comparisons x passes; None where nothing is paired.
    """
    if d is None:
        return {}
    vanilla, found = stack.vanilla, {}
    times = [
        runs.time[rows].mean(axis=2) if rows.ndim > 2 else runs.time[rows] for rows in (vanilla, stack.speculative)
    ]
    apart = np.zeros(len(d), dtype=bool)
    first = vanilla[..., 0] if vanilla.ndim > 2 else vanilla
    numbers, launch = runs.measuring_round[first], runs.columns.integer("launch")[first[0]]
    seeds = runs.columns.integer("seed")[first]
    drawn = (seeds != seeds[:, :1]).any(axis=1).tolist()
    launches = np.unique(launch)
    if len(launches) > 1:
        d = np.stack([np.compress(launch == one, d, axis=1).mean(axis=1) for one in launches], axis=1)
        numbers = np.broadcast_to(launches, d.shape)
    elif d.shape[1] > 1:
        apart = (times[0].max(axis=1) < times[1].min(axis=1)) | (times[1].max(axis=1) < times[0].min(axis=1))
    for p in np.flatnonzero(~apart).tolist():
        found[stack.numbers[p]] = RoundRatios(
            table=tables[p],
            launches=len(launches) > 1,
            rounds=array("q", numbers[p].tolist()),
            logs=array("d", d[p].tolist()),
            drawn=drawn[p],
        )
    return found


def _figures(
    runs: Runs, stack: _Stack, by_round: dict[int, RoundRatios], within_rounds: dict[int, Ratio]
) -> Iterator[PairedStatistics]:
    """Of the comparisons of a stack. `by_round` and `within_rounds`: of those that are interleaved pairs."""
    vanilla, speculative, design, d = stack.vanilla, stack.speculative, stack.design, stack.d
    suites = vanilla.ndim > 2
    series_of = runs.suite_series if suites else runs.series
    place_of: dict[bytes, int] = {}  # jobs of one baseline share its runs: each distinct row is looked at once
    place = [place_of.setdefault(rows.tobytes(), len(place_of)) for rows in vanilla]
    distinct = vanilla[np.unique(place, return_index=True)[1]]
    baselines, series = series_of(distinct), series_of(speculative)
    of_vanilla = baselines.statistics()
    statistics = [of_vanilla[i] for i in place], series.statistics()
    of_pairs = [within_rounds.get(number) for number in stack.numbers]
    ratios, findings = _ratios(baselines, place, series, of_pairs, design)
    if d is not None:
        of_d = pair_findings(d, baselines.time[place], [ratio.interval for ratio in ratios])
        for p, ratio in enumerate(of_pairs):
            findings[p] = [*(of_d[p] if ratio is not None else ()), *findings[p]]
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
            by_round=by_round.get(stack.numbers[p]),
            findings=[*of_baselines[place[p]], *of_series[p], *findings[p], *of_outputs[p], *of_acceptance[p]],
            counts=counts[p],
            suite_speedup=speedups[p],
            n_pairs=0 if d is None else d.shape[1],
            finished_at=finished[p],
            energy_j_per_token_vanilla=energies[0][p],
            energy_j_per_token_speculative=energies[1][p],
            drafted=drafted[p],
            **_of_both_modes(runs, rows[0][p], rows[1][p]),
        )


def _of_both_modes(runs: Runs, vanilla: Any, speculative: Any) -> dict[str, Any]:
    """Waiting and memory of one comparison's runs. Rows of runs."""
    found: dict[str, Any] = {}
    for mode, rows in (("vanilla", vanilla), ("speculative", speculative)):
        found[f"{mode}_latency"] = latency_of(runs.columns, rows)
        found[f"depth_ms_{mode}"] = mean_of(runs.columns, "depth_ms", rows)
        found[f"answer_tokens_{mode}"] = answer_tokens(runs.columns, rows)
        found[f"memory_bytes_{mode}"] = runs.memory_bytes(rows)
    return found


def was_drafted(tokens: Any) -> list[bool | None]:
    """Whether any run drafted a token; None where that isn't known of every run. Counts, comparisons x runs."""
    if not tokens.shape[1]:
        return [None] * len(tokens)
    return [True if (row > 0).any() else False if (row == 0).all() else None for row in tokens]


def _ratios(
    vanilla: Series, place: Sequence[int], speculative: Series, of_pairs: Sequence[Ratio | None], design: Design
) -> tuple[list[Ratio], list[list[Finding]]]:
    """The ratio of each comparison, Welch's where its runs are no pairs, and what its interval shows.

    `place`: of each comparison, which of the `vanilla` series is its own.
    """
    logs = [series.independent_logs() for series in (vanilla, speculative)]
    ratios = [
        welch_ratio(logs[0][place[p]], logs[1][p]) if ratio is None else ratio for p, ratio in enumerate(of_pairs)
    ]
    findings = [
        interval_findings(interval, adaptive_target=design.target, not_paired=design.not_paired) if interval else []
        for interval in (ratio.interval for ratio in ratios)
    ]
    return ratios, findings
