"""What the charts of speedups draw, and what they leave to the table."""

from dataclasses import replace

from tests.reporting import sweeps
from velosweep.reporting.detail_charts import metric_charts
from velosweep.reporting.speedup_charts import main_chart


def test_of_many_series_the_eight_best_are_drawn_and_the_rest_counted() -> None:
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=(4, 8), prompts=1, iterations=3)
    jobs = [
        replace(job, job_id=f"{job.job_id}-{step}", settings={"speculation.p_min": step / 100},
                speedup_gm=1 + step / 10)
        for step in range(12) for job in made.jobs
    ]  # fmt: skip

    chart = main_chart(jobs, jobs, 1.5)

    assert chart is not None
    assert [trace["name"] for trace in chart.data] == [f"p_min 0.{step:02d}".rstrip("0") for step in range(4, 12)]
    assert chart.summary.endswith(" 4 further lines, none higher: see the results.")
    assert all(len(chart.data) == 9 for chart in metric_charts(jobs))  # vanilla, too


def test_what_drafted_nothing_has_no_place_in_the_chart() -> None:
    made = sweeps.default_sweep()
    idle = [replace(job, drafted=False, speedup_gm=9.0) if job.n_draft == 12 else job for job in made.jobs]

    chart = main_chart(idle, idle, 1.5)

    assert chart is not None
    assert "9.00×" not in chart.summary
    assert [trace["x"] for trace in chart.data] == [[4, 8]]
