from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.records import SearchCandidate, SearchRecord
from velosweep.reporting.printed_command import default_arguments
from velosweep.reporting.recommendation import recommend
from velosweep.reporting.result_tables import summary_table
from velosweep.reporting.sweep_answers import sweep_answers
from velosweep.reporting.table import terminal_lines
from velosweep.reporting.wording import speedup_words
from velosweep.statistics.comparison import Comparison, Finding
from velosweep.statistics.ranking import fastest
from velosweep.values import Verdict


def _with(
    row: Comparison, value: float, low: float | None, high: float | None, verdict: Verdict = Verdict.FASTER
) -> Comparison:
    return replace(row, speedup_gm=value, speedup=value, ci_low=low, ci_high=high, verdict=verdict)


@pytest.fixture
def three() -> list[Comparison]:
    return sweeps.default_sweep().jobs


def test_a_setting_without_a_draft_model_is_called_by_its_kind() -> None:
    made = sweeps.default_sweep()
    rows = [replace(row, draft_model=None, speculation="draft-mtp") for row in made.comparisons]

    (answer,) = recommend(rows, made.record)

    assert answer.headline.startswith("Run draft-mtp, n_draft 4:")


def test_the_answer_names_draft_n_draft_speedup_and_interval() -> None:
    made = sweeps.default_sweep()

    (answer,) = recommend(made.comparisons, made.record)

    assert answer.headline == "Run the synthetic draft, n_draft 4: 2.07× faster (44.2 → 91.4 tok/s)"
    assert answer.sureness == "95 % sure of 2.03 to 2.09×, by 5 pairs of runs."
    assert answer.kind == "run"
    assert answer.rests_on.endswith("settings, its lower limit for the best of 3 settings")
    assert "1 prompt, 5 pairs of runs" in answer.rests_on


def test_the_command_is_ready_to_paste() -> None:
    made = sweeps.default_sweep()

    (answer,) = recommend(made.comparisons, made.record)

    assert answer.command is not None
    words = shlex.split(answer.command)
    assert words[0] == "llama-server"
    assert words[words.index("-md") + 1] == sweeps.SYNTHETIC.draft
    assert words[words.index("--spec-type") + 1] == "draft-simple"
    assert words[words.index("--spec-draft-n-max") + 1] == "4"


def test_the_builds_own_arguments_are_used_where_they_were_recorded() -> None:
    made = sweeps.default_sweep()
    jobs = tuple(replace(job, server_arguments=("--model", "a b.gguf", "--draft-max", "4")) for job in made.record.jobs)

    (answer,) = recommend(made.comparisons, replace(made.record, jobs=jobs))

    assert answer.command == "llama-server --model 'a b.gguf' --draft-max 4"


def test_a_draftless_kind_has_no_draft_model_in_its_command(three: list[Comparison]) -> None:
    flags = default_arguments(replace(three[0], draft_model=None, speculation="ngram-mod"))

    assert "-md" not in flags
    assert flags[flags.index("--spec-type") + 1] == "ngram-mod"
    assert flags[flags.index("--spec-ngram-mod-n-max") + 1] == "4"


def test_an_invalid_job_is_never_advised(three: list[Comparison]) -> None:
    made = sweeps.default_sweep()
    rows = [replace(row, verdict=Verdict.INVALID) for row in three]

    (answer,) = recommend(rows, made.record)

    assert answer.job is None
    assert answer.command is None
    assert "all runs are invalid" in answer.headline


def test_no_reliable_gain_and_slower_are_said(three: list[Comparison]) -> None:
    record = sweeps.default_sweep().record
    unsure = [_with(row, 1.02, 0.97, 1.07, Verdict.NO_RELIABLE_GAIN) for row in three]
    slower = [_with(row, 0.62, 0.60, 0.63, Verdict.SLOWER) for row in three]

    assert recommend(unsure, record)[0].headline.startswith("No sure gain: the best, the synthetic draft")
    assert recommend(slower, record)[0].headline.startswith(
        "Don't speculate here: the best setting, the synthetic draft, n_draft 4, is 0.62×"
    )
    assert recommend(slower, record)[0].command is None


