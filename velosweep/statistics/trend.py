"""Shape of a series in time: drift, rank correlation and its exact chance, autocorrelation, wild values.

Own Theil-Sen and Kendall, because importing scipy.stats costs more than a whole collation of a small sweep.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

# A drift is slow: averaging a long series in this many stretches keeps it, and bounds the quadratic cost.
STRETCHES = 64
MAD_LIMIT = 14.826
ROUNDING = 1e-9  # differences that small, relative to the values, are arithmetic


def wild(x: Any) -> Any:
    """Mask of values with |x - median| > 14.826 * MAD: ten robust standard deviations. `x`: float array."""
    import numpy as np

    center = np.median(x)
    distance = np.abs(x - center)
    return distance > max(MAD_LIMIT * float(np.median(distance)), ROUNDING * (1 + abs(float(center))))


def stretches(x: Any) -> Any:
    """`x` averaged along its first axis in at most 64 consecutive stretches of equal counts."""
    import numpy as np

    if len(x) <= STRETCHES:
        return x
    starts = np.arange(STRETCHES) * len(x) // STRETCHES
    counts = np.diff(np.append(starts, len(x)))
    return (np.add.reduceat(x, starts, axis=0).T / counts).T


def drift(time: Any, log_x: Any) -> tuple[float, float]:
    """Theil-Sen change of `log_x` from the first to the last time, and Kendall's p for "no trend".

    `time` rises. (0, 1) for fewer than three values or a time that stands still.
    """
    import numpy as np

    time, x = stretches(np.asarray(time, dtype=float)), stretches(np.asarray(log_x, dtype=float))
    n = len(x)
    span = float(time[-1] - time[0]) if n else 0.0
    if n < 3 or span <= 0:
        return 0.0, 1.0
    rows, columns = pairs_of(n)
    dx, dt = x[columns] - x[rows], time[columns] - time[rows]
    moved = dt > 0
    slope = float(np.median(dx[moved] / dt[moved]))
    concordance = int(np.sign(dx).sum())
    return slope * span, kendall_p(n, concordance)


@lru_cache(maxsize=256)
def pairs_of(n: int, *, with_self: bool = False) -> Any:
    """Indices (i, j) of all pairs i < j of n values, or i <= j."""
    import numpy as np

    return np.triu_indices(n, k=0 if with_self else 1)


def kendall_p(n: int, concordance: int) -> float:
    """Two-sided p of Kendall's S (concordant less discordant pairs) for n values without ties, exactly."""
    return _kendall_tail(n)[min(abs(concordance), n * (n - 1) // 2)]


@lru_cache(maxsize=256)
def kendall_limit(n: int, p: float) -> int:
    """The least |S| whose two-sided p is below `p`; more than any S where there is none."""
    return next((s for s, chance in enumerate(_kendall_tail(n)) if chance < p), n * n)


@lru_cache(maxsize=256)
def _kendall_tail(n: int) -> list[float]:
    """P(|S| >= s) for s = 0 .. n(n-1)/2, from the number of permutations with each number of inversions."""
    most = n * (n - 1) // 2
    share = [1.0] + [0.0] * most
    for size in range(2, n + 1):
        running, previous = 0.0, share
        share = [0.0] * (most + 1)
        for inversions in range(size * (size - 1) // 2 + 1):
            running += previous[inversions] - (previous[inversions - size] if inversions >= size else 0.0)
            share[inversions] = running / size
    tail = [0.0] * (most + 2)  # one more than can occur, whose chance is 0
    for s in range(most, -1, -1):
        # S = most - 2 * inversions; only values of the same parity as `most` occur.
        exactly = share[(most - s) // 2] * (1 if s == 0 else 2) if (most - s) % 2 == 0 else 0.0
        tail[s] = tail[s + 1] + exactly
    return [min(1.0, max(0.0, p)) for p in tail]


def lag1(x: Any) -> float | None:
    """Autocorrelation at lag 1; None where the series does not vary."""
    import numpy as np

    mean = float(np.mean(x))
    centred = np.asarray(x, dtype=float) - mean
    power = float(centred @ centred)
    varies = power > len(centred) * (ROUNDING * (1 + abs(mean))) ** 2
    return float(centred[1:] @ centred[:-1]) / power if varies else None


def autocorrelation_limit(n: int) -> float:
    """|r| beyond 2/sqrt(n) is unlikely for independent values."""
    return 2 / math.sqrt(n)
