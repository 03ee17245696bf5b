"""Simulated: what comparing settings within rounds covers and how wide it is, beside each setting's own pairs.

    python -m tests.benchmarks.bench_rounds [--sweeps 4000] [--searches 500]

Rows: rounds, settings beside vanilla, kind of noise (1 % a run, under ABBA); coverage of the reported intervals, their
width over that of each setting's own pairs (as before), coverage of the noisiest setting; how often the chosen setting
is within 1 % of the best or the best named beside it, and the chosen one's interval holds. Settings are .5 % apart.
Then the search over n_draft 1 to 16 on a simulated engine.
"""

from __future__ import annotations

import argparse

import numpy as np

from tests.statistics.simulated_rounds import SIZE, Seen, noise, seen
from tests.tuning.simulated_engine import is_right, simulated
from velosweep.statistics.intervals import t_quantile

SPREADS = {"v1 1:2:3": (1, 1, 2, 3), "1 to 3": (1, 5 / 3, 7 / 3, 3), "one of 3": (1, 1, 1, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=4000)
    parser.add_argument("--searches", type=int, default=500)
    options = parser.parse_args()
    rng = np.random.default_rng(11)
    print("rounds settings noise     coverage (own pairs)  width  noisiest  chosen right or named, held")
    for rounds, settings in ((2, 3), (3, 3), (5, 3), (10, 3), (3, 8)):
        for kind in ("iid", "skew", "drift", "ar1"):
            shape = (options.sweeps, rounds, settings + 1)
            print(line(rounds, settings, kind, noise(kind, shape, rng)), flush=True)
    for rounds in (3, 5):
        for name, spread in SPREADS.items():
            disturbance = rng.normal(0, SIZE * np.array(spread), (options.sweeps, rounds, 4))
            print(line(rounds, 3, name, disturbance), flush=True)
    print("search: CV  right  measurements: median, 90 % at most")
    for cv in (0.005, 0.01, 0.02):
        found = [
            (is_right(engine, search), search.answer().measurements)
            for engine, search in simulated(options.searches, cv)
        ]
        right, measurements = np.array(found).T
        print(
            f"{cv:>10.1%} {right.mean():>6.1%} {np.median(measurements):>6.0f} {np.percentile(measurements, 90):>6.0f}"
        )


def line(rounds: int, settings: int, kind: str, disturbance: np.ndarray) -> str:
    truth = 1.4 * 0.995 ** np.arange(settings)
    found = seen(disturbance, truth.tolist())
    right = (truth[found.chosen] >= 0.99 * truth[0]) | found.may_be_best[:, 0]
    own = own_coverage(disturbance)
    return (
        f"{rounds:>6} {settings:>8} {kind:<9} {found.held.mean():>8.3f} {own:>12.3f} {relative_width(found):>9.2f}"
        f" {found.held[:, -1].mean():>9.3f} {right.mean():>12.3f} {found.chosen_held.mean():>15.3f}"
    )


def relative_width(found: Seen) -> float:
    return float(found.width.mean() / found.own_width.mean())


def own_coverage(disturbance: np.ndarray) -> float:
    """Of each setting's own paired t, as it was reported before."""
    d = disturbance[:, :, 1:] - disturbance[:, :, :1]
    rounds = d.shape[1]
    half = t_quantile(0.95, rounds - 1) * d.std(axis=1, ddof=1) / np.sqrt(rounds)
    return float((abs(d.mean(axis=1)) <= half).mean())


if __name__ == "__main__":
    main()