def test_runs_too_few_for_an_interval_are_named_beside_what_else_weakens_the_answer(three: list[Comparison]) -> None:
    record = sweeps.default_sweep().record
    busy = Finding(code="machine_busy", severity="warning", subject="machine", evidence={"busy_share": 0.9})
    rows = [replace(_with(row, 0.5, None, None, Verdict.NO_RELIABLE_GAIN), findings=(busy,)) for row in three]

    (answer,) = recommend(rows, record)

    assert answer.headline.startswith("Don't speculate here: no setting that was measured is faster. The best, ")
    assert answer.sureness == "Weak evidence: too few runs for an interval, busy machine."


def test_what_is_surely_slower_than_vanilla_is_not_said_to_be_as_good_as_a_sure_gain(three: list[Comparison]) -> None:
    first, second, third = three
    rows = [
        _with(first, 1.3, 1.2, 1.4, Verdict.FASTER),
        replace(_with(second, 0.9, 0.8, 0.95, Verdict.SLOWER), may_be_best=True),
        replace(_with(third, 1.2, 1.1, 1.4, Verdict.FASTER), may_be_best=True),
    ]

    (answer,) = recommend(rows, sweeps.default_sweep().record)

    assert f"n_draft {third.n_draft} (" in answer.ties[0]
    assert f"n_draft {second.n_draft} (" not in answer.ties[0]


def test_an_interval_that_says_nothing_is_shown_as_too_few_runs(three: list[Comparison]) -> None:
    made = sweeps.default_sweep()
    rows = [
        replace(
            _with(row, 1.3, 0.0, 5367561595088.71, Verdict.NO_RELIABLE_GAIN),
            to_best_low=1e-9,
            to_best_high=1e9,
            may_be_best=True,
        )
        for row in three
    ]

    answers = sweep_answers(rows, made.record)
    (answer,) = answers.recommendations

    table = "\n".join(terminal_lines(summary_table(answers), width=200))
    assert "1.30× (too few runs)" in table
    assert answer.sureness == "Weak evidence: too few runs for an interval."
    assert speedup_words(rows[0]) == "1.30× (too few runs)"
    assert "(too few runs to tell)" in answer.ties[0]
    assert "5367561595088" not in table + repr(replace(answer, job=None))


def test_findings_against_the_advised_job_come_with_the_answer(three: list[Comparison]) -> None:
    record = sweeps.default_sweep().record
    against = Finding(code="output_diverged", severity="error", subject="speculative")
    remark = Finding(code="not_applicable_sampled", severity="info", subject="output")
    rows = [replace(three[0], findings=(remark, against)), *three[1:]]

    (answer,) = recommend(rows, record)

    assert [advice.code for advice in answer.against] == ["output_diverged"]


def test_each_main_model_gets_its_own_answer() -> None:
    made = sweeps.large_sweep()

    found = recommend(made.comparisons, made.record)

    assert [answer.question for answer in found] == ["llama-3.1-8b-instruct", "codellama-13b"]


def test_streams_and_depths_do_not_compete_for_one_answer(three: list[Comparison]) -> None:
    made = sweeps.default_sweep()
    loads = [replace(row, concurrency=c, depth=d) for row, c, d in zip(three, (1, 4, 4), (0, 0, 4096), strict=True)]

    answers = recommend(loads, made.record)

    assert [answer.question for answer in answers] == [
        "concurrency 1, depth 0",
        "concurrency 4, depth 0",
        "concurrency 4, depth 4096",
    ]


def test_a_category_that_would_choose_otherwise_is_named(three: list[Comparison]) -> None:
    record = sweeps.default_sweep().record
    best, other = _with(three[0], 1.5, 1.4, 1.6), _with(three[1], 1.3, 1.2, 1.4)
    rows = [best, other]
    for job, code, prose in ((best, 1.9, 0.9), (other, 1.3, 1.3)):
        for category, value in (("code", code), ("prose", prose)):
            rows.append(replace(job, prompt_id=category, prompt_category=category, speedup_gm=value))

    (answer,) = recommend(rows, record)

    assert answer.by_category == ("prose: n_draft 8 is better here, 1.30× against 0.90×",)


