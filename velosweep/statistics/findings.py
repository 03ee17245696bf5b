"""What a reader must know before believing a number, apart from the series themselves: intervals that are too wide,
runs that failed, outputs that differ, acceptance that jumps, the machine around the runs, and rounds that began on it
while it was still slower than at first.

Sentences and remedies are reporting's.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from velosweep.statistics.comparison import Evidence, Finding, warning
from velosweep.statistics.intervals import ONE_LAUNCH, WELCH, Interval, half_width
from velosweep.statistics.runs import Runs
from velosweep.statistics.series_checks import FEW_PAIRS
from velosweep.values import MAX_RECOVERY_PROBES, NEEDS_CONTEXT, QUOTA_THROTTLED, Mode

WIDE_HALF_WIDTH = 0.05
CLAIM = 0.02  # a ratio this far from 1 reads as a claim
BUSY_SHARE = 0.10
HOT_RISE_C = 15.0
HOT_C = 85.0
CLOCK_DROP = 0.05
ACCEPTANCE_JUMP = 0.15
FALSE_ACCEPTANCE = 0.99
SLOW_LIMIT = 0.02  # the default of protocol.cooldown_drift

_QUANTISED = re.compile(r"(?:^|[-_./ ])(?:i?q\d|tq\d|mxfp\d|nvfp\d)", re.IGNORECASE)
_CPU = re.compile(r"\bcpu\b|processor|xeon|epyc|ryzen|threadripper|core\(tm\)|neoverse|cortex|-core\b", re.IGNORECASE)


def is_quantised(model: str) -> bool:
    """Whether a model's file name says that its weights are quantised."""
    return bool(_QUANTISED.search(re.split(r"[/\\]", model)[-1]))


def is_cpu(device: str) -> bool:
    """Whether the `device` column names a processor rather than a GPU."""
    return bool(_CPU.search(device))


def _on_cpu(runs: Runs, rows: Any) -> bool:
    """Whether these runs' device is a processor: by its name, unless their servers had layers on a GPU (one may be
    named after the processor that it is part of)."""
    device = runs.columns.text("device").at(int(rows[0])) or ""
    return is_cpu(device) and not (runs.columns.number("layers_on_gpu")[rows] > 0).any()


def interval_findings(interval: Interval, *, adaptive_target: float | None, not_paired: str) -> list[Finding]:
    """An interval too wide for what the ratio seems to claim or for the target that was set, and how it was made.

    `not_paired`: the subject of the finding where runs are no interleaved pairs (see Design).
    """
    half = interval.half_width
    findings = _width_findings(interval.ratio, interval.low, interval.high, half)
    if adaptive_target is not None and half > adaptive_target:
        findings.append(warning("not_converged", "pairs", {"half_width": half, "target": adaptive_target}))
    if interval.method == WELCH:
        findings.append(warning("not_paired", not_paired, {}))
    elif interval.method.endswith(ONE_LAUNCH):
        findings.append(Finding(code="conditional_on_launch", severity="info", subject="pairs"))
    return findings


def _width_findings(ratio: float, low: float, high: float, half: float) -> list[Finding]:
    undecided = low <= 1 <= high and abs(ratio - 1) > CLAIM
    hides_half = half * ratio > abs(ratio - 1) / 2  # a wide interval around a large gain is an answer
    if not ((half > WIDE_HALF_WIDTH and hides_half) or undecided):
        return []
    return [warning("wide_interval", "pairs", {"half_width": half, "ratio": ratio})]


_OF_THE_INTERVAL = frozenset({"too_few_pairs", "wide_interval", "hodges_lehmann_disagrees"})


def confirmed_findings(
    found: Iterable[Finding], *, ratio: float, low: float | None, high: float | None, pairs: int
) -> tuple[Finding, ...]:
    """A job's findings with what is to be said of the interval of a search's fresh pairs, and of their number, in place
    of what was said of all its pairs."""
    own = [warning("too_few_pairs", "pairs", {"pairs": pairs})] if pairs < FEW_PAIRS else []
    if low is not None and high is not None:
        own += _width_findings(ratio, low, high, half_width(low, high))
    return (*(finding for finding in found if finding.code not in _OF_THE_INTERVAL), *own)


def outcome_findings(runs: Runs, rows: Any) -> list[Finding]:
    """Runs that are not averaged, over all attempts in `rows`: an error where a mode has no other."""
    usable = all(runs.usable[own].any() for own in runs.by_mode(rows) if len(own))
    errors = runs.columns.text("error")
    never = all(NEEDS_CONTEXT in (errors.at(row) or "") for row in rows[runs.failed[rows]].tolist())
    counts = {"failed_runs": int(runs.failed[rows].sum()), "invalid_runs": int(runs.invalid[rows].sum())}
    severity = "warning" if usable else "error"
    return [
        Finding(code=code, severity=severity, subject=subject, evidence={"runs": count, "of": len(rows)})
        for (code, count), subject in zip(counts.items(), ("context" if never else "runs", "runs"), strict=True)
        if count
    ]


