"""What the charts of speedups draw, and what they leave to the table."""

import re
from dataclasses import replace
from importlib import resources

from tests.reporting import sweeps
from velosweep.reporting.detail_charts import metric_charts
from velosweep.reporting.speedup_charts import heat_map, main_chart


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


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of `#rrggbb`."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_figures_of_a_heat_map_can_be_read_on_all_its_colours() -> None:
    style = resources.files("velosweep.reporting").joinpath("templates/report.css").read_text(encoding="utf-8")
    schemes = re.findall(r"--text: (#\w{6});.*?--low: (#\w{6}); --mid: (#\w{6}); --high: (#\w{6})", style, re.DOTALL)
    chart = heat_map(sweeps.large_sweep().jobs)

    assert chart is not None
    assert chart.data[0]["textfont"] == {"color": "--text"}
    assert len(schemes) == 2
    for text, *cells in schemes:
        for cell in cells:
            light, dark = sorted((_luminance(text), _luminance(cell)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) > 4.5, (text, cell)
