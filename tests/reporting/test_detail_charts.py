"""What the figures show, as data."""

from __future__ import annotations

from dataclasses import replace

from tests.reporting import sweeps
from velosweep.reporting.chart import series_style
from velosweep.reporting.detail_charts import acceptance_chart, metric_charts
from velosweep.reporting.wording import whole_jobs


def test_no_two_of_the_first_49_series_look_alike() -> None:
    assert len({series_style(index)[:2] for index in range(49)}) == 49


def test_the_advised_setting_is_shown_in_the_acceptance_figure_beside_the_longest() -> None:
    jobs = whole_jobs(sweeps.make([sweeps.SYNTHETIC], n_drafts=(1, 2, 3, 4, 6, 8), prompts=1, iterations=3).comparisons)
    winner = next(job for job in jobs if job.n_draft == 3)

    chart = acceptance_chart(jobs, {winner.job_id})

    assert chart is not None
    assert [trace["name"] for trace in chart.data if trace["visible"] is True] == ["n_draft 3", "n_draft 8"]
    assert chart.summary.startswith("n_draft 3:")


def test_results_of_earlier_versions_show_no_position_that_can_not_be_drafted() -> None:
    jobs = sweeps.default_sweep().jobs
    assert jobs[0].acceptance is not None
    padded = replace(jobs[0].acceptance, per_position=(0.9, 0.8, 0.7, 0.6, 0.0, 0.0))

    chart = acceptance_chart([replace(jobs[0], acceptance=padded)])

    assert chart is not None
    assert chart.data[0]["x"] == [1, 2, 3, 4]


def test_vanilla_that_settings_share_is_drawn_once_in_each_metric() -> None:
    made = sweeps.default_sweep()
    two = [replace(job, job_id=f"{draft}{job.job_id}", draft_model=f"/m/{draft}.gguf")
           for draft in ("q4", "q8") for job in made.jobs]  # fmt: skip

    names = [[trace["name"] for trace in chart.data] for chart in metric_charts(two)]

    assert names == [["vanilla", "q4 draft", "q8 draft"]] * 3