def output_findings(runs: Runs, speculative: Any, vanilla: Any) -> list[list[Finding]]:
    """Whether both modes produced the same text: an error on the CPU with unquantised weights, else a warning.

    Rows of runs, comparisons x runs; `vanilla` is None where nothing is paired.
    """
    findings: list[list[Finding]] = [[] for _ in speculative]
    columns = runs.columns
    divergence = columns.number("first_divergence")[speculative]
    diverged = np.isfinite(divergence)
    if vanilla is not None:
        output = columns.text("output_sha256").codes
        ours, theirs = output[speculative], output[vanilla]
        diverged = diverged | ((ours >= 0) & (theirs >= 0) & (ours != theirs))
    sampled = (columns.number("temperature")[speculative] > 0).any(axis=1)
    for p in np.flatnonzero(sampled).tolist():
        findings[p].append(Finding(code="not_applicable_sampled", severity="info", subject="output"))
    for p in np.flatnonzero(diverged.any(axis=1) & ~sampled).tolist():
        row = int(speculative[p, 0])
        model = columns.text("main_model").at(row) or ""
        evidence = {"runs": int(diverged[p].sum()), "of": speculative.shape[1]}
        if np.isfinite(divergence[p]).any():
            evidence["first_token"] = int(np.nanmin(divergence[p]))
        severity = "error" if _on_cpu(runs, speculative[p]) and not is_quantised(model) else "warning"
        findings[p].append(Finding(code="output_diverged", severity=severity, subject="speculative", evidence=evidence))
    return findings


def acceptance_findings(drafted: Any, accepted: Any) -> list[list[Finding]]:
    """Acceptance of the first pass against the later ones. Token counts, comparisons x passes.

    Old builds reuse the last draft context when a prompt repeats, and then accept everything: an error, because the
    speed-up is false.
    """
    findings: list[list[Finding]] = [[] for _ in drafted]
    if drafted.shape[1] < 2:
        return findings
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = accepted / drafted
        first, later = rates[:, 0], rates[:, 1:].mean(axis=1)
        jumped = later - first > ACCEPTANCE_JUMP
    for p in np.flatnonzero(jumped).tolist():
        severity = "error" if later[p] >= FALSE_ACCEPTANCE else "warning"
        evidence = {"first_acceptance": float(first[p]), "later_acceptance": float(later[p])}
        findings[p].append(Finding(code="acceptance_jump", severity=severity, subject="speculative", evidence=evidence))
    return findings


def machine_findings(runs: Runs, rows: Any) -> list[Finding]:
    """The machine's state around all these runs."""
    columns = runs.columns
    if columns.has("gpu_clock_mhz") or columns.has("gpu_temperature_c"):  # the order of other figures does not matter
        rows = rows[np.argsort(runs.time[rows], kind="stable")]
    findings = []
    busy = _read(runs, "cpu_busy", rows)
    if (busy > BUSY_SHARE).any():
        evidence = {"busy_share": float(busy.max()), "mean_busy_share": float(busy.mean())}
        findings.append(warning("machine_busy", "machine", evidence))
    reasons = columns.text("throttle_reasons")
    codes = np.unique(reasons.codes[rows]) if reasons.values else ()
    told = {reasons.values[code] for code in codes if code >= 0} - {""}
    if any(QUOTA_THROTTLED in reason.split(", ") for reason in told):
        by_quota = [code for code, reason in enumerate(reasons.values) if QUOTA_THROTTLED in reason.split(", ")]
        stopped = int(np.isin(reasons.codes[rows], by_quota).sum())
        findings.append(warning("quota_throttled", "machine", {"runs": stopped, "of": len(rows)}))
    kept = ([part for part in reason.split(", ") if part != QUOTA_THROTTLED] for reason in told)
    seen = sorted({", ".join(parts) for parts in kept if parts})
    if seen:
        findings.append(warning("throttled", "gpu", {"reasons": ", ".join(seen)}))
    else:
        findings += _clock_drop(_read(runs, "gpu_clock_mhz", rows))
    findings += _heat(_read(runs, "gpu_temperature_c", rows))
    findings += _layers_elsewhere(runs, rows)
    processes = _read(runs, "gpu_processes", rows)
    if processes.any():
        others = {"processes": int(processes.max()), "runs": int(np.count_nonzero(processes))}
        findings.append(warning("other_gpu_processes", "gpu", others))
    return findings


def _read(runs: Runs, name: str, rows: Any) -> Any:
    """The figures of a column that were read."""
    if not runs.columns.has(name):
        return np.array([])
    values = runs.columns.number(name)[rows]
    return values[~np.isnan(values)]


