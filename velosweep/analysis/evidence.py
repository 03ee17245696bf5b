"""Which checks apply to a job and to one of its prompts, and the arrays they need."""

from __future__ import annotations

from typing import Any

from velosweep.analysis import checks
from velosweep.analysis.measures import ArmSeries, Measures
from velosweep.analysis.pairing import JobRows
from velosweep.analysis.ratio import Ratio
from velosweep.analysis.speedup import PAIRED_ONE_LAUNCH, PAIRED_SEQUENTIAL, WELCH
from velosweep.model import Finding


def series_and_pair_findings(
    vanilla: ArmSeries, speculative: ArmSeries, ratio: Ratio, adaptive_target: float | None
) -> list[Finding]:
    """Findings on both arms and on what was made of their pairs."""
    import numpy as np

    interval, d = ratio.interval, ratio.log_ratios
    findings = []
    for subject, arm in (("vanilla", vanilla), ("speculative", speculative)):
        order = np.argsort(arm.time, kind="stable")
        findings += checks.series_findings(
            arm.tokens_per_second[order], arm.time[order], subject, launch=arm.launch[order]
        )
    if d is not None:
        order = np.argsort(vanilla.time, kind="stable")
        findings += checks.pair_findings(d[order], interval, adaptive_target=adaptive_target)
    elif interval is not None:
        findings += checks.width_findings(interval, adaptive_target=adaptive_target)
    if interval is not None and interval.method == WELCH:
        findings.append(Finding(code="not_paired", severity="warning", subject="pairs"))
    if interval is not None and interval.method in (PAIRED_ONE_LAUNCH, PAIRED_SEQUENTIAL):
        findings.append(Finding(code="conditional_on_launch", severity="info", subject="pairs"))
    return findings


def outcome_findings(measures: Measures, rows: Any) -> list[Finding]:
    """Runs that failed or measured something else, over all attempts in `rows`; an error if a mode has no other."""
    import numpy as np

    return checks.outcome_findings(
        failed=int(np.count_nonzero(measures.failed[rows])),
        invalid=int(np.count_nonzero(measures.invalid[rows])),
        runs=len(rows),
        usable=all(measures.usable[own].any() for own in measures.by_mode(rows) if len(own)),
    )


def output_findings(measures: Measures, speculative: Any, vanilla: Any) -> list[Finding]:
    """Whether both modes said the same. `vanilla[i]` is the partner of `speculative[i]`; None where unpaired."""
    import numpy as np

    columns = measures.columns
    if not len(speculative):
        return []
    divergence = columns.number("first_divergence")[speculative]
    said = columns.text("output_sha256").codes
    ours, theirs = said[speculative], np.int64(-1) if vanilla is None else said[vanilla]
    diverged = np.isfinite(divergence) | ((ours >= 0) & (theirs >= 0) & (ours != theirs))
    row = int(speculative[0])
    known = divergence[np.isfinite(divergence)]
    return checks.divergence_findings(
        diverged=int(np.count_nonzero(diverged)),
        runs=len(speculative),
        first=int(known.min()) if len(known) else None,
        sampled=bool((columns.number("temperature")[speculative] > 0).any()),
        device=columns.text("device").at(row) or "",
        main_model=columns.text("main_model").at(row) or "",
    )


def jump_findings(measures: Measures, cube: Any) -> list[Finding]:
    """Acceptance of the first pass against the later ones. `cube`: usable runs, passes x prompts."""
    import numpy as np

    drafted = measures.columns.number("draft_tokens")[cube].sum(axis=1)
    accepted = measures.columns.number("accepted_tokens")[cube].sum(axis=1)
    known = np.isfinite(drafted) & np.isfinite(accepted) & (drafted > 0)
    if not len(known) or not known[0]:
        return []
    rates = accepted[known] / drafted[known]
    return checks.acceptance_findings(float(rates[0]), rates[1:].tolist())


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
    rows = rows[np.argsort(measures.time[rows], kind="stable")]
    reasons = columns.text("throttle_reasons")
    seen = sorted({reasons.values[code] for code in np.unique(reasons.codes[rows]) if code >= 0} - {""})
    return checks.condition_findings(
        cpu_busy=columns.number("cpu_busy")[rows],
        load=columns.number("load_average")[rows],
        logical_cores=logical_cores,
        temperature_c=columns.number("gpu_temperature_c")[rows],
        clock_mhz=columns.number("gpu_clock_mhz")[rows],
        gpu_processes=columns.number("gpu_processes")[rows],
        throttle=", ".join(seen) or None,
    )


def all_rows(job: JobRows) -> Any:
    """Every counted run of a job: its own, their partners, and attempts that were repeated."""
    import numpy as np

    rows = np.concatenate([job.speculative.ravel(), job.vanilla.ravel(), job.others])
    return rows[rows >= 0]