def test_skipped_vanilla_gives_no_speedup_but_the_fastest_setting() -> None:
    made = sweeps.skip_vanilla()

    (answer,) = recommend(made.comparisons, made.record)

    assert answer.headline.startswith("No speedup known (vanilla was skipped). Fastest: the synthetic draft")


def test_nothing_measured_is_said() -> None:
    made = sweeps.default_sweep()
    rows = [replace(row, speculative=None, vanilla=None, speedup=None, speedup_gm=None) for row in made.comparisons]

    (answer,) = recommend(rows, made.record)

    assert answer.headline == "Nothing could be measured"
    assert recommend([], made.record) == ()


def test_vanilla_alone_is_not_called_nothing() -> None:
    made = sweeps.default_sweep()
    rows = [replace(row, speculative=None, speedup=None, speedup_gm=None) for row in made.comparisons]

    (answer,) = recommend(rows, made.record)

    assert answer.headline.startswith("No speculative run could be measured; without speculation: ")


def test_a_file_named_draft_is_not_called_draft_draft(three: list[Comparison]) -> None:
    record = sweeps.default_sweep().record
    record = replace(record, jobs=tuple(replace(job, synthetic=False) for job in record.jobs))

    (answer,) = recommend([replace(row, draft_model="/x/draft.gguf") for row in three], record)

    assert answer.headline.startswith("Run draft.gguf, n_draft")


def searched(winner: str | None, **changes: object) -> SearchRecord:
    """A search over the default sweep's jobs."""
    jobs = sweeps.default_sweep().record.jobs
    plain = SearchRecord(
        category=None,
        job_id=winner,
        certified=True,
        sure="certified at 95 %: no other setting that was raced is more than 1 % faster",
        speedup=1.4,
        low=1.3,
        high=1.5,
        pairs=6,
        headline="as the search says it",
        ties=("n_draft 4",),
        notes=(),
        candidates=tuple(
            SearchCandidate(name=job.id, job_id=job.id, predicted=None, measured=20.0, outcome="") for job in jobs
        ),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_what_a_search_confirmed_is_the_answer_though_another_looks_better() -> None:
    made = sweeps.default_sweep()

    (answer,) = recommend(made.comparisons, replace(made.record, searches=(searched("job1"),)))

    assert answer.job is not None
    assert (answer.kind, answer.job.n_draft) == ("run", 8)
    chosen = fastest([answer.job])  # as a map of several loads takes it
    assert chosen is not None
    assert (chosen.ci_low, chosen.ci_high) == (1.3, 1.5)
    assert answer.headline == "Run the synthetic draft, n_draft 8: 1.40× faster"  # all runs' means say otherwise
    assert answer.sureness.startswith("95 % sure of 1.30 to 1.50×, by 6 pairs of runs; certified")
    assert "6 pairs" in answer.rests_on
    assert "may be as fast, as far as measured: n_draft 4" in answer.notes
    assert not any("best of" in note for note in answer.notes)


def test_what_fresh_pairs_do_not_confirm_is_no_gain_whatever_all_pairs_say() -> None:
    made = sweeps.default_sweep()

    (answer,) = recommend(made.comparisons, replace(made.record, searches=(searched("job1", low=0.9),)))

    assert answer.kind == "no_reliable_gain"
    assert answer.command is None


def test_a_search_that_could_measure_no_setting_recommends_nothing() -> None:
    made = sweeps.default_sweep()
    rows = [replace(row, speculative=None, speedup=None, speedup_gm=None) for row in made.comparisons]
    search = searched(None, headline="Don't speculate: vanilla is the fastest")
    failed = tuple(replace(row, measured=None) for row in search.candidates)

    (answer,) = recommend(rows, replace(made.record, searches=(replace(search, candidates=failed),)))

    assert answer.kind == "nothing"
    assert answer.headline.startswith("No speculative run could be measured; without speculation: ")


def test_warnings_are_of_the_fresh_pairs_and_not_of_those_that_the_search_compared() -> None:
    made = sweeps.default_sweep()
    of_all = Finding(
        code="wide_interval", severity="warning", subject="pairs", evidence={"half_width": 0.4, "ratio": 2}
    )
    rows = [replace(row, findings=(of_all,)) for row in made.comparisons]

    def warned(**changes: object) -> list[str]:
        (answer,) = recommend(rows, replace(made.record, searches=(searched("job1", **changes),)))
        return [advice.code for advice in answer.against]

    assert warned() == []
    assert warned(low=0.9, high=2.2) == ["wide_interval"]
    assert warned(pairs=2) == ["too_few_pairs"]


def test_a_search_can_end_with_not_speculating() -> None:
    made = sweeps.default_sweep()
    search = searched(None, headline="Don't speculate: vanilla is the fastest")

    (answer,) = recommend(made.comparisons, replace(made.record, searches=(search,)))

    assert (answer.kind, answer.headline, answer.command) == ("no_reliable_gain", search.headline, None)
    assert search.sure not in answer.sureness  # its headline says it


def _with_prompts(**changes: object) -> tuple[str, ...]:
    """The notes of a job over several prompts whose whole row has `changes`."""
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=(8,), prompts=4, iterations=5)
    rows = [row if row.prompt_id is not None else replace(row, **changes) for row in made.comparisons]  # type: ignore[arg-type]
    (answer,) = recommend(rows, made.record)
    return answer.notes


