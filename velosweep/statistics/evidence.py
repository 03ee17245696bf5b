"""Which checks apply to a job and to one of its prompts, and the arrays they need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from velosweep.records import JobRecord
from velosweep.statistics import checks, screens
from velosweep.statistics.comparison import Finding
from velosweep.statistics.intervals import PAIRED_ONE_LAUNCH, PAIRED_SEQUENTIAL, WELCH
from velosweep.statistics.measures import ArmSeries, Measures
from velosweep.statistics.pairing import JobRows
from velosweep.statistics.ratio import Ratio
from velosweep.statistics.trend import ROUNDING

_ONE_LAUNCH = Finding(code="conditional_on_launch", severity="info", subject="pairs")


def series_and_pair_findings(
    vanilla: ArmSeries,
    speculative: ArmSeries,
    ratios: Sequence[Ratio],
    adaptive_target: float | None,
    not_paired: str,
) -> list[list[Finding]]:
    """Findings on both arms of each comparison and on what was made of their pairs.

    `not_paired`: see `why_not_paired`.
    """
    findings: list[list[Finding]] = [[] for _ in ratios]
    for subject, arm in (("vanilla", vanilla), ("speculative", speculative)):
        for p, found in enumerate(arm.once(partial(_arm_findings, subject=subject))):
            findings[p] += found
    for p, marked in enumerate(_marked_pairs(ratios)):
        ratio = ratios[p]
        if marked and ratio.log_ratios is not None:
            findings[p] += checks.pair_findings(_in_time(vanilla, p, ratio.log_ratios), ratio.interval)
        if ratio.interval is not None:
            findings[p] += checks.width_findings(ratio.interval, adaptive_target=adaptive_target)
            if ratio.interval.method == WELCH:
                findings[p].append(Finding(code="not_paired", severity="warning", subject=not_paired))
            elif ratio.interval.method in (PAIRED_ONE_LAUNCH, PAIRED_SEQUENTIAL):
                findings[p].append(_ONE_LAUNCH)
    return findings


def why_not_paired(record: JobRecord | None, *, paired: bool) -> str:
    """What it would lie at that runs are no interleaved pairs, as the finding's subject.

    `passes`: no pass has a good run of both modes; `repeats`: they were to be interleaved, and all that is good of
    one mode came before the other; `pairs`: so they were ordered.
    """
    if not paired:
        return "passes"
    return "pairs" if record is None or record.order == "block" else "repeats"


def _arm_findings(arm: ArmSeries, *, subject: str) -> list[list[Finding]]:
    """Findings on the series of each comparison; few have any."""
    marked = screens.arms(arm.tokens_per_second, arm.time, arm.launch)
    return [_series_findings(arm, p, subject) if look else [] for p, look in enumerate(marked.tolist())]


def _series_findings(arm: ArmSeries, p: int, subject: str) -> list[Finding]:
    import numpy as np

    order = np.argsort(arm.time[:, p], kind="stable")
    x, time = arm.tokens_per_second[order, p], arm.time[order, p]
    return checks.series_findings(x, time, subject, launch=arm.launch[order])


def _in_time(arm: ArmSeries, p: int, d: Any) -> Any:
    import numpy as np

    return d[np.argsort(arm.time[:, p], kind="stable")]


def _marked_pairs(ratios: Sequence[Ratio]) -> list[bool]:
    """Which comparisons' log ratios deserve a closer look; each that doesn't have both them and an interval."""
    import numpy as np

    marked = np.ones(len(ratios), dtype=bool)
    known = [p for p, r in enumerate(ratios) if r.interval is not None and r.log_ratios is not None]
    if known:
        low, high = np.log([(r.interval.low, r.interval.high) for r in map(ratios.__getitem__, known) if r.interval]).T
        d = np.array([ratios[p].log_ratios for p in known]).T
        marked[known] = screens.pairs(d, low - ROUNDING, high + ROUNDING)
    return list(marked.tolist())


def outcome_findings(measures: Measures, rows: Any) -> list[Finding]:
    """Runs that failed or measured something else, over all attempts in `rows`; an error if a mode has no other."""
    import numpy as np

    return checks.outcome_findings(
        failed=int(np.count_nonzero(measures.failed[rows])),
        invalid=int(np.count_nonzero(measures.invalid[rows])),
        runs=len(rows),
        usable=all(measures.usable[own].any() for own in measures.by_mode(rows) if len(own)),
    )


def output_findings(measures: Measures, speculative: Any, vanilla: Any) -> list[list[Finding]]:
    """Whether both modes said the same, for each prompt. Cubes of rows; `vanilla` is None where nothing is paired."""
    import numpy as np

    columns = measures.columns
    runs, prompts = speculative.shape
    if not runs:
        return [[] for _ in range(prompts)]
    divergence = columns.number("first_divergence")[speculative]
    known = np.isfinite(divergence)
    diverged = known
    if vanilla is not None:
        said = columns.text("output_sha256").codes
        ours, theirs = said[speculative], said[vanilla]
        diverged = known | ((ours >= 0) & (theirs >= 0) & (ours != theirs))
    sampled = (columns.number("temperature")[speculative] > 0).any(axis=0)
    counts = diverged.sum(axis=0)
    speaking = set((sampled | (counts > 0)).nonzero()[0].tolist())
    return [
        checks.divergence_findings(
            diverged=int(counts[p]),
            runs=runs,
            first=int(np.nanmin(divergence[:, p])) if known[:, p].any() else None,
            sampled=bool(sampled[p]),
            device=columns.text("device").at(speculative[0, p]) or "",
            main_model=columns.text("main_model").at(speculative[0, p]) or "",
        )
        if p in speaking
        else []
        for p in range(prompts)
    ]


def jump_findings(drafted: Any, accepted: Any) -> list[list[Finding]]:
    """Acceptance of the first pass against the later ones. Token counts, passes x comparisons."""
    import numpy as np

    if len(drafted) < 2:
        return [[] for _ in range(drafted.shape[1])]
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = accepted / drafted
        jumped = rates[1:].mean(axis=0) - rates[0] > checks.ACCEPTANCE_JUMP
    return [
        checks.acceptance_findings(float(rates[0, p]), rates[1:, p].tolist()) if jumped[p] else []
        for p in range(drafted.shape[1])
    ]


def incomplete_findings(passes: int, whole: int, *, paired: bool) -> list[Finding]:
    """Passes in which some prompt has no pair: they are not in the job's figures."""
    if not paired or whole == passes:
        return []
    evidence = {"passes": passes - whole, "of": passes}
    return [Finding(code="incomplete_passes", severity="warning", subject="pairs", evidence=evidence)]


