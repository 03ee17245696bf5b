"""Builds of llama.cpp that lost speed, bisected on made-up samples: for tests and bench_bisect.

A sample's log speed is its build's, what both builds of a round share (a random walk, a drift of 10 %), what this start
of this build has of its own, and the run's own noise. The second run of a round is 1 % slower: the order alternates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from velosweep.statistics.bisection import LOOKS, Bisection, BuildVerdict
from velosweep.statistics.builds import RunSeries, SharedRounds
from velosweep.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviations, as shares of speed: of starts of one build, and of runs.

    `slowed`: share of runs that a neighbour slows, by three times as much on average. `speculates`: each build has a
    setting that speculates, too, and these are compared.
    """

    start: float
    run: float
    slowed: float = 0.0
    speculates: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Of one bisection. `wrong`: a build is called slower, or not slower, that isn't; `undecided`: several may be the
    first; `rounds` of two builds in all."""

    wrong: bool
    undecided: bool
    suspects: int
    comparisons: int
    rounds: int


def from_one_on(builds: int, slower: float, rng: np.random.Generator) -> list[float]:
    """What each build lost: one at random and all later ones this share (0: none did)."""
    first = int(rng.integers(1, builds))
    return [slower if number >= first else 0.0 for number in range(builds)]


def bisected(lost: Sequence[float], noise: Noise, rng: np.random.Generator, *, share: float | None = None) -> Answer:
    """A bisection of builds that lost such shares of the first one's speed."""
    names = [str(number) for number in range(len(lost))]
    taken: dict[str, int] = {}
    series: dict[str, Any] = {}

    def compare(build: str, rounds: int) -> Interval | None:
        taken[build] = rounds
        if build not in series:
            series[build] = logs(math.log(1 - lost[int(build)]), noise, rng)
        return ratio_of(series[build][:, :rounds])

    bisection = Bisection(builds=names, compare=compare, share=share)
    suspects = bisection.suspects()
    true = {
        name: BuildVerdict.SLOWER if loss > bisection.slower_by else BuildVerdict.NOT_SLOWER
        for name, loss in zip(names, lost, strict=True)
    }
    said = {build: look.verdict for build, look in bisection.looks.items()}
    return Answer(
        wrong=any(verdict not in (true[build], BuildVerdict.UNCLEAR) for build, verdict in said.items()),
        undecided=len(suspects) > 1,
        suspects=len(suspects),
        comparisons=len(taken),
        rounds=sum(taken.values()),
    )


def logs(slower: float, noise: Noise, rng: np.random.Generator) -> Any:
    """Log tokens a second of the first build and another: series x rounds."""
    rounds, settings = LOOKS[-1], 2 if noise.speculates else 1
    shared = np.cumsum(rng.normal(0, 0.02, rounds)) + np.linspace(0, -0.1, rounds)
    runs = rng.normal(0, noise.run, (2 * settings, rounds))
    runs -= np.where(rng.random(runs.shape) < noise.slowed, rng.exponential(3 * noise.run, runs.shape), 0)
    starts = rng.normal(0, noise.start, runs.shape)  # each setting has a server of its own
    second = np.arange(rounds) % 2 == np.arange(2).repeat(settings)[:, None]
    return 3 + shared + starts + runs - 0.01 * second + slower * np.arange(2).repeat(settings)[:, None]


def ratio_of(values: Any) -> Interval | None:
    """The second build's ratio to the first, where each round has a start of its own."""
    arms = len(values)
    series = [
        RunSeries(
            logs={(launch, launch + 1): {"p": log} for launch, log in enumerate(row)},
            order={(launch, launch + 1): [arms * launch + place] for launch in range(len(row))},
            places={("here", "CPU")},
        )
        for place, row in enumerate(values.tolist())
    ]
    return SharedRounds({str(place): one for place, one in enumerate(series)}).ratio(str(arms - 1), str(arms // 2 - 1))
