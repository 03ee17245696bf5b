"""Simulated: how often `velosweep bisect` is wrong, can't tell, and how many rounds of two builds it takes.

    python -m tests.benchmarks.bench_bisect [--times 400] [--builds 8 64] [--slower-by 0.05]

Rows: builds, by how much the slower ones are slower, noise (starts and runs, as standard deviations); the share of
bisections with a wrong verdict (promised: at most 5 %), of those that leave several suspects, their suspects on
average; comparisons and rounds, of two runs each on servers of their own. A slowdown of just 5 % can't be told by any
number of rounds: there a wrong verdict calls a build slower by more. Without --slower-by these are the builds that
bisect's default asks for: 5 % of the last one, about half of its loss of those between.
"""

from __future__ import annotations

import argparse
from dataclasses import astuple

import numpy as np

from tests.statistics.simulated_builds import Noise, bisected, from_one_on

NOISES = {
    "starts 2 %, runs 1 %": Noise(start=0.02, run=0.01),
    "starts 3 %, runs 3 %": Noise(start=0.03, run=0.03),
    "starts 4 %, runs 5 %": Noise(start=0.04, run=0.05),
    "3 %, 3 %, one in ten slowed": Noise(start=0.03, run=0.03, slowed=0.1),
    "3 %, 3 %, speculating": Noise(start=0.03, run=0.03, speculates=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=400, help="bisections a row")
    parser.add_argument("--builds", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--slower-by", type=float, help="as bisect's flag")
    options = parser.parse_args()
    rng, times = np.random.default_rng(7), range(options.times)
    print("builds slower  noise                        wrong  undecided suspects  comparisons  rounds: mean, 90 %")
    for builds in options.builds:
        for slower in (0.0, 0.05, 0.1, 0.2, 0.45):
            for name, noise in NOISES.items():
                found = [bisected(from_one_on(builds, slower, rng), noise, rng, share=options.slower_by) for _ in times]
                wrong, undecided, suspects, comparisons, rounds = np.mean([astuple(one) for one in found], axis=0)
                most = np.percentile([one.rounds for one in found], 90)
                print(
                    f"{builds:>6} {slower:>6.0%}  {name:<27} {wrong:>6.1%} {undecided:>10.1%} {suspects:>8.1f}"
                    f" {comparisons:>12.1f} {rounds:>13.0f} {most:>5.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
