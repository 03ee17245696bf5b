"""How it was measured, and on what: the end of the report, in words."""

from __future__ import annotations

from collections.abc import Sequence

from velosweep.records import SweepRecord
from velosweep.reporting.wording import listed
from velosweep.statistics.comparison import Comparison
from velosweep.units import bytes_words, plural

_ORDERS = {
    "abba": "Vanilla and speculative runs alternate in rounds whose direction alternates (ABBA), so that a drift of "
    "the machine falls on both alike.",
    "random": "Vanilla and speculative runs alternate in rounds of seeded random order, so that a drift of the machine "
    "falls on both alike.",
    "block": "All vanilla runs were taken before all speculative runs: a drift of the machine can look like a speedup.",
}


def how_lines(record: SweepRecord, jobs: Sequence[Comparison]) -> tuple[str, ...]:
    """Paragraphs: the order of runs, what a figure means, the interval, the rules for what is left out."""
    orders = dict.fromkeys(job.order for job in record.jobs)
    iterations = listed(str(count) for count in dict.fromkeys(job.iterations for job in record.jobs))
    launches = listed(str(count) for count in dict.fromkeys(job.launches for job in record.jobs))
    lines = [
        *(_ORDERS.get(order, f"Order of runs: {order}.") for order in orders),
        f"Iterations: {iterations}; launches of each server: {launches}. Each launch begins with one short warm-up run "
        "for each server, which is recorded and never averaged.",
        "Tokens per second is decoding speed: (tokens - 1) over the time from the first to the last token. Time to "
        "first token and total time count from sending the request.",
        *_interval_lines(jobs),
        "Failed, timed-out and invalid runs are recorded, named and never averaged; outliers are named, never removed.",
        "Tied: the 95 % interval of the ratio of two speedups, taken as independent, holds 1.",
    ]
    targets = [job.adaptive_target for job in record.jobs if job.adaptive_target is not None]
    if targets:
        lines.append(
            f"Adaptive: pairs were added until the interval was within ±{100 * min(targets):g} %; it is computed at "
            "97 % so that it holds at 95 % in spite of looking often."
        )
    return tuple(lines)


def _interval_lines(jobs: Sequence[Comparison]) -> list[str]:
    """What the intervals mean; nothing where there are no results."""
    if not jobs:
        return []
    methods = dict.fromkeys(job.ci_method for job in jobs if job.ci_method)
    interval = (
        f"The 95 % intervals are of the mean ratio ({', '.join(methods)})" if methods else "There are no intervals"
    )
    return [
        f"{interval}; speedup is the geometric mean of paired ratios; “unpaired”: the ratio of "
        "the geometric means of runs that are no interleaved pairs, by Welch's t, which a drift of the machine can "
        "shift. “± (spec.)” is the specification's propagated "
        "standard deviation: the spread of a ratio of two single runs, which does not shrink with more runs."
    ]


def environment_lines(record: SweepRecord) -> tuple[tuple[str, str], ...]:
    """Names and values of what the figures depend on."""
    here = record.environment
    lines = [
        ("Sweep", f"{record.sweep_id}, {plural(len(record.jobs), 'job')}, {record.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("velosweep", f"{here.velosweep}, Python {here.python}"),
        ("llama.cpp", f"{here.engine}, build {here.llama_cpp_build}"),
        ("Engine chosen", here.engine_reason or "as configured"),
        ("Program", f"{here.program} (SHA-256 {here.program_sha256})" if here.program else "within velosweep"),
        ("Machine", f"{here.host}, {here.system}"),
        ("Processor", f"{here.cpu}, {here.physical_cores} cores, {here.logical_cores} threads"),
        ("Memory", bytes_words(here.memory_bytes)),
    ]
    for device in here.devices:
        memory = f", {bytes_words(device.memory_bytes)}" if device.memory_bytes else ""
        lines.append(("Device", f"{device.name} ({device.kind}){memory}"))
    for model in here.models:
        described = model.description or bytes_words(model.size_bytes)  # a description holds the size
        lines.append(("Model", f"{model.path} ({described}, {model.fingerprint[:16]})"))
    return tuple(lines)
