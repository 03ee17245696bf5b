"""Lanes are kept busy over jobs of very different lengths, in virtual time (see tests/benchmarks/bench_lanes.py)."""

from __future__ import annotations

import pytest

from tests.benchmarks.bench_lanes import simulate, skewed


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_lanes_are_at_least_97_percent_of_ideal_over_a_skewed_set(seed: int) -> None:
    assert simulate(skewed(500, 16, seed), 16) >= 0.97
