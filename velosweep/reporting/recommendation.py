"""The recommendation: what to run now, why it can be believed, and what speaks against it.

Jobs with the same main model, prompt set, n_predict, concurrency and depth compete for one recommendation.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from velosweep.config.speculation_kinds import KINDS, kind_of
from velosweep.llama_cpp.setting_table import SETTINGS
from velosweep.planning.job_settings import model_name
from velosweep.records import JobRecord, SearchRecord, SweepRecord
from velosweep.reporting.finding_text import Advice, explain, selected_findings
from velosweep.reporting.wording import (
    by_prompt,
    first_few,
    interval,
    job_labels,
    listed,
    number,
    speedup,
    whole_jobs,
    without_speedup,
)
from velosweep.statistics.best_of_several import Question, question_of
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import category_speedups, fastest
from velosweep.units import plural
from velosweep.values import Verdict

FEWEST_PASSES = 3  # with fewer their interval can't be trusted (analysis finds `too_few_pairs`)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """`job` is what to run, None where nothing can be advised. `kind`: run, no_reliable_gain, slower or nothing.

    `question`: what sets it apart from the sweep's other recommendations, empty for a single one. `command`: ready to
    paste, None where vanilla is the advice. `rests_on`, `ties`, `by_category`, `against`, `notes`: sentences;
    `against` comes first when shown.
    """

    question: str
    kind: str
    headline: str
    job: Comparison | None = None
    command: str | None = None
    rests_on: str = ""
    ties: tuple[str, ...] = ()
    by_category: tuple[str, ...] = ()
    against: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()


def recommend(comparisons: Iterable[Comparison], record: SweepRecord) -> tuple[Recommendation, ...]:
    """One recommendation for each question, in the order of the jobs."""
    rows = list(comparisons)
    questions: dict[Question, list[Comparison]] = {}
    for job in whole_jobs(rows):
        questions.setdefault(question_of(job), []).append(job)
    varies = [len(set(values)) > 1 for values in zip(*questions, strict=True)]
    found = []
    for (main_model, prompt_set, n_predict, concurrency, depth), jobs in questions.items():
        parts = (
            model_name(main_model), f"prompts {prompt_set}", f"n_predict {n_predict}", f"concurrency {concurrency}",
            f"depth {depth}",
        )  # fmt: skip
        question = ", ".join(part for part, several in zip(parts, varies, strict=True) if several)
        found.append(_recommendation(question, jobs, rows, record))
    return tuple(found)


def competitors(job: Comparison, jobs: Iterable[Comparison]) -> list[Comparison]:
    """The jobs that compete with `job`, itself among them."""
    return [other for other in jobs if question_of(other) == question_of(job)]


def _recommendation(
    question: str, jobs: list[Comparison], rows: Sequence[Comparison], record: SweepRecord
) -> Recommendation:
    ids = {job.job_id for job in jobs}
    of_all_prompts = (search for search in record.searches if search.category is None)
    search = next((search for search in of_all_prompts if ids & {row.job_id for row in search.candidates}), None)
    best = fastest(jobs) if search is None else _confirmed(search, jobs)
    kind, headline = _kind_and_headline(best, record) if best else ("nothing", _without_ratio(jobs, record))
    if search is not None and search.job_id is None:
        kind, headline = "no_reliable_gain", search.headline
    notes = tuple(_notes(best, jobs, rows, search, record))
    if best is None:
        return Recommendation(question=question, kind=kind, headline=headline, notes=notes)
    against = [explain(finding, record) for finding in selected_findings(best, record)]
    labels = job_labels(jobs)
    ties = [job for job in jobs if search is None and job.job_id != best.job_id and job.may_be_best]
    named = listed(first_few([f"{labels[job.job_id]} ({_to_best(job)})" for job in ties], 6))
    return Recommendation(
        question=question,
        kind=kind,
        headline=headline,
        job=best,
        command=command_line(best, record) if kind == "run" else None,
        rests_on=_rests_on(best, jobs, record),
        ties=(f"may be the best as well (95 %, by ratios within rounds): {named}",) if ties else (),
        by_category=tuple(_by_category(best, labels, rows)),
        against=tuple(sorted((advice for advice in against if advice.rank < 2), key=lambda advice: advice.rank)),
        notes=notes,
    )


def _confirmed(search: SearchRecord, jobs: Sequence[Comparison]) -> Comparison | None:
    """The winner with the speedup of its confirming pairs alone: the pairs that selected it overstate it."""
    best = next((job for job in jobs if job.job_id == search.job_id), None) or fastest(jobs)
    if best is None or search.job_id is None or search.speedup is None or best.verdict is Verdict.INVALID:
        return best
    verdict = Verdict.NO_RELIABLE_GAIN
    if search.low is not None and search.high is not None:
        verdict = Verdict.FASTER if search.low > 1 else Verdict.SLOWER if search.high < 1 else verdict
    return replace(
        best, speedup_gm=search.speedup, ci_low=search.low, ci_high=search.high, n_pairs=search.pairs, verdict=verdict
    )


def _kind_and_headline(best: Comparison, record: SweepRecord) -> tuple[str, str]:
    setting = _setting(best, record)
    if best.verdict is Verdict.FASTER:
        return "run", f"Run {setting}: {speedup(best)}"
    if best.verdict is Verdict.SLOWER:
        return "slower", f"Slower: run without speculation. The least slow, {setting}, is {speedup(best)}"
    unsure = " (interval not converged)" if best.verdict is Verdict.NOT_CONVERGED else ""
    if best.ci_low is None:
        unsure = " (too few pairs for an interval)"
    return "no_reliable_gain", f"No reliable gain{unsure}: the best, {setting}, is {speedup(best)}"


def _without_ratio(jobs: Sequence[Comparison], record: SweepRecord) -> str:
    """Why no job can be the best, and which is the fastest."""
    if jobs and all(job.drafted is False or job.speculation == "none" for job in jobs):
        return "Nothing was drafted on these prompts, so there is nothing to gain: run without speculation"
    rates = {job.job_id: job.speculative.tokens_per_second.mean for job in jobs if job.speculative}
    if rates:
        top = max((job for job in jobs if job.speculative), key=lambda job: rates[job.job_id])
        invalid = top.verdict is Verdict.INVALID and top.vanilla
        why = "all runs are invalid" if invalid else without_speedup(top, record)
        return f"No speedup known ({why}). Fastest: {_setting(top, record)}, {number(rates[top.job_id], 1)} tok/s"
    vanilla = max((job for job in jobs if job.vanilla), key=lambda job: job.speculation == "none", default=None)
    if vanilla is None or vanilla.vanilla is None:
        return "Nothing could be measured"
    alone = f"ithout speculation: {number(vanilla.vanilla.tokens_per_second.mean, 1)} tok/s"
    if vanilla.speculation == "none":
        return f"W{alone}; nothing to compare it with"
    return f"No speculative run could be measured; w{alone}"


def _setting(job: Comparison, record: SweepRecord) -> str:
    name = model_name(job.draft_model)
    if any(entry.id == job.job_id and entry.synthetic for entry in record.jobs):
        draft = "the synthetic draft"  # its file name is its whole recipe
    elif not job.draft_model:
        draft = job.speculation
    else:
        draft = f"{name}.gguf" if name.lower().startswith("draft") else f"draft {name}"  # never "draft draft"
    return f"{draft} with n_draft {job.n_draft}"


def _to_best(job: Comparison) -> str:
    return f"{number(job.to_best_low)} to {number(job.to_best_high)} of the best other"


def _rests_on(best: Comparison, jobs: Sequence[Comparison], record: SweepRecord) -> str:
    entry = next((job for job in record.jobs if job.id == best.job_id), None)
    left_out = next((int(f.evidence["prompts"]) for f in best.findings if f.code == "prompts_left_out"), 0)
    prompts = plural(len(entry.prompt_ids) - left_out, "prompt") if entry else f"prompts {best.prompt_set}"
    compared = sum(job.chosen_low is not None for job in jobs)
    chosen = f", its lower limit for the best of {compared} settings" if compared > 1 and best.chosen_low else ""
    repeated = "runs" if entry and len(entry.prompt_ids) == 1 else "passes"
    launches = f", {plural(entry.launches, 'launch')}" if entry else ""
    return (
        f"{prompts}, {plural(best.n_pairs, 'pair')} of {repeated}{launches}, {best.n_predict} tokens each; "
        f"{best.device} on {best.host}; {best.engine}, llama.cpp {best.llama_cpp_build}; "
        f"interval: {best.ci_method or 'none'}{chosen}"
    )


def _by_category(best: Comparison, labels: Mapping[str, str], rows: Sequence[Comparison]) -> Iterator[str]:
    """The categories for which another setting is at least 2 % better, or none is faster."""
    speedups = category_speedups(row for row in rows if row.job_id in labels)
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
    best: Comparison | None,
    jobs: Sequence[Comparison],
    rows: Sequence[Comparison],
    search: SearchRecord | None,
    record: SweepRecord,
) -> Iterator[str]:
    """How a search chose, what to expect from other prompts, and what makes the figures optimistic."""
    if search is not None:
        yield f"found by a search, {search.sure}"
        if search.speedup is not None and search.job_id is not None:
            yield "the speedup is of the confirming pairs alone; the table's includes the pairs that selected it"
        if search.ties:
            yield f"not shown to be slower by more than the search's tolerance: {listed(search.ties)}"
    if best is not None and _adds_other_prompts(best):
        yield (
            "the interval above is for these same prompts measured again (from how passes differ); the mean of other "
            f"prompts like these: {interval(best.population_low, best.population_high)} (95 %, from how these prompts "
            "differ)"
        )
    if best is not None and best.worst_prompt:
        worst = [row for row in by_prompt(rows, best.job_id) if row.prompt_id == best.worst_prompt]
        yield f"worst prompt: {best.worst_prompt}{f', {speedup(worst[0])}' if worst else ''}"
    if any(job.synthetic for job in record.jobs):
        yield "synthetic model pair: the times are real, the text is not; choose your own pair before deploying"


def _adds_other_prompts(best: Comparison) -> bool:
    """Whether the interval over prompts tells more than the one over passes.

    It does not where there are too few passes (each prompt's mean is then as uncertain), where both are the same, or
    where it claims a gain or a loss that the verdict does not.
    """
    low, high = best.population_low, best.population_high
    if low is None or high is None or best.n_pairs < FEWEST_PASSES or high == best.ci_high:
        return False
    gain, loss = best.verdict is Verdict.FASTER, best.verdict is Verdict.SLOWER
    return (low <= 1 or gain) and (high >= 1 or loss)


def command_line(job: Comparison, record: SweepRecord) -> str:
    """llama-server for this job, quoted for a POSIX shell: with the arguments recorded, else by today's names."""
    entry = next((entry for entry in record.jobs if entry.id == job.job_id), None)
    recorded = entry.server_arguments if entry else ()
    return _quoted(entry, recorded or default_arguments(job))


def vanilla_command(job: Comparison, record: SweepRecord) -> str:
    """As `command_line`, for the same main model without speculation."""
    entry = next((entry for entry in record.jobs if entry.id == job.job_id), None)
    recorded = entry.vanilla_arguments if entry else ()
    return _quoted(entry, recorded or ("-m", job.main_model, "-ngl", "999"))


def _quoted(entry: JobRecord | None, arguments: Iterable[str]) -> str:
    return shlex.join([entry.server_program if entry else "llama-server", *arguments])


def default_arguments(job: Comparison) -> tuple[str, ...]:
    """llama-server's arguments by the names of llama.cpp since June 2026, for sweeps that recorded none."""
    kinds = [kind_of(name) for name in job.speculation.partition(" (")[0].split("+")]
    arguments = ["-m", job.main_model, "-ngl", "999"]
    if job.draft_model:
        arguments += ["-md", job.draft_model, "-ngld", "999"]
    arguments += ["--spec-type", ",".join(kind.llama_cpp for kind in kinds)]
    if any(kind.draft_settings for kind in kinds):
        arguments += ["--spec-draft-n-max", str(job.n_draft)]
    for kind in kinds:
        for length in kind.draft_lengths if kind.name in KINDS else ():
            arguments += [SETTINGS[length].flags[0], str(job.n_draft)]
    return tuple(arguments)
