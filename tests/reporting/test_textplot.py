from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.reporting import sweeps
from velosweep.reporting.textplot import interval_plot
from velosweep.statistics.comparison import Comparison


def job(value: float, low: float | None = None, high: float | None = None) -> Comparison:
    return replace(sweeps.single_job().jobs[0], speedup_gm=value, ci_low=low, ci_high=high)


def test_the_plot_shows_points_intervals_and_the_line_of_no_gain() -> None:
    points = [("4", job(0.9, 0.8, 1.0), " slower"), ("8", job(1.5, 1.3, 1.8), ""), ("12", job(1.2), "")]

    lines = interval_plot(points, width=60)

    assert lines == [
        " 4  ├───●───┤                                   0.90× slower",
        " 8          ┊           ├────────●───────────┤  1.50×",
        "12          ┊       ●                           1.20×",
        "    0.80× 1.00×                            1.80×",
    ]


values = st.floats(min_value=0.01, max_value=50, allow_nan=False)


@given(st.lists(st.tuples(st.text(max_size=5), values, values, values), min_size=1, max_size=8), st.integers(40, 120))
def test_any_plot_has_a_row_a_point_and_fits(rows: list[tuple[str, float, float, float]], width: int) -> None:
    points = [(label, job(sorted(three)[1], min(three), max(three)), "") for label, *three in rows]

    lines = interval_plot(points, width=width)

    assert len(lines) == len(points) + 1
    assert all(len(line) <= width + 8 for line in lines)
    assert all(line.count("●") >= 1 for line in lines[:-1])


def test_no_points_no_plot() -> None:
    assert interval_plot([], width=80) == []
