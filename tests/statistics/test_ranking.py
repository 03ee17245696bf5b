from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.reporting import sweeps
from velosweep.records import SearchCandidate, SearchRecord
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import Leader, best_estimate, category_speedups, fastest, leaders, leading
from velosweep.values import Verdict

_CANDIDATE = [field.name for field in fields(SearchCandidate)]


def measured(value: float, low: float, high: float, verdict: Verdict = Verdict.FASTER) -> Comparison:
    row = replace(sweeps.default_sweep().jobs[0], chosen_low=None)
    return replace(row, speedup_gm=value, ci_low=low, ci_high=high, verdict=verdict)


def with_speed(mode, speed):
    return replace(mode, tokens_per_second=replace(mode.tokens_per_second, mean=speed))


def searched(made, job_id, *, jobs=None, speedup=None, low=None, high=None):
    """The leaders of a sweep whose jobs were the candidates of a search that chose this one."""
    search = SearchRecord(
        category=None, job_id=job_id, certified=True, sure="", speedup=speedup, low=low, high=high, pairs=7,
        headline="", ties=(), notes=(),
        candidates=tuple(SearchCandidate(**{**dict.fromkeys(_CANDIDATE), "job_id": job.job_id}) for job in made.jobs),
    )  # fmt: skip
    return leaders(jobs or made.jobs, replace(made.record, searches=(search,)))


def test_a_sure_gain_is_preferred_to_a_larger_unsure_one() -> None:
    unsure = measured(1.6, 0.9, 2.8, Verdict.NO_RELIABLE_GAIN)
    sure = measured(1.4, 1.3, 1.5)

    assert fastest([unsure, sure]) is sure


def test_what_is_chosen_has_the_limit_and_the_verdict_that_hold_for_the_best_of_several() -> None:
    sure, unsure = (
        replace(measured(value, value - 0.1, value + 0.1), chosen_low=low) for value, low in ((1.3, 1.15), (1.4, 1.0))
    )

    assert fastest([unsure]) == replace(unsure, ci_low=1.0, verdict=Verdict.NO_RELIABLE_GAIN)
    assert fastest([unsure, sure]) == replace(sure, ci_low=1.15)


def test_a_slower_job_stays_slower_when_it_is_chosen() -> None:
    slower = replace(measured(0.9, 0.85, 0.95, Verdict.SLOWER), chosen_low=0.8)

    assert fastest([slower]) == replace(slower, ci_low=0.8)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.01, 1.2, Verdict.FASTER),
        (1.0, 1.2, Verdict.NO_RELIABLE_GAIN),
        (0.9, 1.0, Verdict.NO_RELIABLE_GAIN),
        (0.9, 0.99, Verdict.SLOWER),
        (None, None, Verdict.NO_RELIABLE_GAIN),
    ],
)
def test_the_winner_of_a_search_has_the_verdict_of_its_confirming_pairs(low, high, verdict) -> None:
    made = sweeps.default_sweep()

    (leader,) = searched(made, made.jobs[1].job_id, speedup=1.1, low=low, high=high)

    job = leader.job
    assert (job.job_id, job.speedup_gm, job.n_pairs) == (made.jobs[1].job_id, 1.1, 7)
    assert (job.ci_low, job.ci_high, job.verdict) == (low, high, verdict)
    assert leader.speculates is (verdict is Verdict.FASTER)


def test_where_a_search_chose_no_speculation_nothing_speculates() -> None:
    (leader,) = searched(sweeps.default_sweep(), None)

    assert (leader.job.verdict, leader.speculates) == (Verdict.FASTER, False)
    assert leader.mode is leader.job.vanilla


def test_a_search_that_confirmed_nothing_leaves_its_jobs_as_they_are() -> None:
    made = sweeps.default_sweep()
    first, second, *others = made.jobs
    invalid = [first, replace(second, verdict=Verdict.INVALID), *others]

    assert [leader.job for leader in searched(made, second.job_id)] == [second]
    assert [leader.job for leader in searched(made, None, speedup=1.1)] == [fastest(made.jobs)]
    assert [leader.job for leader in searched(made, second.job_id, jobs=invalid, speedup=1.1)] == [invalid[1]]
    nothing = [replace(job, verdict=Verdict.INVALID) for job in made.jobs]
    assert searched(made, "gone", jobs=nothing, speedup=1.1) == []


