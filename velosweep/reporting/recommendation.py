"""The recommendation: what to run now, why it can be believed, and what speaks against it.

Jobs with the same main model, prompts, tokens and sampling compete for one recommendation.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from velosweep.planning.job_names import JobNames, model_words, shortened
from velosweep.planning.job_settings import DRAFT, MAIN, N_DRAFT, asks, model_name, settings_of
from velosweep.records import SearchRecord, SweepRecord
from velosweep.reporting.finding_text import Advice, explain, selected_findings
from velosweep.reporting.printed_command import command_line
from velosweep.reporting.request_words import length_words, memory_words, request_differs, request_words
from velosweep.reporting.search_words import anything_compared
from velosweep.reporting.wording import (
    TOO_FEW_RUNS,
    by_prompt,
    first_few,
    grouped,
    interval,
    interval_source,
    is_informative,
    join_words,
    names_of,
    number,
    recorded_names,
    speedup_words,
    whole_jobs,
    without_speedup,
)
from velosweep.statistics.best_of_several import by_task
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate, category_speedups, leading, turn_speedups
from velosweep.units import plural
from velosweep.values import Verdict

_SAME_RATIO = 0.03  # relative difference of two ratios that say the same
FEWEST_PASSES = 3  # with fewer their interval can't be trusted (analysis finds `too_few_pairs`)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """`job` is what to run, None where nothing can be advised. `kind`: run, no_reliable_gain, slower or nothing.

    `question`: what sets it apart from the sweep's other recommendations, empty for a single one. `headline`: the
    answer; `sureness`: how sure it is (`is_weak`: not much). `command`: ready to paste, None where vanilla is
    advised or the server was attached. `costs`: what a whole request gains, where that is another story than
    decoding's. `rests_on`, `ties`, `by_category`, `against`, `notes`: sentences.
    """

    question: str
    kind: str
    headline: str
    sureness: str = ""
    is_weak: bool = False
    job: Comparison | None = None
    command: str | None = None
    costs: str = ""
    rests_on: str = ""
    ties: tuple[str, ...] = ()
    by_category: tuple[str, ...] = ()
    against: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()


def recommend(comparisons: Iterable[Comparison], record: SweepRecord) -> tuple[Recommendation, ...]:
    """One recommendation for each task that was measured (main model, prompts, tokens, sampling), in jobs' order."""
    rows = list(comparisons)
    whole = whole_jobs(rows)
    rows_of = grouped(rows, lambda row: row.job_id)
    recorded = {job.id: job for job in record.jobs}
    names, mains = names_of(whole), shortened({job.main_model for job in whole})
    tasks = [key for key in names.keys if key != MAIN and asks(key)]
    found, questions = [], by_task(whole)
    # With jobs that were not measured, or failed, all are called as they were while measuring.
    every = recorded_names(record) if len(questions) == 1 and recorded.keys() > rows_of.keys() else None
    for jobs in questions.values():
        parts = [mains[jobs[0].main_model]] if len(mains) > 1 else []
        parts += [f"{names.titles[key]} {names.texts[key][jobs[0].job_id]}" for key in tasks]
        own = [row for job in jobs for row in rows_of[job.job_id]]
        entries = tuple(recorded[job.job_id] for job in jobs if job.job_id in recorded)
        called = every or names_of(jobs)
        found.append(_recommendation(", ".join(parts), jobs, own, replace(record, jobs=entries), called))
    return tuple(found)


def answered_jobs(found: Iterable[Recommendation]) -> dict[str, Comparison]:
    """The jobs that answers are about, by id."""
    return {answer.job.job_id: answer.job for answer in found if answer.job is not None}


def with_answers(rows: Iterable[Comparison], found: Iterable[Recommendation]) -> list[Comparison]:
    """The comparisons, with the figures of the answers for the jobs that they are about: one job, one figure."""
    best = answered_jobs(found)
    return [best.get(row.job_id, row) if row.prompt_id is None else row for row in rows]