def test_the_intervals_over_passes_and_over_prompts_say_what_each_is_of() -> None:
    notes = " | ".join(_with_prompts(ci_low=1.3, ci_high=1.6, population_low=1.2, population_high=1.7))

    assert "for these same prompts measured again" in notes
    assert "for other prompts like these, by how these differ: [1.20, 1.70] (95 %)" in notes


@pytest.mark.parametrize(
    "changes",
    [
        {"n_pairs": 2, "verdict": Verdict.FASTER},
        {"n_pairs": 5, "verdict": Verdict.NO_RELIABLE_GAIN, "ci_low": 0.9, "ci_high": 2.29},
        {"n_pairs": 5, "verdict": Verdict.FASTER, "ci_low": 1.13, "ci_high": 1.82},
    ],
)
def test_the_interval_over_prompts_is_left_out_where_it_would_claim_more_than_the_verdict(
    changes: dict[str, object],
) -> None:
    notes = _with_prompts(population_low=1.13, population_high=1.82, **changes)

    assert not any("prompts like these" in note for note in notes)


def test_the_worst_prompt_comes_with_its_figure() -> None:
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=(8,), prompts=4, iterations=5)
    worst = next(row for row in made.comparisons if row.prompt_id == "translation-03")

    (note,) = (note for note in _with_prompts() if note.startswith("worst prompt"))

    assert note == f"worst prompt: translation-03, {worst.speedup_gm:.2f}× [{worst.ci_low:.2f}, {worst.ci_high:.2f}]"


def test_a_draft_keeps_its_short_name_where_the_others_failed(three: list[Comparison]) -> None:
    made = sweeps.default_sweep()
    drafts = dict(zip((job.id for job in made.record.jobs), ("Q4_1", "q8_0", "f16"), strict=True))
    jobs = tuple(
        replace(job, draft_model=f"/m/SmolLM2-135M-{drafts[job.id]}.gguf", n_draft=4, synthetic=False)
        for job in made.record.jobs
    )
    rows = [replace(three[0], draft_model=jobs[0].draft_model)]

    (answer,) = recommend(rows, replace(made.record, jobs=jobs))

    assert answer.headline.startswith("Run Q4_1 draft, n_draft 4: 2.07× faster")