def test_the_leader_of_the_faster_baseline_comes_first_by_what_surely_runs() -> None:
    made = sweeps.default_sweep()
    slow, fast = (replace(job, vanilla=with_speed(job.vanilla, 10.0 + i)) for i, job in enumerate(made.jobs[:2]))
    slow = replace(slow, verdict=Verdict.NO_RELIABLE_GAIN, speculative=with_speed(slow.speculative, 50.0))
    fast = replace(fast, verdict=Verdict.NO_RELIABLE_GAIN, speculative=with_speed(fast.speculative, 5.0))
    apart = replace(made.record, jobs=tuple(replace(job, baseline_id=job.id) for job in made.record.jobs))

    found = leaders([slow, fast], apart)

    assert [(leader.job.job_id, leader.speed) for leader in found] == [(fast.job_id, 11.0), (slow.job_id, 10.0)]
    assert Leader(job=replace(slow, vanilla=None), baseline_id="", search=None).speed == 0.0


@pytest.mark.parametrize(
    ("sure", "speeds", "told"),
    [  # of each baseline's best setting: whether it surely pays; tokens a second without and with it
        ((False, False), ((30.0, 38.0), (29.0, 45.0)), 1),  # the table's highest figure is "the best"
        ((False, False), ((30.0, 20.0), (15.0, 21.0)), 0),  # a large speedup of something slow is no answer
        ((True, False), ((30.0, 38.0), (29.0, 45.0)), 0),
        ((False, True), ((30.0, 31.0), (15.0, 21.0)), 0),
    ],
)
def test_where_nothing_surely_pays_the_setting_that_may_be_the_fastest_is_spoken_of(sure, speeds, told) -> None:
    made = sweeps.default_sweep()
    jobs = [
        replace(
            measured(fast / slow, 0.9, 1.9, Verdict.FASTER if is_sure else Verdict.NO_RELIABLE_GAIN),
            job_id=job.job_id,
            vanilla=with_speed(job.vanilla, slow),
            speculative=with_speed(job.speculative, fast),
        )
        for job, is_sure, (slow, fast) in zip(made.jobs, sure, speeds, strict=False)
    ]
    apart = tuple(replace(job, baseline_id=job.id) for job in made.record.jobs)

    leader = leading(jobs, replace(made.record, jobs=apart))

    assert leader is not None
    assert leader.job.job_id == jobs[told].job_id


def test_an_invalid_job_is_never_the_fastest() -> None:
    assert fastest([measured(1.6, 1.5, 1.7, Verdict.INVALID)]) is None


def test_what_drafted_nothing_neither_wins_nor_ties_nor_stands_for_a_category() -> None:
    idle = replace(measured(1.6, 1.5, 1.7), drafted=False)
    other = measured(1.05, 1.01, 1.09)

    assert fastest([idle, other]) is other
    assert fastest([idle]) is None
    assert category_speedups([replace(idle, prompt_id="p", prompt_category="code")]) == {}


def test_the_speedup_of_a_category_is_the_geometric_mean_of_its_prompts() -> None:
    row = measured(1.0, 0.9, 1.1)
    prompts = [
        replace(row, prompt_id=str(value), prompt_category=category, speedup_gm=value)
        for value, category in ((1.0, "code"), (4.0, "code"), (3.0, "prose"))
    ]

    assert category_speedups([row, *prompts]) == {
        "code": {row.job_id: pytest.approx(2.0)},
        "prose": {row.job_id: pytest.approx(3.0)},
    }


def test_without_a_geometric_mean_the_ratio_of_means_ranks() -> None:
    plain = replace(measured(1.5, 1.4, 1.6), speedup_gm=None, speedup=1.7)

    assert best_estimate(plain) == 1.7
    assert best_estimate(measured(1.5, 1.4, 1.6)) == 1.5
    assert fastest([plain, measured(1.6, 1.5, 1.7)]) is plain


def test_without_any_estimate_there_is_no_fastest() -> None:
    assert fastest([replace(measured(1.5, 1.4, 1.6), speedup_gm=None, speedup=None)]) is None


def test_where_none_is_surely_faster_the_highest_is_the_fastest() -> None:
    low, high = (measured(value, 0.9, 2.8, Verdict.NO_RELIABLE_GAIN) for value in (1.1, 1.2))

    assert fastest([low, high]) is high


def test_a_prompt_without_category_or_figure_counts_in_none() -> None:
    row = replace(measured(2.0, 1.9, 2.1), prompt_id="p", prompt_category="code")
    others = [replace(row, prompt_category=None), replace(row, speedup_gm=None, speedup=None)]

    assert category_speedups([row, *others]) == {"code": {row.job_id: pytest.approx(2.0)}}
