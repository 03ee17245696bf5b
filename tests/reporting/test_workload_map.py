"""From where to where it pays: the sentence, the table and the map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.records import SearchRecord
from velosweep.reporting.recommendation import Recommendation
from velosweep.reporting.workload_map import as_answered, where_it_pays, workload_chart, workload_table
from velosweep.statistics.comparison import Comparison
from velosweep.values import Verdict

PAYS, LOSES, UNSURE = (1.7, 1.6, 1.8), (0.9, 0.85, 0.95), (1.05, 0.9, 1.2)
Figures = tuple[float, float, float]


def measured(loads: Mapping[tuple[int, int], Figures]) -> list[Comparison]:
    """A job for each (streams, depth) with this speedup and interval."""
    one = sweeps.default_sweep().jobs[0]
    jobs = []
    for number, ((streams, depth), (value, low, high)) in enumerate(loads.items()):
        verdict = Verdict.FASTER if low > 1 else Verdict.SLOWER if high < 1 else Verdict.NO_RELIABLE_GAIN
        figures = {"speedup": value, "speedup_gm": value, "ci_low": low, "ci_high": high, "chosen_low": None}
        load = {"concurrency": streams, "depth": depth}
        settings = {**one.settings, **load}
        jobs.append(replace(one, job_id=f"j{number}", verdict=verdict, settings=settings, **load, **figures))
    return jobs


LOST, OPEN = "it is 0.90× [0.85, 0.95]", "it is 1.05× [0.90, 1.20], not sure"


@pytest.mark.parametrize(
    ("speedups", "sentence"),
    [
        ([PAYS, PAYS, PAYS, LOSES], f"Pays up to 4 streams; at 8 streams {LOST}."),
        ([PAYS, LOSES, LOSES, LOSES], f"Pays at 1 stream only; at 2 streams {LOST}; at 4 streams {LOST}; and 1 more."),
        ([PAYS, PAYS, PAYS, PAYS], "Pays at all measured, 1 stream to 8 streams."),
        ([PAYS, PAYS, PAYS, UNSURE], f"Pays up to 4 streams; at 8 streams {OPEN}."),
        ([PAYS, LOSES, PAYS, PAYS], f"Pays at 1 stream, 4 streams and 8 streams; at 2 streams {LOST}."),
        ([LOSES, UNSURE], f"Pays nowhere for sure: at 1 stream {LOST}; at 2 streams {OPEN}."),
    ],
)
def test_the_sentence_says_up_to_how_many_streams_it_pays(speedups: list[Figures], sentence: str) -> None:
    loads = {(streams, 0): figures for streams, figures in zip((1, 2, 4, 8), speedups, strict=False)}

    assert where_it_pays(measured(loads)) == [(sentence, "nowhere" not in sentence)]


def test_over_depth_alone_the_sentence_names_depths() -> None:
    jobs = measured({(1, 0): PAYS, (1, 4096): PAYS, (1, 16384): LOSES})

    assert where_it_pays(jobs) == [("Pays up to depth 4,096; at depth 16,384 it is 0.90× [0.85, 0.95].", True)]


def test_over_both_there_is_a_sentence_for_each_depth() -> None:
    jobs = measured({(1, 0): PAYS, (8, 0): PAYS, (1, 16384): PAYS, (8, 16384): LOSES})

    (answer,) = where_it_pays(jobs)
    assert answer.text == (
        "At depth 0 it pays at all measured, 1 stream to 8 streams. "
        "At depth 16,384 it pays at 1 stream only; at 8 streams it is 0.90× [0.85, 0.95]."
    )


def test_one_load_needs_no_sentence() -> None:
    assert where_it_pays(sweeps.default_sweep().jobs) == []
    assert workload_chart(sweeps.default_sweep().jobs) is None


def test_each_loads_best_setting_counts_for_it() -> None:
    poor, good = measured({(1, 0): LOSES}), measured({(1, 0): PAYS, (2, 0): PAYS})
    jobs = [replace(poor[0], job_id="poor"), *good]

    assert where_it_pays(jobs) == [("Pays at all measured, 1 stream to 2 streams.", True)]


def test_of_a_search_its_winners_count_by_their_confirming_pairs() -> None:
    made = sweeps.default_sweep()
    raw = measured({(1, 0): PAYS, (2, 0): PAYS})
    confirmed = [replace(job, speedup_gm=1.3, ci_low=1.2, ci_high=1.4) for job in raw]
    answers = [Recommendation(question="", kind="run", headline="", job=job) for job in confirmed]
    search = SearchRecord(
        category=None, job_id="j0", certified=True, sure="", speedup=1.3, low=1.2, high=1.4, pairs=6, headline="",
        ties=(), notes=(), candidates=(),
    )  # fmt: skip
    others = measured({(1, 0): (9.0, 8.0, 10.0)})

    told = as_answered([*raw, replace(others[0], job_id="raced")], answers, replace(made.record, searches=(search,)))

    assert told == confirmed


def test_the_answers_setting_counts_where_another_has_a_larger_speedup_of_something_slower() -> None:
    made = sweeps.default_sweep()
    loads = measured({(1, 0): PAYS, (2, 0): PAYS, (4, 0): LOSES})
    slower = replace(loads[0], job_id="slower", speedup_gm=3.0)
    answers = [Recommendation(question="", kind="run", headline="", job=job) for job in loads[:2]]

    told = as_answered([*loads, slower], answers, made.record)
    chart = workload_chart([*measured({(1, 0): PAYS, (2, 0): PAYS, (1, 9): PAYS, (2, 9): PAYS}), slower], {"j0"})

    assert told == loads
    assert chart is not None
    assert [[round(2**log, 3) for log in row] for row in chart.data[0]["z"]] == [[1.7, 1.7], [1.7, 1.7]]


def test_the_map_has_a_line_at_1_and_hatches_what_is_not_sure() -> None:
    chart = workload_chart(measured({(1, 0): PAYS, (8, 0): LOSES, (1, 4096): UNSURE, (8, 4096): LOSES}))

    assert chart is not None
    (heat,) = chart.data
    assert [[round(2**log, 3) for log in row] for row in heat["z"]] == [[1.7, 0.9], [1.05, 0.9]]
    assert heat["colorbar"]["ticktext"] == ["0.59", "1.00", "1.70"]  # as far below 1 as above it
    assert heat["zmax"] == -heat["zmin"] == heat["colorbar"]["tickvals"][2]
    edges = [shape for shape in chart.layout["shapes"] if shape["line"]["width"] == 3]
    strokes = [shape for shape in chart.layout["shapes"] if shape["line"]["width"] == 1]
    assert [(edge["x0"], edge["x1"], edge["y0"], edge["y1"]) for edge in edges] == [
        (0.5, 0.5, -0.5, 0.5),
        (0.5, 0.5, 0.5, 1.5),
    ]
    assert strokes
    assert all(-0.5 <= stroke[x] <= 0.5 for stroke in strokes for x in ("x0", "x1"))
    assert all(0.5 <= stroke[y] <= 1.5 for stroke in strokes for y in ("y0", "y1"))


def test_the_table_has_depths_by_streams_or_a_row_a_load() -> None:
    loads = measured({(1, 0): PAYS, (8, 0): LOSES, (1, 4096): UNSURE, (8, 4096): LOSES})
    both = workload_table(loads, loads)
    streams = workload_table(loads[:2], loads[:2])

    assert [column.title for column in both.columns] == ["depth", "1 stream", "8 streams"]
    assert [cell.text for cell in both.rows[0]] == ["0", "1.70×▲", "0.90×▼"]
    assert [cell.text for cell in both.rows[1]] == ["4,096", "1.05×≈", "0.90×▼"]
    assert [cell.text for cell in streams.columns[0].cells] == ["1", "8"]


def test_where_several_settings_compete_each_load_names_its_best() -> None:
    loads = measured({(1, 0): PAYS, (8, 0): LOSES, (1, 4096): UNSURE, (8, 4096): LOSES})
    others = [replace(job, job_id=f"{job.job_id}-8", n_draft=8, speedup_gm=0.5) for job in loads]
    both = workload_table(loads, [*loads, *others])
    streams = workload_table(loads[:2], [*loads[:2], *others[:2]])

    assert [cell.text for cell in both.rows[0]] == ["0", "1.70×▲ n_draft 4", "0.90×▼ n_draft 4"]
    assert [cell.text for cell in streams.columns[1].cells] == ["n_draft 4", "n_draft 4"]
