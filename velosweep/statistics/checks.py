"""What a reader must know before believing a number: findings with their evidence. Nothing is ever deleted.

Thresholds are those of the design notes (simulated there). Functions take arrays in the order of measurement and
return findings; sentences and remedies are reporting's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from velosweep.statistics.comparison import Finding
from velosweep.statistics.intervals import Interval, hodges_lehmann
from velosweep.statistics.trend import MAD_LIMIT, ROUNDING, autocorrelation_limit, drift, lag1, wild

OUTLIER_MIN_RUNS = 5
DRIFT_LIMIT = 0.01
DRIFT_P = 0.05
COLD_LIMIT = 0.01
AUTOCORRELATION_MIN_PAIRS = 10
HODGES_LEHMANN_MIN_PAIRS = 6
FEW_PAIRS = 3
WIDE_HALF_WIDTH = 0.05
CLAIM = 0.02  # a ratio this far from 1 reads as a claim
BUSY_SHARE = 0.10
HOT_RISE_C = 15.0
HOT_C = 85.0
CLOCK_DROP = 0.05
ACCEPTANCE_JUMP = 0.15
FALSE_ACCEPTANCE = 0.99

_QUANTISED = re.compile(r"(?:^|[-_./ ])(?:i?q\d|tq\d|mxfp\d|nvfp\d)", re.IGNORECASE)
_CPU = re.compile(r"\bcpu\b|processor|xeon|epyc|ryzen|threadripper|core\(tm\)|neoverse|cortex|-core\b", re.IGNORECASE)


def is_quantised(model: str) -> bool:
    """Whether a model's file name says that its weights are quantised."""
    return bool(_QUANTISED.search(re.split(r"[/\\]", model)[-1]))


def is_cpu(device: str) -> bool:
    """Whether the `device` column names a processor rather than a GPU."""
    return bool(_CPU.search(device))


def series_findings(x: Any, time: Any, subject: str, *, launch: Any = None) -> list[Finding]:
    """Outliers, cold start, drift and zero variance of one arm's tokens per second, in order of time."""
    import numpy as np

    n = len(x)
    if n < 2:
        return []
    if np.ptp(x) == 0:
        return [Finding(code="zero_variance", severity="warning", subject=subject, evidence={"runs": n})]
    findings = []
    if n >= OUTLIER_MIN_RUNS:
        cold = _cold_start(x, subject, launch)
        findings += cold
        findings += _outliers(x, subject, skip_first=bool(cold))
        log_x = np.log(x)
        # The range bounds any drift: most quiet series end here.
        if float(np.ptp(log_x)) > DRIFT_LIMIT:
            change, p = drift(time, log_x)
            if abs(change) > DRIFT_LIMIT and p < DRIFT_P:
                evidence = {"drift": math.expm1(change), "p": p, "runs": n}
                findings.append(Finding(code="drift", severity="warning", subject=subject, evidence=evidence))
    return findings


def _outliers(x: Any, subject: str, *, skip_first: bool = False) -> list[Finding]:
    import numpy as np

    flagged = np.flatnonzero(wild(x))
    if skip_first:
        flagged = flagged[flagged > 0]
    if not len(flagged):
        return []
    center = float(np.median(x))
    worst = int(flagged[np.argmax(np.abs(x[flagged] - center))])
    evidence = {
        "runs": len(flagged),
        "of": len(x),
        "worst_run": worst + 1,
        "value": float(x[worst]),
        "median": center,
    }
    return [Finding(code="outlier", severity="warning", subject=subject, evidence=evidence)]


def _cold_start(x: Any, subject: str, launch: Any) -> list[Finding]:
    """The first counted run of a launch is far slower than the rest of that launch."""
    import numpy as np

    for number in np.unique(launch) if launch is not None else [None]:
        own = x if number is None else x[launch == number]
        rest = own[1:]
        if len(own) < OUTLIER_MIN_RUNS:
            continue
        center = float(np.median(rest))
        short = center - float(own[0])
        if short > COLD_LIMIT * center and short > MAD_LIMIT * float(np.median(np.abs(rest - center))):
            evidence = {"first": float(own[0]), "median_of_rest": center, "relative": short / center}
            return [Finding(code="cold_start", severity="warning", subject=subject, evidence=evidence)]
    return []


def pair_findings(d: Any, interval: Interval | None) -> list[Finding]:
    """What the paired log ratios `d` (in order of time) and their interval say of each other."""
    n = len(d)
    findings = []
    if n < FEW_PAIRS:
        findings.append(_finding("too_few_pairs", {"pairs": n}))
    if n >= OUTLIER_MIN_RUNS:
        findings += _outliers(d, "pairs")
    if n >= AUTOCORRELATION_MIN_PAIRS:
        r = lag1(d)
        if r is not None and abs(r) > autocorrelation_limit(n):
            findings.append(_finding("autocorrelation", {"r1": r, "limit": autocorrelation_limit(n), "pairs": n}))
    if interval is not None and n >= HODGES_LEHMANN_MIN_PAIRS:
        findings += _hodges_lehmann(d, interval)
    return findings


def _hodges_lehmann(d: Any, interval: Interval) -> list[Finding]:
    low, high = math.log(interval.low), math.log(interval.high)
    location = hodges_lehmann(d)
    if location is None or low - ROUNDING <= location <= high + ROUNDING:
        return []
    evidence = {"ratio": math.exp(location), "ci_low": interval.low, "ci_high": interval.high}
    return [_finding("hodges_lehmann_disagrees", evidence)]