def _layers_elsewhere(runs: Runs, rows: Any) -> list[Finding]:
    """Servers on a GPU some of whose layers are not: they are computed by the processor."""
    there, layers = (runs.columns.number(name)[rows] for name in ("layers_on_gpu", "layers"))
    fewer = np.flatnonzero(there < layers)
    if not len(fewer) or _on_cpu(runs, rows):
        return []
    worst = fewer[np.argmin(there[fewer] / layers[fewer])]
    evidence = {"on_gpu": int(there[worst]), "layers": int(layers[worst])}
    mode = runs.columns.text("mode").at(int(rows[worst]))
    return [warning("layers_not_on_gpu", "vanilla" if mode == Mode.VANILLA.value else "speculative", evidence)]


def _clock_drop(clock: Any) -> list[Finding]:
    """Clocks that end well below where they began (thirds, so that one reading decides nothing)."""
    third = len(clock) // 3
    if not third:
        return []
    before, after = float(np.median(clock[:third])), float(np.median(clock[-third:]))
    if after >= (1 - CLOCK_DROP) * before:
        return []
    return [warning("throttled", "gpu", {"clock_mhz_before": before, "clock_mhz_after": after})]


def _heat(temperature: Any) -> list[Finding]:
    """A GPU that is hot, or much hotter than at first."""
    if not len(temperature):
        return []
    first, hottest = float(temperature[0]), float(temperature.max())
    if hottest - first <= HOT_RISE_C and hottest < HOT_C:
        return []
    return [warning("heat", "gpu", {"first_c": first, "hottest_c": hottest})]


# Before a round on a slow machine (`protocol.cooldown`) the lane rests and takes a vanilla run as a probe, recorded as
# a warm-up of that round's iteration, at most twice. A second probe means that the first was still too slow.
RecoveryProbes = Mapping[tuple[str, str], Any]
"""Rows of the probes that went well in order of time, by sweep and vanilla owner (its job_id)."""


def recovery_probes(runs: Runs) -> RecoveryProbes:
    """All probes of a table of samples; empty for most."""
    columns = runs.columns
    rows = np.flatnonzero((columns.integer("warmup") != 0) & (columns.integer("iteration") > 0) & runs.usable)
    if not len(rows):
        return {}
    rows, _ = runs.by_mode(rows)
    found: dict[tuple[str, str], list[int]] = {}
    for row in rows[np.lexsort((columns.integer("order")[rows], runs.time[rows]))].tolist():
        found.setdefault(_owner(runs, row), []).append(row)
    return {owner: np.array(own) for owner, own in found.items()}


def untrusted_findings(runs: Runs, probes: RecoveryProbes, vanilla: Any) -> list[Finding]:
    """A warning where rounds of a job began too slow. `vanilla`: rows of its counted vanilla runs.

    Too slow is a last probe under the speed of its launch's first round by more than SLOW_LIMIT, or no faster than
    the probe before, which was too slow by the protocol's own limit or it would have been the last.
    """
    vanilla = vanilla[runs.usable[vanilla]]
    own = probes.get(_owner(runs, int(vanilla[0]))) if len(vanilla) else None
    if own is None:
        return []
    columns = runs.columns
    speed, iteration = columns.number("tokens_per_second"), columns.integer("iteration")
    place = columns.integer("block"), columns.integer("launch"), columns.text("prompt_id").codes
    counted: dict[tuple[int, ...], list[tuple[int, float]]] = defaultdict(list)
    seen: dict[tuple[tuple[int, ...], int], list[float]] = defaultdict(list)
    for row in vanilla.tolist():
        counted[tuple(int(part[row]) for part in place)].append((int(iteration[row]), float(speed[row])))
    for row in own.tolist():
        seen[tuple(int(part[row]) for part in place), int(iteration[row])].append(float(speed[row]))
    slow: dict[int, tuple[float, float]] = {}
    for (where, number), speeds in seen.items():
        earlier = [run for run in counted[where] if run[0] < number]
        if len(speeds) < MAX_RECOVERY_PROBES or not earlier:
            continue
        _, first = min(earlier)
        before, last = speeds[-MAX_RECOVERY_PROBES:]
        if last < first and (last < (1 - SLOW_LIMIT) * first or last <= before):
            slow[number] = min(slow.get(number, (last, first)), (last, first), key=lambda speeds: speeds[0] / speeds[1])
    if not slow:
        return []
    worst = min(slow, key=lambda number: slow[number][0] / slow[number][1])
    last, first = slow[worst]
    evidence: Evidence = {
        "rounds": len(slow),
        "iterations": ", ".join(map(str, sorted(slow))),
        "worst_iteration": worst,
        "speed": last,
        "first_speed": first,
        "fall": 1 - last / first,
    }
    return [warning("untrusted", "rounds", evidence)]


def _owner(runs: Runs, row: int) -> tuple[str, str]:
    columns = runs.columns
    return columns.text("sweep_id").at(row) or "", columns.text("job_id").at(row) or ""
