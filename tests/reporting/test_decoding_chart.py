"""The stacked bar of where a token's time goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.reporting.detail_charts import decoding_chart


def test_the_parts_of_a_job_add_up_to_its_time_a_token_beside_vanillas() -> None:
    jobs = sweeps.default_sweep().jobs
    chart = decoding_chart(jobs)

    assert chart is not None
    vanilla, *parts = chart.data
    assert vanilla["x"] == [pytest.approx(1000 / jobs[0].vanilla.tokens_per_second.mean, rel=1e-4)]
    for place, job in enumerate(jobs):
        total = sum(part["x"][place] for part in parts)
        assert total == pytest.approx(1000 / job.speculative.tokens_per_second.mean, rel=1e-3)
        share = parts[1]["x"][place] / total
        assert (parts[1]["name"], share) == ("drafting", pytest.approx(job.decoding.draft_share, rel=1e-3))
        if place == 0:  # in words one is enough: the bars show the others
            assert f"n_draft {job.n_draft}: {100 * share:.0f} % drafting" in chart.summary


def test_without_known_costs_there_is_no_chart() -> None:
    assert decoding_chart([replace(job, decoding=None) for job in sweeps.default_sweep().jobs]) is None


def test_of_many_jobs_the_advised_ones_are_shown() -> None:
    jobs = sweeps.large_sweep().jobs
    last = jobs[-1]
    chart = decoding_chart(jobs, {last.job_id})

    assert chart is not None
    assert len(chart.data[1]["y"]) == 12
    assert chart.data[1]["y"][-1].endswith(f"n_draft {last.n_draft}")
