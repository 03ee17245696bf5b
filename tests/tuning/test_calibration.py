"""The model that predicts every draft length from a few: exact where its assumptions hold, silent where they don't."""

from __future__ import annotations

import pytest

from tests.tuning.simulated_engine import SimulatedEngine
from velosweep.tuning.calibration import boundary_length, calibration_lengths, pool, predict
from velosweep.tuning.search_values import DraftRounds


def calibrated(engine: SimulatedEngine, *lengths: int) -> dict[int, DraftRounds]:
    """Noiseless runs of these lengths."""
    count = 10**9
    return {
        n: DraftRounds(
            count=count,
            total_ms=count * engine.round_ms(n),
            accepted_per_position=tuple(round(count * share) for share in engine.survival(n)),
        )
        for n in lengths
    }


def test_a_linear_truth_is_predicted_exactly() -> None:
    engine = SimulatedEngine(cliff=0.0)

    predicted = predict(range(1, 17), calibrated(engine, 1, 4, 16))

    assert predicted == pytest.approx({n: engine.speed(n) for n in range(1, 17)})


def test_a_kernel_boundary_is_noticed_and_located_by_one_more_run() -> None:
    engine = SimulatedEngine(cliff=0.8)

    assert boundary_length(range(1, 17), calibrated(engine, 1, 4, 16)) == 7
    predicted = predict(range(1, 17), calibrated(engine, 1, 4, 7, 16))

    assert predicted == pytest.approx({n: engine.speed(n) for n in range(1, 17)})
    assert boundary_length(range(1, 17), calibrated(engine, 1, 4, 7, 16)) is None


@pytest.mark.parametrize(("share", "length"), [(1.07, None), (1.09, 7)])
def test_a_boundary_shows_where_the_longest_costs_8_per_cent_more_than_the_line(
    share: float, length: int | None
) -> None:
    ms = {1: 10.0, 4: 13.0, 16: 25.0 * share}
    runs = {n: DraftRounds(count=1, total_ms=value, accepted_per_position=(1,) * n) for n, value in ms.items()}

    assert boundary_length(range(1, 17), runs) == length


def test_beyond_the_longest_run_survival_stays_and_a_round_costs_on_the_same_line() -> None:
    runs = {
        2: DraftRounds(count=10, total_ms=100.0, accepted_per_position=(8, 5)),
        4: DraftRounds(count=10, total_ms=120.0, accepted_per_position=(8, 5, 4, 2)),
    }

    predicted = predict([6], runs)

    assert predicted == pytest.approx({6: 1000 * (1 + 0.8 + 0.5 + 0.4 + 0.2 + 0.2 + 0.2) / 14.0})


def test_a_round_costs_no_less_than_half_of_what_was_measured() -> None:
    runs = {
        2: DraftRounds(count=1, total_ms=20.0, accepted_per_position=(1, 1)),
        4: DraftRounds(count=1, total_ms=10.0, accepted_per_position=(1, 1, 1, 1)),
    }

    assert predict([8], runs) == pytest.approx({8: 1000 * 9 / 5.0})


def test_without_counts_by_position_nothing_is_predicted() -> None:
    assert predict([1, 2], {2: DraftRounds(count=10, total_ms=50.0, accepted_per_position=None)}) is None


def test_runs_of_one_length_are_pooled_position_by_position() -> None:
    one = DraftRounds(count=10, total_ms=100.0, accepted_per_position=(8, 6))
    other = DraftRounds(count=5, total_ms=80.0, accepted_per_position=(4, 2, 1))
    unknown = DraftRounds(count=5, total_ms=20.0, accepted_per_position=None)

    assert pool([one, other]) == DraftRounds(count=15, total_ms=180.0, accepted_per_position=(12, 8, 1))
    assert pool([one, unknown]) == DraftRounds(count=15, total_ms=120.0, accepted_per_position=None)
    assert pool([]) is None


@pytest.mark.parametrize(
    ("available", "lengths"),
    [(range(1, 17), (1, 4, 16)), ((2, 3, 5, 9), (2, 3, 9)), ((1, 4, 8), ()), ((20, 24, 32, 48), (20,))],
)
def test_the_lengths_nearest_to_1_4_and_16_are_calibrated_where_that_pays(
    available: range, lengths: tuple[int, ...]
) -> None:
    assert calibration_lengths(available) == lengths
