"""Predict the speed of every draft length from a few calibration runs.

Speed is tau(n) / T(n). tau(n), tokens a round, is 1 + the sum of the survivals S_1 to S_n, where S_i is the share of
rounds that accept draft position i. T(n), the time of a round, is interpolated between the calibrated lengths. Where
the longest length costs far more than a line through the shorter ones predicts, a kernel boundary lies between
(llama.cpp's CUDA back end changes kernels above a batch of 8, n_draft 7); one more calibrated length, just below the
boundary, shows on which side of it a candidate is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from velosweep.tuning.search_values import DraftRounds

_CALIBRATION_LENGTHS = (1, 4, 16)
_BELOW_BOUNDARY = 7  # n_draft whose batch, 8, is the last before the boundary
_CLIFF_SHARE = 0.08


def pool(runs: Sequence[DraftRounds]) -> DraftRounds | None:
    """All runs of one draft length together; None for no runs."""
    if not runs:
        return None
    accepted = [run.accepted_per_position for run in runs if run.accepted_per_position is not None]
    return DraftRounds(
        count=sum(run.count for run in runs),
        total_ms=sum(run.total_ms for run in runs),
        accepted_per_position=(
            tuple(sum(at_position) for at_position in zip_longest(*accepted, fillvalue=0))
            if len(accepted) == len(runs)
            else None
        ),
    )


def calibration_lengths(available: Sequence[int]) -> tuple[int, ...]:
    """The available lengths nearest to 1, 4 and 16; none where there are so few that calibrating would not pay."""
    lengths = sorted(set(available))
    if len(lengths) <= len(_CALIBRATION_LENGTHS):
        return ()
    return tuple(sorted({min(lengths, key=lambda n: (abs(n - wanted), n)) for wanted in _CALIBRATION_LENGTHS}))


def boundary_length(available: Sequence[int], runs: Mapping[int, DraftRounds]) -> int | None:
    """The length to calibrate just below a kernel boundary; None where the runs show no boundary, or it is done."""
    below = max((n for n in available if n <= _BELOW_BOUNDARY), default=None)
    return below if below not in runs and _has_cliff(runs) else None


def predict(available: Sequence[int], runs: Mapping[int, DraftRounds]) -> dict[int, float] | None:
    """Tokens per second by draft length, from calibration runs by draft length.

    None where acceptance by position is not known. Positions beyond the longest run get its last survival.
    """
    survival = _survival(runs)
    if not survival:
        return None
    predictions = {}
    for n in available:
        accepted = sum(survival[min(i, len(survival) - 1)] for i in range(n))
        predictions[n] = 1000 * (1 + accepted) / _round_ms(n, runs)
    return predictions


def _survival(runs: Mapping[int, DraftRounds]) -> list[float]:
    """S_i pooled over the runs that drafted at least i; empty where it is not known."""
    if any(not run.accepted_per_position for run in runs.values()):
        return []
    survival = []
    for i in range(max(runs, default=0)):
        reaching = [run for n, run in runs.items() if n > i]
        counts = [run.accepted_per_position or () for run in reaching]
        accepted = sum(count[i] for count in counts if i < len(count))
        survival.append(accepted / sum(run.count for run in reaching))
    return survival


def _has_cliff(runs: Mapping[int, DraftRounds]) -> bool:
    """Whether a round of the longest length takes much longer than a line through the two before it says."""
    if len(runs) < 3:
        return False
    a, b, c = sorted(runs)[-3:]
    expected = runs[b].mean_ms + _slope(runs, a, b) * (c - b)
    return runs[c].mean_ms > expected * (1 + _CLIFF_SHARE)


def _slope(runs: Mapping[int, DraftRounds], a: int, b: int) -> float:
    """Milliseconds that a round takes longer for each token drafted between lengths a and b; not below 0."""
    return max(0.0, (runs[b].mean_ms - runs[a].mean_ms) / (b - a))


def _round_ms(n: int, runs: Mapping[int, DraftRounds]) -> float:
    """The time of a round at length n: linear between calibrated lengths, with a step at the boundary if there is one.

    Beyond the calibrated lengths the outermost line goes on, but not below half of its lesser end.
    """
    lengths = sorted(runs)
    if len(lengths) == 1:
        return runs[lengths[0]].mean_ms
    *lower, longest = lengths
    if n > _BELOW_BOUNDARY and lower[-1] == _BELOW_BOUNDARY and _has_cliff(runs):
        before = runs[_BELOW_BOUNDARY].mean_ms
        return max(runs[longest].mean_ms - _slope(runs, lower[0], lower[-1]) * (longest - n), before)
    right = min(max(bisect_left(lengths, n), 1), len(lengths) - 1)
    a, b = lengths[right - 1], lengths[right]
    low, high = runs[a].mean_ms, runs[b].mean_ms
    return max(low + (high - low) * (n - a) / (b - a), 0.5 * min(low, high))