def machine_findings(measures: Measures, rows: Any, logical_cores: int | None) -> list[Finding]:
    """The machine's state around all these runs."""
    import numpy as np

    columns = measures.columns
    if columns.has("gpu_clock_mhz") or columns.has("gpu_temperature_c"):  # the others' order tells nothing
        rows = rows[np.argsort(measures.time[rows], kind="stable")]
    reasons = columns.text("throttle_reasons")
    codes = np.unique(reasons.codes[rows]) if reasons.values else ()
    seen = sorted({reasons.values[code] for code in codes if code >= 0} - {""})

    def read(name: str) -> Any:
        return columns.number(name)[rows] if columns.has(name) else np.zeros(0)

    return checks.condition_findings(
        cpu_busy=read("cpu_busy"),
        load=read("load_average"),
        logical_cores=logical_cores,
        temperature_c=read("gpu_temperature_c"),
        clock_mhz=read("gpu_clock_mhz"),
        gpu_processes=read("gpu_processes"),
        throttle=", ".join(seen) or None,
    )


def all_rows(job: JobRows) -> Any:
    """Every counted run of a job: its own, their partners, and attempts that were repeated."""
    import numpy as np

    rows = np.concatenate([job.speculative.ravel(), job.vanilla.ravel(), job.others])
    return rows[rows >= 0]
