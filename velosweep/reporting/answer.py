"""The answer: what to run now, why it can be believed, and what speaks against it.

Jobs with the same main model, prompt set and n_predict compete for one answer.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from velosweep.records import SearchRecord, SweepRecord
from velosweep.reporting.advice import Advice, explain, severity_rank, told
from velosweep.reporting.wording import (
    interval,
    is_synthetic,
    job_labels,
    listed,
    model_name,
    number,
    speedup,
    whole_jobs,
    without_speedup,
)
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate, category_speedups, fastest, tied
from velosweep.units import plural
from velosweep.values import Verdict

FEWEST_PASSES = 3
"""With fewer the interval over passes is not to be trusted (analysis finds `too_few_pairs`)."""

CommandFlags = Callable[[Comparison], Sequence[str]]


PromptRows = Mapping[str, Sequence[Comparison]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`job` is what to run, None where nothing can be advised. `kind`: run, no_reliable_gain, slower or nothing.

    `command`: ready to paste, None where vanilla is the advice. `rests_on`, `ties`, `by_category`, `against`,
    `notes`: sentences; `against` comes first when shown.
    """

    question: str
    kind: str
    headline: str
    job: Comparison | None
    command: str | None
    rests_on: str
    ties: tuple[str, ...]
    by_category: tuple[str, ...]
    against: tuple[Advice, ...]
    notes: tuple[str, ...]


def answers(
    comparisons: Iterable[Comparison], record: SweepRecord, *, command_flags: CommandFlags | None = None
) -> tuple[Answer, ...]:
    """One answer for each main model, prompt set and n_predict, in the order of the jobs.

    `command_flags(job)` gives llama-server's arguments; without it those recorded, else today's names are used.
    """
    rows = list(comparisons)
    questions: dict[tuple[str, str, int], list[Comparison]] = defaultdict(list)
    for job in whole_jobs(rows):
        questions[(job.main_model, job.prompt_set, job.n_predict)].append(job)
    varies = [len({key[part] for key in questions}) > 1 for part in range(3)]
    of_jobs = prompt_rows(rows)
    flags = command_flags or recorded_flags(record)
    return tuple(_answer(_question(key, varies), jobs, of_jobs, record, flags) for key, jobs in questions.items())


def _question(key: tuple[str, str, int], varies: Sequence[bool]) -> str:
    main_model, prompt_set, n_predict = key
    parts = [model_name(main_model)] if varies[0] else []
    parts += [f"prompts {prompt_set}"] if varies[1] else []
    parts += [f"n_predict {n_predict}"] if varies[2] else []
    return ", ".join(parts)


def _answer(
    question: str, jobs: list[Comparison], rows: PromptRows, record: SweepRecord, flags: CommandFlags
) -> Answer:
    search = _search_of(jobs, record)
    best = fastest(jobs) if search is None else _confirmed(search, jobs)
    ties = () if best is None else tuple(job for job in jobs if job.job_id != best.job_id and tied(job, best))
    kind = "no_reliable_gain" if search is not None and search.job_id is None else _kind(best)
    return Answer(
        question=question,
        kind=kind,
        headline=search.headline if search and search.job_id is None else _headline(kind, best, jobs, record),
        job=best,
        command=command_line(flags(best)) if best is not None and kind == "run" else None,
        rests_on=_rests_on(best, record) if best is not None else "",
        ties=_tie_words(best, ties, jobs) if best is not None and search is None else (),
        by_category=_category_words(best, jobs, rows) if best is not None else (),
        against=_against(best, record) if best is not None else (),
        notes=(
            *(() if search is None else _search_words(search)),
            *(() if best is None else _prompt_words(best, rows.get(best.job_id, ()))),
            *_notes(jobs if search is None else (), record),
        ),
    )


def _search_of(jobs: Sequence[Comparison], record: SweepRecord) -> SearchRecord | None:
    """The search over all prompts that these jobs were candidates of."""
    ids = {job.job_id for job in jobs}
    found = (search for search in record.searches if search.category is None)
    return next((search for search in found if ids & {row.job_id for row in search.candidates}), None)


def _confirmed(search: SearchRecord, jobs: Sequence[Comparison]) -> Comparison | None:
    """The winner with its figure from fresh pairs alone: the pairs that chose it flatter it."""
    best = next((job for job in jobs if job.job_id == search.job_id), None) or fastest(jobs)
    if best is None or search.job_id is None or search.speedup is None or best.verdict is Verdict.INVALID:
        return best
    verdict = Verdict.NO_RELIABLE_GAIN
    if search.low is not None and search.high is not None:
        verdict = Verdict.FASTER if search.low > 1 else Verdict.SLOWER if search.high < 1 else verdict
    return replace(
        best,
        speedup_gm=search.speedup,
        ci_low=search.low,
        ci_high=search.high,
        n_pairs=search.pairs,
        verdict=verdict,
    )


