from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from velosweep.reporting.textplot import PlotRow, interval_plot


def test_the_plot_shows_points_intervals_and_the_line_of_no_gain() -> None:
    points = [
        PlotRow(label="4", value=0.9, low=0.8, high=1.0, note=" slower"),
        PlotRow(label="8", value=1.5, low=1.3, high=1.8),
        PlotRow(label="12", value=1.2),
    ]

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
    points = [PlotRow(label=label, value=sorted(three)[1], low=min(three), high=max(three)) for label, *three in rows]

    lines = interval_plot(points, width=width)

    assert len(lines) == len(points) + 1
    assert all(len(line) <= width + 8 for line in lines)
    assert all(line.count("●") >= 1 for line in lines[:-1])


def test_no_points_no_plot() -> None:
    assert interval_plot([], width=80) == []