def _recommendation(
    question: str, jobs: list[Comparison], rows: Sequence[Comparison], record: SweepRecord, names: JobNames
) -> Recommendation:
    labels = names.labels
    leader = leading(jobs, record)
    best, search = (leader.job, leader.search) if leader else (None, _search_of(jobs, record))
    kind, headline = "nothing", _without_ratio(jobs, names, record, search)
    if search is not None and search.job_id is None and anything_compared(search):
        kind, headline = "no_reliable_gain", search.headline
    elif best is not None:
        kind, headline = _kind_and_headline(best, _setting(best, names, record))
    notes = tuple(_notes(best, rows, search, record))
    if best is None:
        return Recommendation(question=question, kind=kind, headline=headline, notes=notes)
    advice = (explain(finding, record) for finding in selected_findings(best, record))
    against = sorted((one for one in advice if one.rank < 2), key=lambda one: one.rank)
    gains = best.verdict is Verdict.FASTER  # then what is surely slower than vanilla is not as good
    ties = [job for job in jobs if search is None and job.job_id != best.job_id and job.may_be_best]
    ties = [job for job in ties if not (gains and job.verdict is Verdict.SLOWER)]
    weak = _weaknesses(best, against)
    named = join_words(first_few([f"{labels[job.job_id]} ({_to_best(job)})" for job in ties], 6))
    return Recommendation(
        question=question,
        kind=kind,
        headline=headline,
        sureness=_sureness(best, weak, search),
        is_weak=bool(weak),
        job=best,
        command=command_line(best, record) if kind == "run" else None,
        costs=(request_words(best) or "") if request_differs(best) else "",
        rests_on=_rests_on(best, jobs, record),
        ties=(f"may also be the best (95 %, compared round by round): {named}",) if ties else (),
        by_category=tuple(_by_category(best, labels, rows)),
        against=tuple(against),
        notes=notes,
    )


def _search_of(jobs: Sequence[Comparison], record: SweepRecord) -> SearchRecord | None:
    ids = {job.job_id for job in jobs}
    of_all_prompts = (search for search in record.searches if search.category is None)
    return next((search for search in of_all_prompts if ids & {row.job_id for row in search.candidates}), None)


def _kind_and_headline(best: Comparison, setting: str) -> tuple[str, str]:
    value = best_estimate(best)
    ratio = f"{number(value)}×{_speeds(best)}"
    if best.verdict is Verdict.FASTER:
        return "run", f"Run {setting}: {ratio.replace('×', '× faster', 1)}"
    if best.verdict is Verdict.SLOWER:
        return "slower", f"Don't speculate here: the best setting, {setting}, is {ratio}"
    if value is not None and value < 1:
        return (
            "no_reliable_gain",
            f"Don't speculate here: no setting that was measured is faster. The best, {setting}, is {ratio}",
        )
    return "no_reliable_gain", f"No sure gain: the best, {setting}, is {ratio}"


def _speeds(best: Comparison) -> str:
    """` (20.2 → 24.0 tok/s)`; empty where all runs' means would refute the ratio of the confirming pairs."""
    before, after, ratio = best.vanilla_speed, best.speculative_speed, best_estimate(best)
    if before is None or after is None or ratio is None:
        return ""
    return f" ({before:.1f} → {after:.1f} tok/s)" if abs(after / before / ratio - 1) < _SAME_RATIO else ""


def _weaknesses(best: Comparison, against: Sequence[Advice]) -> list[str]:
    """What weakens the evidence for an answer, each in a few words."""
    weak = list(dict.fromkeys(advice.brief for advice in against if advice.brief))
    if not is_informative(best.ci_low, best.ci_high) and all(advice.code != "too_few_pairs" for advice in against):
        weak.insert(0, f"{TOO_FEW_RUNS} for an interval")
    return weak


def _sureness(best: Comparison, weak: Sequence[str], search: SearchRecord | None) -> str:
    """How sure the answer is, in one sentence: what weakens it, else its interval."""
    text = f"Weak evidence: {', '.join(weak)}"
    if not weak:
        about = "With speculation, " if search and search.job_id is None else ""
        limits = f"{number(best.ci_low)} to {number(best.ci_high)}×"
        text = f"{about}95 % sure of {limits}, by {plural(best.n_pairs, 'pair')} of runs"
    # The headline of a search that chose vanilla is its own, and says how sure it is.
    return f"{text}." if search is None or search.job_id is None else f"{text}; {search.sure}."


def _without_ratio(
    jobs: Sequence[Comparison], names: JobNames, record: SweepRecord, search: SearchRecord | None
) -> str:
    """Why no job can be the best, and which is the fastest."""
    speculating = [job for job in jobs if job.speculation != "none"]
    if speculating and all(job.drafted is False for job in speculating):
        return "Nothing was drafted on these prompts, so there is nothing to gain: run without speculation"
    top = max(jobs, key=lambda job: job.speculative_speed or 0.0)
    if top.speculative is not None:
        invalid = top.verdict is Verdict.INVALID and top.vanilla
        why = "all runs are invalid" if invalid else without_speedup(top, record)
        speed = f"{number(top.speculative_speed, 1)} tok/s"
        return f"No speedup known ({why}). Fastest: {_setting(top, names, record)}, {speed}"
    top = max(jobs, key=lambda job: (job.vanilla is not None, job.speculation == "none", job.vanilla_speed))
    if top.vanilla is None:
        return "Nothing could be measured"
    speed = f"{number(top.vanilla_speed, 1)} tok/s"
    if not speculating:
        label = names.labels[top.job_id].removeprefix("no speculation, ")
        return f"{speed} without speculation{f', the fastest: {label}' if len(jobs) > 1 else ''}"
    why = "No speculative run could be measured"
    if search is not None and not search.certified and not anything_compared(search):
        why = search.headline
    return f"{'Only' if top.speculation == 'none' else f'{why};'} without speculation: {speed}"


