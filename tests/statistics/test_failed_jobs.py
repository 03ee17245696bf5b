"""A job of which nothing could be measured has a row, and no figure of another job's."""

from __future__ import annotations

from dataclasses import fields, replace

from tests.reporting import sweeps
from velosweep.results.results_file import results_to_table
from velosweep.statistics.failed_jobs import failed_jobs
from velosweep.values import Verdict


def test_a_failed_job_is_a_row_with_its_own_settings_and_no_figure_but_vanillas() -> None:
    made = sweeps.default_sweep()
    lost = made.record.jobs[1]
    record = replace(made.record, jobs=tuple(replace(j, state="failed") if j is lost else j for j in made.record.jobs))
    rows = [replace(row, may_be_best=True, memory_bytes_speculative=7) for row in made.comparisons]
    rows = [row for row in rows if row.job_id not in (lost.id, made.record.jobs[2].id)]  # this one was not measured yet

    (row,) = failed_jobs(rows, record)

    assert (row.job_id, row.job_num, row.n_draft, row.verdict) == (lost.id, lost.num, lost.n_draft, Verdict.INVALID)
    assert (row.n_pairs, row.findings) == (0, ())
    assert row.vanilla == next(other.vanilla for other in rows if other.prompt_id is None)
    own = {"speculative", "may_be_best", "memory_bytes_speculative", "request", "decoding", "speedup_gm", "acceptance"}
    assert {field.name: getattr(row, field.name) for field in fields(row) if field.name in own} == dict.fromkeys(own)


def test_a_failed_job_has_the_vanilla_figures_of_all_prompts() -> None:
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=(4, 8), prompts=2, iterations=3, synthetic=True)
    lost, other = made.record.jobs[1], made.jobs[0]
    record = replace(made.record, jobs=(made.record.jobs[0], replace(lost, state="failed")))

    (row,) = failed_jobs([one for one in made.comparisons if one.job_id != lost.id], record)

    assert row.vanilla == other.vanilla


def test_results_say_how_each_job_ended() -> None:
    made = sweeps.default_sweep()
    first, *_ = made.record.jobs
    table = results_to_table(made.comparisons, sweep_id="s", states={first.id: "partial"})

    states = dict(zip(table["job_id"].to_pylist(), table["state"].to_pylist(), strict=True))
    assert states[first.id] == "partial"
    assert set(states.values()) == {"partial", None}


def test_where_nothing_was_measured_there_is_no_row_to_take_the_machine_from() -> None:
    made = sweeps.default_sweep()

    assert failed_jobs([], made.record) == []
