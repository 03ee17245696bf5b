"""What the figures over time show, as data."""

from __future__ import annotations

import statistics

import pytest

from tests.reporting import sweeps
from velosweep.reporting.chart import Chart
from velosweep.reporting.run_charts import MOST_POINTS, conditions_chart, samples_chart, timeline
from velosweep.reporting.wording import names_of


def runs_of(made: sweeps.MadeUp) -> Chart:
    line = timeline(made.samples, names_of(made.jobs).labels)
    assert line is not None
    chart = samples_chart(line)
    assert chart is not None
    return chart


def test_each_run_stands_at_its_distance_from_the_median_of_its_setting() -> None:
    made = sweeps.default_sweep()
    rates = [run.tokens_per_second for run in made.runs if run.n_draft == 8 and not run.warmup]
    median = statistics.median(rate for rate in rates if rate is not None)

    (trace,) = [trace for trace in runs_of(made).data if trace["name"] == "n_draft 8"]

    assert trace["y"] == [pytest.approx(100 * (rate / median - 1), abs=0.006) for rate in rates if rate is not None]


def test_failed_runs_and_warm_ups_are_set_apart() -> None:
    made = sweeps.with_failures()

    found = {trace["name"]: len(trace["x"]) for trace in runs_of(made).data}

    assert found["failed, timed out or invalid"] == 12
    assert found["warm-up (not counted)"] == 4
    assert found["n_draft 8"] == 9


def test_of_many_runs_an_even_part_and_the_farthest_are_drawn() -> None:
    made = sweeps.ten_thousand_samples()

    chart = runs_of(made)
    drawn = [y for trace in chart.data if trace.get("visible") is None for y in trace["y"]]

    assert 0.5 * MOST_POINTS < len(drawn) <= MOST_POINTS
    assert f"{max(drawn, key=abs):+.1f} %" in chart.summary


def test_conditions_are_those_that_could_be_read() -> None:
    titles = []
    for made in (sweeps.default_sweep(), sweeps.with_failures()):
        line = timeline(made.samples, names_of(made.jobs).labels)
        assert line is not None
        chart = conditions_chart(line)
        assert chart is not None
        titles.append([trace["name"] for trace in chart.data])

    assert titles == [["load"], ["GPU °C", "GPU MHz", "GPU W", "load"]]