def _setting(job: Comparison, names: JobNames, record: SweepRecord) -> str:
    """The job's label, with its draft and n_draft where the other jobs have the same."""
    label = names.labels[job.job_id]
    if job.speculation == "none":
        return label
    if names.series[job.job_id]:
        return label if N_DRAFT in names.keys else f"{label}, n_draft {job.n_draft}"
    if job.draft_model and (entry := record.job(job.job_id)) and entry.synthetic:
        return f"the synthetic draft, {label}"  # its file name is its whole recipe
    draft = model_words(model_name(job.draft_model), "draft") if settings_of(job)[DRAFT] else job.speculation
    return f"{draft}, {label}"


def _to_best(job: Comparison) -> str:
    if not is_informative(job.to_best_low, job.to_best_high):
        return f"{TOO_FEW_RUNS} to tell"
    return f"{number(job.to_best_low)} to {number(job.to_best_high)} of the best other"


def _rests_on(best: Comparison, jobs: Sequence[Comparison], record: SweepRecord) -> str:
    entry = record.job(best.job_id)
    left_out = next((int(f.evidence["prompts"]) for f in best.findings if f.code == "prompts_left_out"), 0)
    prompts = plural(len(entry.prompt_ids) - left_out, "prompt") if entry else f"prompts {best.prompt_set}"
    compared = sum(job.chosen_low is not None for job in jobs)
    chosen = f", its lower limit for the best of {compared} settings" if compared > 1 and best.chosen_low else ""
    starts = f", servers started {'once' if entry.launches == 1 else f'{entry.launches} times'}" if entry else ""
    return (
        f"{prompts}, {plural(best.n_pairs, 'pair')} of runs{starts}, {length_words(best)} each; "
        f"{best.device}{f' on {best.host}' if best.host else ''}; {best.engine}, llama.cpp {best.llama_cpp_build}; "
        f"{f'{interval_source(best.ci_method)}{chosen}' if best.ci_method else 'too few runs for an interval'}"
    )


def _by_category(best: Comparison, labels: Mapping[str, str], rows: Sequence[Comparison]) -> Iterator[str]:
    """The categories for which another setting is at least 2 % better, or none is faster."""
    speedups = category_speedups(rows)
    for category, of_job in speedups.items() if len(speedups) > 1 else ():
        winner = max(of_job, key=of_job.__getitem__)
        here = of_job.get(best.job_id)
        if of_job[winner] <= 1:
            yield f"{category}: no setting is faster (best {labels[winner]}, {of_job[winner]:.2f}×)"
        elif here is not None and winner != best.job_id and of_job[winner] > 1.02 * here:
            yield f"{category}: {labels[winner]} is better here, {of_job[winner]:.2f}× against {here:.2f}×"
        elif here is not None and here <= 1:
            yield f"{category}: not faster here, {here:.2f}×"


def _notes(
    best: Comparison | None, rows: Sequence[Comparison], search: SearchRecord | None, record: SweepRecord
) -> Iterator[str]:
    """How a search chose, what to expect from other prompts, and what makes the figures optimistic."""
    if search is not None and search.ties:
        yield f"may be as fast, as far as measured: {join_words(search.ties)}"
    if best is not None and _adds_other_prompts(best):
        yield (
            "the interval above is for these same prompts measured again; for other prompts like these, by how these "
            f"differ: {interval(best.population_low, best.population_high)} (95 %)"
        )
    if best is not None and best.worst_prompt:
        worst = [row for row in by_prompt(rows, best.job_id) if row.prompt_id == best.worst_prompt]
        yield f"worst prompt: {best.worst_prompt}{f', {speedup_words(worst[0])}' if worst else ''}"
    turns = turn_speedups(by_prompt(rows, best.job_id)) if best is not None else {}
    if len(turns) > 1:
        yield f"by turn of the conversations: {join_words([f'{turn}: {value:.2f}×' for turn, value in turns.items()])}"
    if best is not None and (words := memory_words(best)):
        yield words
    if any(job.synthetic for job in record.jobs):
        yield "synthetic model pair: the times are real, the text is not; choose your own pair before deploying"


def _adds_other_prompts(best: Comparison) -> bool:
    """Whether the interval over prompts tells more than the one over iterations.

    It does not where there are too few iterations (each prompt's mean is then as uncertain), where both are the same,
    or where it claims a gain or a loss that the verdict does not.
    """
    low, high = best.population_low, best.population_high
    if low is None or high is None or best.n_pairs < FEWEST_PASSES or high == best.ci_high:
        return False
    gain, loss = best.verdict is Verdict.FASTER, best.verdict is Verdict.SLOWER
    return is_informative(low, high) and (low <= 1 or gain) and (high >= 1 or loss)
