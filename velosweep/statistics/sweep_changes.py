"""Two sweeps side by side: what changed, which changes are real, and what makes them unlike.

The speeds of two sweeps were measured at different times, so no pairing protects them: the ratio new / old of a mode's
tokens per second has Welch's interval on logs and its caveat, drift between the sweeps (another heat, another load).
The ratio of the two *speed-ups* is protected where both are interleaved: each is relative to its own vanilla.

With m jobs compared at 95 % each, one in twenty changes looks real without being so. `real` is therefore judged with
Holm's correction over all jobs of the comparison, and the intervals stay the plain 95 % ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from velosweep.planning.job_settings import settings_of, signature, varying_keys
from velosweep.records import Environment, SweepRecord
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.statistics.intervals import Interval, log_ratio_interval, pooled_df, t_quantile, welch_ratio

BETWEEN_SWEEPS = "Welch t on logs, assumes no drift between sweeps"
BETWEEN_SPEEDUPS = "difference of the two log speed-ups"
ERROR = 0.05  # of calling any change real that is none


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """How one job (or one of its prompts) moved from the old sweep to the new.

    `ratio`: speculative tokens per second, new over old (vanilla's, where the job has nothing else). `speedup_ratio`:
    the same for the speed-ups. `p` of "no change" in `ratio`; `real` after correction for the number of jobs, with
    `comparisons` saying how many. `reproduced`: the intervals of both speed-ups (or of both speeds) overlap, and the
    ratio between them is no change.
    """

    old: Comparison
    new: Comparison
    ratio: Interval | None
    vanilla_ratio: Interval | None
    speedup_ratio: Interval | None
    p: float | None
    reproduced: bool | None
    real: bool = False
    comparisons: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepChanges:
    """All changes, and the jobs that only one of the sweeps has."""

    changes: tuple[Change, ...]
    only_old: tuple[Comparison, ...]
    only_new: tuple[Comparison, ...]

    def below(self, ratio: float) -> tuple[Change, ...]:
        """Whole jobs that are slower than `ratio` of the old, and really changed: what `--fail-below` is about."""
        return tuple(
            change
            for change in self.changes
            if change.new.prompt_id is None and change.real and change.ratio is not None and change.ratio.ratio < ratio
        )


def compare_sweeps(old: Sequence[Comparison], new: Sequence[Comparison], *, per_prompt: bool = False) -> SweepChanges:
    """Match jobs by id, else by what they asked for, and compare each with its counterpart.

    `per_prompt` compares the prompts' rows too (they then count as comparisons). Jobs keep the new sweep's order.
    """
    before = {_exact(row): row for row in old if per_prompt or row.prompt_id is None}
    # What jobs asked for: the settings that any sweep is about, and whatever either of the two varies.
    varied = [key for rows in (old, new) for key in varying_keys([settings_of(row) for row in rows])]

    def asked(row: Comparison) -> tuple[object, ...]:
        return (*signature(settings_of(row), varied), row.prompt_id)

    alike = {asked(row): row for row in before.values()}
    changes, only_new, matched = [], [], set()
    for row in new:
        if row.prompt_id is not None and not per_prompt:
            continue
        counterpart = before.get(_exact(row)) or alike.get(asked(row))
        if counterpart is None:
            only_new.append(row)
            continue
        matched.add(_exact(counterpart))
        changes.append(_change(counterpart, row))
    return SweepChanges(
        changes=tuple(_judged(changes)),
        only_old=tuple(row for key, row in before.items() if key not in matched),
        only_new=tuple(only_new),
    )


def _exact(row: Comparison) -> tuple[object, ...]:
    return (row.job_id, row.prompt_id)


def _name(path: str) -> str:
    return path.replace("\\", "/").split("/")[-1]


def _change(old: Comparison, new: Comparison) -> Change:
    vanilla_ratio = _speed_ratio(old.vanilla, new.vanilla)
    ratio = _speed_ratio(old.speculative, new.speculative) if old.speculative and new.speculative else vanilla_ratio
    return Change(
        old=old,
        new=new,
        ratio=ratio,
        vanilla_ratio=vanilla_ratio,
        speedup_ratio=_speedup_ratio(old, new),
        p=None if ratio is None else _p_of_no_change(ratio),
        reproduced=_reproduced(old, new),
    )


def _speed_ratio(old: ModeStatistics | None, new: ModeStatistics | None) -> Interval | None:
    """By the means of launches where there are several: runs of one launch share what its start has of its own."""
    if old is None or new is None:
        return None
    logs = [mode.launch_logs or [*map(math.log, mode.tokens_per_second.samples)] for mode in (old, new)]
    return welch_ratio(*logs, method=BETWEEN_SWEEPS).interval


def _speedup_ratio(old: Comparison, new: Comparison) -> Interval | None:
    """Of speed-ups that pairs protect from drift, each with the error that its own sweep shows; else None."""
    if not (old.by_round and new.by_round and old.speedup_gm and new.speedup_gm):
        return None
    if old.standard_error is None or new.standard_error is None or old.df is None or new.df is None:
        return None
    errors = old.standard_error, new.standard_error
    df = pooled_df([error**2 for error in errors], [old.df, new.df])
    center, n = math.log(new.speedup_gm / old.speedup_gm), min(old.n_pairs, new.n_pairs)
    return log_ratio_interval(center, math.hypot(*errors), df=df, n=n, method=BETWEEN_SPEEDUPS)


def _p_of_no_change(interval: Interval) -> float:
    """Two-sided p of ratio 1 for a t interval on logs."""
    from scipy.special import stdtr

    if interval.standard_error == 0:
        return 1.0 if interval.ratio == 1 else 0.0
    return float(2 * stdtr(interval.df, -abs(math.log(interval.ratio)) / interval.standard_error))


def _judged(changes: Sequence[Change]) -> list[Change]:
    """Holm: the smallest p against .05 / m, the next against .05 / (m - 1), until one fails."""
    tested = sorted((change.p, i) for i, change in enumerate(changes) if change.p is not None)
    real: set[int] = set()
    for rank, (p, index) in enumerate(tested):
        if p > ERROR / (len(tested) - rank):
            break
        real.add(index)
    return [
        replace(
            change,
            real=i in real,
            comparisons=len(tested),
            reproduced=change.reproduced and not (_moved(change) or (i in real and change.speedup_ratio is None)),
        )
        for i, change in enumerate(changes)
    ]


def _moved(change: Change) -> bool:
    """Whether the speed-ups differ although their intervals overlap, which those of like figures do more often."""
    ratio = change.speedup_ratio
    return ratio is not None and not ratio.low <= 1 <= ratio.high


def _reproduced(old: Comparison, new: Comparison) -> bool | None:
    """Whether the intervals of both speed-ups overlap; without speed-ups those of the speeds; None where undefined."""
    if old.ci_low is not None and old.ci_high is not None and new.ci_low is not None and new.ci_high is not None:
        return old.ci_low <= new.ci_high and new.ci_low <= old.ci_high
    spans = [_span(row.speculative or row.vanilla) for row in (old, new)]
    if spans[0] is None or spans[1] is None:
        return None
    return spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]


def _span(mode: ModeStatistics | None) -> tuple[float, float] | None:
    """95 % t interval of a mode's mean tokens per second."""
    speed = mode.tokens_per_second if mode else None
    if speed is None or speed.stddev is None:
        return None
    n = len(speed.samples)
    half = t_quantile(0.95, n - 1) * speed.stddev / math.sqrt(n)
    return speed.mean - half, speed.mean + half


_HASH = 12  # letters of a hash tell files apart and fit a line


def environment_differences(old: SweepRecord, new: SweepRecord) -> list[str]:
    """Why two sweeps' figures can't be held against each other: `host was a, is b`; empty for like ones.

    Models are alike by fingerprint under the same file name, wherever the files lie. Of hashes the beginnings are told.
    """
    before, after = old.environment, new.environment
    pairs = [
        ("engine", before.engine, after.engine),
        ("build", before.llama_cpp_build, after.llama_cpp_build),
        ("program", (before.program_sha256 or "")[:_HASH], (after.program_sha256 or "")[:_HASH]),
        ("host", before.host, after.host),
        ("cpu", f"{before.cpu}, {before.physical_cores} cores", f"{after.cpu}, {after.physical_cores} cores"),
        ("devices", _devices(before), _devices(after)),
    ]
    theirs = _fingerprints(after)
    models = [(f"model {name}", own, theirs[name]) for name, own in _fingerprints(before).items() if name in theirs]
    return [f"{what} was {a or 'unknown'}, is {b or 'unknown'}" for what, a, b in pairs + models if a != b]


def _devices(environment: Environment) -> str:
    return " + ".join(sorted(f"{device.kind} {device.name}" for device in environment.devices))


def _fingerprints(environment: Environment) -> Mapping[str, str]:
    return {_name(model.path): model.fingerprint[:_HASH] for model in environment.models}
