"""Shape of a series in time: drift, rank correlation and its exact chance, autocorrelation, wild values.

Own Theil-Sen and Kendall, because importing scipy.stats costs more than a whole collation of a small sweep.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

# A drift is slow: averaging a long series in this many stretches keeps it, and bounds the quadratic cost.
_STRETCHES = 64
MAD_LIMIT = 14.826


def wild(x: Any) -> Any:
    """Mask of values with |x - median| > 14.826 * MAD: ten robust standard deviations. `x`: float array."""
    import numpy as np

    distance = np.abs(x - np.median(x))
    return distance > MAD_LIMIT * np.median(distance)


def condensed(time: Any, x: Any) -> tuple[Any, Any]:
    """`time` and `x` averaged in at most 64 consecutive stretches of equal counts."""
    import numpy as np

    if len(x) <= _STRETCHES:
        return time, x
    starts = np.arange(_STRETCHES) * len(x) // _STRETCHES
    counts = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(time, starts) / counts, np.add.reduceat(x, starts) / counts


def drift(time: Any, log_x: Any) -> tuple[float, float]:
    """Theil-Sen change of `log_x` from the first to the last time, and Kendall's p for "no trend".

    `time` rises. (0, 1) for fewer than three values or a time that stands still.
    """
    import numpy as np

    time, x = condensed(np.asarray(time, dtype=float), np.asarray(log_x, dtype=float))
    n = len(x)
    span = float(time[-1] - time[0]) if n else 0.0
    if n < 3 or span <= 0:
        return 0.0, 1.0
    rows, columns = _pairs(n)
    dx, dt = x[columns] - x[rows], time[columns] - time[rows]
    moved = dt > 0
    slope = float(np.median(dx[moved] / dt[moved]))
    concordance = int(np.sign(dx).sum())
    return slope * span, kendall_p(n, concordance)


@lru_cache(maxsize=256)
def _pairs(n: int) -> Any:
    import numpy as np

    return np.triu_indices(n, k=1)


def kendall_p(n: int, concordance: int) -> float:
    """Two-sided p of Kendall's S (concordant less discordant pairs) for n values without ties, exactly."""
    return _kendall_tail(n)[min(abs(concordance), n * (n - 1) // 2)]


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
    tail = [0.0] * (most + 2)
    for s in range(most, -1, -1):
        # S = most - 2 * inversions; only values of the same parity as `most` occur.
        exactly = share[(most - s) // 2] * (1 if s == 0 else 2) if (most - s) % 2 == 0 else 0.0
        tail[s] = tail[s + 1] + exactly
    return [min(1.0, max(0.0, p)) for p in tail]


def lag1(x: Any) -> float | None:
    """Autocorrelation at lag 1; None where the series does not vary."""
    import numpy as np

    centred = np.asarray(x, dtype=float) - np.mean(x)
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / power if power > 0 else None


def autocorrelation_limit(n: int) -> float:
    """|r| beyond 2/sqrt(n) is unlikely for independent values."""
    return 2 / math.sqrt(n)
