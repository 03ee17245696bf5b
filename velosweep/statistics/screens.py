"""Which of many series deserve a closer look, all at once: most have nothing to tell, and looking costs.

A screen never decides. It marks every series for which a check in `checks` could speak (and perhaps some more);
findings come from the checks alone. Series are the columns of arrays (runs x series), in the order of measurement.
"""

from __future__ import annotations

from typing import Any

from velosweep.statistics import checks
from velosweep.statistics.intervals import quantiles
from velosweep.statistics.trend import MAD_LIMIT, STRETCHES, autocorrelation_limit, kendall_limit, pairs_of, stretches


def arms(x: Any, time: Any, launch: Any) -> Any:
    """Mask of series with zero variance, wild values, a cold start or a trend; and of those out of order in time."""
    import numpy as np

    n, series = x.shape
    if n < 2:
        return np.zeros(series, dtype=bool)
    marked = (np.ptp(x, axis=0) == 0) | (np.diff(time, axis=0) < 0).any(axis=0)
    if n < checks.OUTLIER_MIN_RUNS:
        return marked
    if launch[0] != launch[-1]:
        return np.ones(series, dtype=bool)  # each launch may start cold: rare enough to look at all
    return marked | _wild(x) | _cold(x) | _trend(x)


def pairs(d: Any, low: Any, high: Any) -> Any:
    """Mask of paired log ratios with wild values, autocorrelation, or a robust location outside [low, high]."""
    import numpy as np

    n, series = d.shape
    marked = np.full(series, n < checks.FEW_PAIRS)
    if n >= checks.OUTLIER_MIN_RUNS:
        marked |= _wild(d)
    if n >= checks.AUTOCORRELATION_MIN_PAIRS:
        centred = d - d.mean(axis=0)
        products, power = (centred[1:] * centred[:-1]).sum(axis=0), (centred * centred).sum(axis=0)
        marked |= np.abs(products) > (autocorrelation_limit(n) - 1e-9) * power
    if n >= checks.HODGES_LEHMANN_MIN_PAIRS:
        location = _walsh_median(d)
        marked |= ~((location >= low) & (location <= high))
    return marked


def _wild(x: Any) -> Any:
    distance = abs(x - _median(x))
    return (distance > MAD_LIMIT * _median(distance)).any(axis=0)


def _cold(x: Any) -> Any:
    rest = x[1:]
    center = _median(rest)
    short = center - x[0]
    return (short > checks.COLD_LIMIT * center) & (short > MAD_LIMIT * _median(abs(rest - center)))


def _trend(x: Any) -> Any:
    """Rank correlation with time strong enough for Kendall's p; the size of the drift is the check's business."""
    import numpy as np

    moving = np.ptp(x, axis=0) > checks.DRIFT_LIMIT * 0.99 * x.min(axis=0)
    if not moving.any():
        return moving
    if len(x) > STRETCHES:
        x = stretches(np.log(x))
    rows, columns = pairs_of(len(x))
    concordance = np.sign(x[columns] - x[rows]).sum(axis=0)
    return moving & (abs(concordance) >= kendall_limit(len(x), checks.DRIFT_P))


def _walsh_median(d: Any) -> Any:
    import numpy as np

    x = quantiles(np.sort(d, axis=0))
    rows, columns = pairs_of(len(x), with_self=True)
    return _median(0.5 * (x[rows] + x[columns]))


def _median(x: Any) -> Any:
    """Median over the first axis; numpy's own spends more time on NaN than on sorting."""
    import numpy as np

    n = len(x)
    half = n // 2
    if n % 2:
        return np.partition(x, half, axis=0)[half]
    parted = np.partition(x, (half - 1, half), axis=0)
    return 0.5 * (parted[half - 1] + parted[half])