def _search_words(search: SearchRecord) -> tuple[str, ...]:
    words = [f"found by a search, {search.sure}"]
    if search.speedup is not None and search.job_id is not None:
        words.append("the figure is of fresh pairs alone; the table's are of all pairs, which chose and so flatter")
    if search.ties:
        words.append(f"not shown to be slower by more than the search's tolerance: {listed(search.ties)}")
    return tuple(words)


def _kind(best: Comparison | None) -> str:
    if best is None:
        return "nothing"
    return {Verdict.FASTER: "run", Verdict.SLOWER: "slower"}.get(best.verdict, "no_reliable_gain")


# ---------------------------------------------------------------- in words


def _headline(kind: str, best: Comparison | None, jobs: Sequence[Comparison], record: SweepRecord) -> str:
    if best is None:
        return _without_ratio(jobs, record)
    setting = f"{_what(best, record)} with n_draft {best.n_draft}"
    if kind == "run":
        return f"Run {setting}: {speedup(best)}"
    if kind == "slower":
        return f"Slower: run without speculation. The least slow, {setting}, is {speedup(best)}"
    unsure = " (interval not converged)" if best.verdict is Verdict.NOT_CONVERGED else ""
    if best.ci_low is None:
        unsure = " (too few pairs for an interval)"
    return f"No reliable gain{unsure}: the best, {setting}, is {speedup(best)}"


def _without_ratio(jobs: Sequence[Comparison], record: SweepRecord) -> str:
    measured = [job for job in jobs if job.speculative is not None]
    if not measured:
        plain = max((job for job in jobs if job.vanilla), key=lambda job: job.speculation == "none", default=None)
        if plain is None or plain.vanilla is None:
            return "Nothing could be measured"
        alone = f"ithout speculation: {number(plain.vanilla.tokens_per_second.mean, 1)} tok/s"
        if plain.speculation == "none":
            return f"W{alone}; nothing to compare it with"
        return f"No speculative run could be measured; w{alone}"
    quickest = max(measured, key=lambda job: job.speculative.tokens_per_second.mean if job.speculative else 0.0)
    rate = quickest.speculative.tokens_per_second.mean if quickest.speculative else None
    setting = f"{_what(quickest, record)} with n_draft {quickest.n_draft}"
    invalid = quickest.verdict is Verdict.INVALID and quickest.vanilla
    why = "all runs are invalid" if invalid else without_speedup(quickest, record)
    return f"No speedup known ({why}). Fastest: {setting}, {number(rate, 1)} tok/s"


def _what(job: Comparison, record: SweepRecord) -> str:
    if any(entry.id == job.job_id and entry.synthetic for entry in record.jobs):
        return "the synthetic draft"  # its file name is its whole recipe
    if not job.draft_model:
        return job.speculation
    name = model_name(job.draft_model)
    return f"{name}.gguf" if name.lower().startswith("draft") else f"draft {name}"  # never "draft draft"


def _rests_on(best: Comparison, record: SweepRecord) -> str:
    entry = next((job for job in record.jobs if job.id == best.job_id), None)
    prompts = plural(len(entry.prompt_ids), "prompt") if entry else f"prompts {best.prompt_set}"
    taken = "runs" if entry and len(entry.prompt_ids) == 1 else "passes"
    launches = f", {plural(entry.launches, 'launch')}" if entry else ""
    return (
        f"{prompts}, {plural(best.n_pairs, 'pair')} of {taken}{launches}, {best.n_predict} tokens each; "
        f"{best.device} on {best.host}; {best.engine}, llama.cpp {best.llama_cpp_build}; "
        f"interval: {best.ci_method or 'none'}"
    )


def _tie_words(best: Comparison, ties: Sequence[Comparison], jobs: Sequence[Comparison]) -> tuple[str, ...]:
    if not ties:
        return ()
    labels = job_labels(jobs)
    shown = [f"{labels[job.job_id]} ({speedup(job)})" for job in ties[:6]]
    more = [f"{len(ties) - 6} more"] if len(ties) > 6 else []
    return (f"statistically tied with it (the 95 % interval of the ratio holds 1): {listed(shown + more)}",)


def prompt_rows(rows: Iterable[Comparison]) -> PromptRows:
    """The rows of prompts, by job id."""
    found: dict[str, list[Comparison]] = defaultdict(list)
    for row in rows:
        if row.prompt_id is not None:
            found[row.job_id].append(row)
    return found