def width_findings(interval: Interval, *, adaptive_target: float | None = None) -> list[Finding]:
    """Intervals too wide for what the ratio seems to claim, or for the target that was set."""
    findings = []
    half = interval.half_width
    undecided = interval.low <= 1 <= interval.high and abs(interval.ratio - 1) > CLAIM
    if half > WIDE_HALF_WIDTH or undecided:
        findings.append(_finding("wide_interval", {"half_width": half, "ratio": interval.ratio}))
    if adaptive_target is not None and half > adaptive_target:
        findings.append(_finding("not_converged", {"half_width": half, "target": adaptive_target}))
    return findings


def outcome_findings(*, failed: int, invalid: int, runs: int, usable: bool) -> list[Finding]:
    """Runs that are not averaged: counted, never hidden. An error where nothing usable is left."""
    severity = "warning" if usable else "error"
    counts = (("failed_runs", failed), ("invalid_runs", invalid))
    return [
        Finding(code=code, severity=severity, subject="runs", evidence={"runs": count, "of": runs})
        for code, count in counts
        if count
    ]


def acceptance_findings(first: float | None, later: Sequence[float]) -> list[Finding]:
    """Acceptance of the first iteration against the later ones of the same prompts.

    Old builds reuse the last draft context when a prompt repeats, and then accept everything: an error, because the
    speed-up is false.
    """
    if first is None or not len(later):
        return []
    rest = sum(later) / len(later)
    if rest - first <= ACCEPTANCE_JUMP:
        return []
    severity = "error" if rest >= FALSE_ACCEPTANCE else "warning"
    evidence = {"first_acceptance": first, "later_acceptance": rest}
    return [Finding(code="acceptance_jump", severity=severity, subject="speculative", evidence=evidence)]


def divergence_findings(
    *, diverged: int, runs: int, first: int | None, sampled: bool, device: str, main_model: str
) -> list[Finding]:
    """Speculative output that is not vanilla's: an error on the CPU with unquantised weights, else a warning."""
    if sampled:
        return [Finding(code="not_applicable_sampled", severity="info", subject="output")]
    if not diverged:
        return []
    hard = is_cpu(device) and not is_quantised(main_model)
    evidence: dict[str, float | int | str] = {"runs": diverged, "of": runs}
    if first is not None:
        evidence["first_token"] = first
    return [
        Finding(
            code="output_diverged", severity="error" if hard else "warning", subject="speculative", evidence=evidence
        )
    ]


def condition_findings(
    *,
    cpu_busy: Any,
    load: Any,
    logical_cores: int | None,
    temperature_c: Any,
    clock_mhz: Any,
    gpu_processes: Any,
    throttle: str | None,
) -> list[Finding]:
    """The machine around the runs, each an array over all counted runs in order of time (NaN where unread)."""
    import numpy as np

    findings = []
    findings += _busy(_known(cpu_busy), _known(load), logical_cores)
    if throttle:
        findings.append(_finding("throttled", {"reasons": throttle}, "gpu"))
    else:
        findings += _clock_drop(_known(clock_mhz))
    findings += _heat(_known(temperature_c))
    processes = _known(gpu_processes)
    if len(processes) and float(np.max(processes)) > 0:
        evidence = {"processes": int(np.max(processes)), "runs": int(np.count_nonzero(processes))}
        findings.append(_finding("other_gpu_processes", evidence, "gpu"))
    return findings


def _busy(busy: Any, load: Any, logical_cores: int | None) -> list[Finding]:
    """Others' share of the cores where it was read; else a load above the number of cores, where that is known."""
    import numpy as np

    if len(busy):
        share = float(np.max(busy))
        if share <= BUSY_SHARE:
            return []
        return [_finding("machine_busy", {"busy_share": share, "mean_busy_share": float(np.mean(busy))}, "machine")]
    if logical_cores is None or not len(load) or float(np.max(load)) <= logical_cores:
        return []
    return [_finding("machine_busy", {"load_average": float(np.max(load)), "cores": logical_cores}, "machine")]


def _clock_drop(clock: Any) -> list[Finding]:
    """Clocks that end well below where they began (thirds, so that one reading decides nothing)."""
    import numpy as np

    third = len(clock) // 3
    if not third:
        return []
    before, after = float(np.median(clock[:third])), float(np.median(clock[-third:]))
    if before <= 0 or after >= (1 - CLOCK_DROP) * before:
        return []
    return [_finding("throttled", {"clock_mhz_before": before, "clock_mhz_after": after}, "gpu")]


def _heat(temperature: Any) -> list[Finding]:
    import numpy as np

    if not len(temperature):
        return []
    first, hottest = float(temperature[0]), float(np.max(temperature))
    if hottest - first <= HOT_RISE_C and hottest < HOT_C:
        return []
    return [_finding("heat", {"first_c": first, "hottest_c": hottest}, "gpu")]


def _known(values: Any) -> Any:
    return values[values == values]  # NaN is what was not read


def _finding(code: str, evidence: dict[str, Any], subject: str = "pairs") -> Finding:
    return Finding(code=code, severity="warning", subject=subject, evidence=evidence)