def _category_words(best: Comparison, jobs: Sequence[Comparison], rows: PromptRows) -> tuple[str, ...]:
    """Where a category would choose otherwise by at least 2 %, or isn't faster at all."""
    labels = job_labels(jobs)
    words = []
    ratios = category_speedups(row for job in jobs for row in rows.get(job.job_id, ()))
    for category, of_job in ratios.items() if len(ratios) > 1 else ():
        winner = max(of_job, key=lambda job_id: of_job[job_id])
        here = of_job.get(best.job_id)
        if of_job[winner] <= 1:
            words.append(f"{category}: no setting is faster (best {labels[winner]}, {of_job[winner]:.2f}×)")
        elif here is not None and winner != best.job_id and of_job[winner] > 1.02 * here:
            words.append(f"{category}: {labels[winner]} is better here, {of_job[winner]:.2f}× against {here:.2f}×")
        elif here is not None and here <= 1:
            words.append(f"{category}: not faster here, {here:.2f}×")
    return tuple(words)


def _against(best: Comparison, record: SweepRecord) -> tuple[Advice, ...]:
    serious = [explain(finding, record) for finding in told(best, record) if finding.severity in {"error", "warning"}]
    return tuple(sorted(serious, key=lambda advice: severity_rank(advice.severity)))


def _prompt_words(best: Comparison, prompts: Sequence[Comparison]) -> list[str]:
    """What to expect of other prompts, and of the worst of these."""
    words = []
    if _tells_of_other_prompts(best):
        over_prompts = interval(best.population_low, best.population_high)
        words.append(
            "the interval above is for these same prompts measured again (from how passes differ); the mean of other "
            f"prompts like these: {over_prompts} (95 %, from how these prompts differ)"
        )
    worst = next((row for row in prompts if row.prompt_id == best.worst_prompt), None)
    if best.worst_prompt:
        figure = "" if worst is None else f", {speedup(worst)}"
        words.append(f"worst prompt: {best.worst_prompt}{figure}")
    return words


def _tells_of_other_prompts(best: Comparison) -> bool:
    """Whether the interval over prompts adds to the run's own: not where that one can't be trusted (each prompt's mean
    is then as uncertain), is the same, or speaks of a gain or a loss less surely."""
    low, high = best.population_low, best.population_high
    if low is None or high is None or best.n_pairs < FEWEST_PASSES or (low, high) == (best.ci_low, best.ci_high):
        return False
    gain, loss = best.verdict is Verdict.FASTER, best.verdict is Verdict.SLOWER
    return (low <= 1 or gain) and (high >= 1 or loss)


def _notes(jobs: Sequence[Comparison], record: SweepRecord) -> tuple[str, ...]:
    notes: list[str] = []
    if is_synthetic(record):
        notes.append("synthetic model pair: the times are real, the text is not; choose your own pair before deploying")
    compared = sum(best_estimate(job) is not None for job in jobs)
    if compared > 2:
        notes.append(f"best of {compared} settings measured, so its figure is a little flattered")
    return tuple(notes)


# ---------------------------------------------------------------- the command


def recorded_flags(record: SweepRecord) -> CommandFlags:
    """The arguments that the engine recorded for this build, else today's names."""
    recorded = {job.id: job.server_arguments for job in record.jobs if job.server_arguments}
    return lambda job: recorded.get(job.job_id) or default_flags(job)


# The setting that bounds the draft of each draftless kind; the kinds with a draft model share one.
_DRAFT_LENGTH = {
    "ngram-simple": "--spec-ngram-simple-size-m",
    "ngram-map-k": "--spec-ngram-map-k-size-m",
    "ngram-map-k4v": "--spec-ngram-map-k4v-size-m",
    "ngram-mod": "--spec-ngram-mod-n-max",
}


def default_flags(job: Comparison) -> tuple[str, ...]:
    """llama-server's arguments by the names of llama.cpp since June 2026."""
    kinds = job.speculation.split("+")
    flags = ["-m", job.main_model, "-ngl", "999"]
    if job.draft_model:
        flags += ["-md", job.draft_model, "-ngld", "999"]
    flags += ["--spec-type", ",".join("draft-simple" if kind == "draft" else kind for kind in kinds)]
    if any(kind.startswith("draft") for kind in kinds):
        flags += ["--spec-draft-n-max", str(job.n_draft), "--spec-draft-n-min", "0", "--spec-draft-p-min", "0"]
    for kind in kinds:
        if kind in _DRAFT_LENGTH:
            flags += [_DRAFT_LENGTH[kind], str(job.n_draft)]
    return tuple(flags)


def command_line(flags: Sequence[str]) -> str:
    """`llama-server` with `flags`, quoted for a POSIX shell."""
    return shlex.join(["llama-server", *flags])
