"""The tables of results: one row a job for the screen, for Markdown and for the page; prompts; categories."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from velosweep.planning.job_settings import DRAFT, KIND, N_DRAFT, drafting, model_name, settings_of, value_of
from velosweep.records import SearchCandidate, SweepRecord
from velosweep.reporting.escaping import clip
from velosweep.reporting.recommendation import Recommendation, answered_jobs
from velosweep.reporting.sweep_answers import SweepAnswers
from velosweep.reporting.table import Cell, Column, Table, column, figure, percentage
from velosweep.reporting.wording import (
    TOO_FEW_RUNS,
    VERDICT_SIGNS,
    grouped,
    interval_words,
    is_informative,
    names_of,
    number,
    plus_minus,
    unpaired,
    whole_jobs,
)
from velosweep.statistics.best_of_several import by_task
from velosweep.statistics.comparison import Comparison, ModeStatistics, Statistics
from velosweep.statistics.failed_jobs import failed_jobs
from velosweep.statistics.ranking import best_estimate, category_speedups
from velosweep.values import Verdict

_REASON = 60  # characters of a failed job's reason that stand in its row


def with_failed(jobs: Sequence[Comparison], record: SweepRecord) -> list[Comparison]:
    """The jobs, and a row for each that failed without a run, where others have results; in the order of the jobs."""
    return whole_jobs([*jobs, *failed_jobs(jobs, record)])


def summary_table(
    answers: SweepAnswers, shown: Collection[str] | None = None, *, failed_because: str | None = None
) -> Table:
    """One row a job below its vanilla: what it is, its speed, its speedup with the interval, and what that means.

    Jobs that answers are about have their figures, and those to run a mark. `shown`: only these jobs by id, named as
    among all. A job that failed says why, or `failed_because` where that is said beside the table.
    """
    record, found, jobs = answers.record, answers.recommendations, with_failed(answers.jobs, answers.record)
    names, failed, baseline_of = names_of(jobs), _reasons(record, failed_because), record.baselines
    best, searched = answered_jobs(found), searched_candidates(record)
    advised = answered_jobs(answer for answer in found if answer.kind == "run").keys()
    speculating = any(job.speculation != "none" for job in jobs)
    keys = tuple(dict.fromkeys((*names.keys, N_DRAFT))) if speculating else names.keys
    vanilla = dict.fromkeys(filter(drafting, keys), "–")
    if speculating:  # else there is nothing to tell vanilla from
        vanilla |= {next(key for key in (DRAFT, KIND, N_DRAFT) if key in keys): "none", "speedup": "1.00×"}
    speeds: dict[str, str] = {}  # vanilla's, by baseline
    for job in (*best.values(), *jobs):
        if job.vanilla:
            speeds.setdefault(baseline_of.get(job.job_id, ""), number(job.vanilla_speed, 1))
    lines: list[dict[str, str]] = []
    for job in jobs if shown is None else [job for job in jobs if job.job_id in shown]:
        cells = {key: names.texts[key][job.job_id] for key in keys}
        if speed := speeds.pop(baseline_of.get(job.job_id, ""), ""):
            lines.append({**cells, **vanilla, "tok/s": speed})
        if job.speculation != "none":
            lines.append({**cells, **_outcome(best.get(job.job_id, job), failed.get(job.job_id))})
            if job.job_id in searched and job.job_id not in best and job.job_id not in failed:
                lines[-1] |= _not_chosen(job, searched[job.job_id])
            lines[-1][""] = "▶" if job.job_id in advised else ""

    def of(name: str, title: str = "", *, right: bool = False) -> Column:
        return column(title, lines, lambda line: line.get(name), right=right)

    columns = (
        *([of("")] if advised else []),
        *(of(key, names.titles[key], right=key == N_DRAFT) for key in keys),
        of("tok/s", "tok/s", right=True),
        of("speedup", "speedup"),
        of("accepted", "accepted", right=True),
        of("verdict"),
    )
    marked = frozenset(place for place, line in enumerate(lines) if line.get(""))
    return Table(caption="Settings", columns=columns, advised=marked)


def searched_candidates(record: SweepRecord) -> dict[str, SearchCandidate]:
    """What became of the settings of the searches over all prompts, by job id."""
    rows = (row for search in record.searches if search.category is None for row in search.candidates)
    return {row.job_id: row for row in rows if row.job_id is not None}


def _not_chosen(job: Comparison, candidate: SearchCandidate) -> dict[str, str]:
    """A search's outcome in place of a speedup: such runs were taken beside the winner's, and few beside vanilla's."""
    if job.drafted is False:
        return {"speedup": ""}
    return {"speedup": candidate.outcome.removesuffix(" as the winner").partition(":")[0], "verdict": ""}


def _outcome(job: Comparison, failed: str | None) -> dict[str, str]:
    """The cells of a job's figures."""
    value, limits = best_estimate(job), ""
    if job.ci_low is not None and job.ci_high is not None:
        told = is_informative(job.ci_low, job.ci_high)
        ends = f"{job.ci_low:.2f}–{job.ci_high:.2f}" if told else TOO_FEW_RUNS
        limits = f" ({ends}{', unpaired' if unpaired(job) else ''})"
    speed, vanilla = job.speculative_speed, job.vanilla_speed
    if speed and vanilla and value and (speed / vanilla - 1) * (value - 1) < 0:
        speed = None  # the mean of all runs would refute the ratio of the pairs
    return {
        "tok/s": figure(speed, 1).text,
        "speedup": "" if value is None else f"{value:.2f}×{limits}",
        "accepted": "" if job.drafted is False else _FIGURES["accepted"](job).text,
        "verdict": f"failed: {failed}" if failed else _MARKS.get(_verdict(job)[0], ""),
    }


# By the signs of verdicts: what stands at the end of a row.
_MARKS = {"▲": "faster", "▼": "slower", "≈": "≈ not sure", "?": "≈ not sure", "✗": "✗ unusable", "∅": "drafted nothing"}


def detailed_job_table(jobs: Sequence[Comparison], record: SweepRecord, advised: Collection[str]) -> Table:
    """One row a job with all figures, for the page; the jobs whose ids are `advised` are marked."""
    energy = any(job.energy_j_per_token_speculative is not None for job in jobs)
    columns = (
        *_varying(jobs),
        *_figures(jobs, "speedup", "95 % interval"),
        _verdicts(jobs, _reasons(record)),
        *_figures(jobs, "vanilla tok/s", "speculative tok/s", "TTFT ms", "prompt", "in all", "accepted"),
        *_figures(jobs, "tokens/check", "drafting", "draft cost", "check cost"),
        *_figures(jobs, "pairs", "± (spec.)"),
        *_figures(jobs, *(("J/token vanilla", "J/token speculative") if energy else ())),
    )
    marked = frozenset(place for place, job in enumerate(jobs) if job.job_id in advised)
    return Table(caption="Results of each setting", columns=columns, advised=marked)


def _reasons(record: SweepRecord, same: str | None = None) -> dict[str, str]:
    """Why jobs failed, by job id. `same`: said of all of them instead."""
    failed = (job for job in record.jobs if job.state == "failed")
    return {job.id: same or clip(job.error or "see its log", _REASON) for job in failed}


def _varying(jobs: Sequence[Comparison]) -> list[Column]:
    """What the jobs differ in, and n_draft."""
    names, settings = names_of(jobs), {job.job_id: settings_of(job) for job in jobs}

    def cell(key: str, job: Comparison) -> Cell:
        value = value_of(settings[job.job_id], key)
        return Cell(text=names.texts[key][job.job_id], value=value if isinstance(value, (int, float)) else None)

    keys = names.keys if N_DRAFT in names.keys else (*names.keys, N_DRAFT)
    columns = [column(names.titles[key], jobs, partial(cell, key)) for key in keys]
    return [replace(one, right=all(cell.value is not None for cell in one.cells)) for one in columns]


def _verdicts(rows: Sequence[Comparison], failed: Mapping[str, str]) -> Column:
    """Signs and words in the verdict's colour. `failed`: why jobs failed, by job id."""

    def cell(row: Comparison) -> Cell:
        if row.job_id in failed:
            return Cell(text=f"✗ failed: {failed[row.job_id]}", verdict=Verdict.INVALID.value)
        return Cell(text=" ".join(_verdict(row)).strip(), verdict=row.verdict.value)

    return column("verdict", rows, cell, right=False)


def _verdict(row: Comparison) -> tuple[str, str]:
    """Sign and words; `no baseline` where there is no ratio to judge, `drafted nothing` where vanilla ran twice."""
    if row.speculation == "none":
        return "", "vanilla"
    if row.drafted is False:
        return "∅", "drafted nothing"
    if best_estimate(row) is None and row.verdict is not Verdict.INVALID:
        return "–", "no baseline"
    return VERDICT_SIGNS[row.verdict], row.verdict.words


def _spread(mode: ModeStatistics | None, metric: str = "tokens_per_second") -> Cell:
    stats: Statistics | None = getattr(mode, metric, None)
    return Cell(text=plus_minus(stats, 1), value=stats.mean) if stats else Cell(text="")


# Title -> what a job's or a prompt's row has there.
_FIGURES: Mapping[str, Callable[[Comparison], Cell]] = {
    "speedup": lambda row: figure(best_estimate(row), 2, "×"),
    "95 % interval": lambda row: Cell(text=interval_words(row), value=row.ci_low),
    "vanilla tok/s": lambda row: _spread(row.vanilla),
    "speculative tok/s": lambda row: _spread(row.speculative),
    "TTFT ms": lambda row: _spread(row.speculative, "time_to_first_token_ms"),
    "accepted": lambda row: (
        Cell(text="0 drafted") if row.drafted is False else percentage(row.acceptance.rate if row.acceptance else None)
    ),
    "tokens/check": lambda row: figure(row.acceptance.tokens_per_round if row.acceptance else None, 1),
    "draft cost": lambda row: figure(row.cost_ratio),
    "check cost": lambda row: figure(row.decoding.batch_cost if row.decoding else None),
    "drafting": lambda row: percentage(row.decoding.draft_share if row.decoding else None),
    "prompt": lambda row: figure(row.request.prefill_ratio if row.request else None, 2, "×"),
    "in all": lambda row: figure(row.request.total_ratio if row.request else None, 2, "×"),
    "pairs": lambda row: figure(row.n_pairs, 0),
    "± (spec.)": lambda row: figure(row.speedup_stddev),
    "J/token vanilla": lambda row: figure(row.energy_j_per_token_vanilla),
    "J/token speculative": lambda row: figure(row.energy_j_per_token_speculative),
}


def _figures(rows: Sequence[Comparison], *titles: str) -> list[Column]:
    return [column(title, rows, _FIGURES[title]) for title in titles]


def prompt_table(rows: Sequence[Comparison], labels: Mapping[str, str]) -> Table:
    """One row a job and prompt."""
    columns = (
        column("prompt", rows, lambda row: row.prompt_id, right=False),
        column("category", rows, lambda row: row.prompt_category, right=False),
        column("setting", rows, lambda row: labels.get(row.job_id, row.job_id), right=False),
        *_figures(rows, "speedup", "95 % interval"),
        _verdicts(rows, {}),
        *_figures(rows, "vanilla tok/s", "speculative tok/s", "accepted"),
    )
    return Table(caption="Results of each prompt", columns=columns)


def category_table(advised: Sequence[Recommendation], rows: Sequence[Comparison]) -> Table | None:
    """One row a category and recommendation: the advised setting there, and the best setting there.

    None for fewer than two categories.
    """
    jobs = whole_jobs(rows)
    labels = names_of(jobs).labels
    found: list[tuple[str, Comparison, str, dict[str, float]]] = []
    question_of = {job.job_id: number for number, alike in enumerate(by_task(jobs).values()) for job in alike}
    rows_of = grouped(rows, lambda row: question_of.get(row.job_id))
    for best in answered_jobs(advised).values():
        for category, of_job in category_speedups(rows_of[question_of[best.job_id]]).items():
            found.append((category, best, max(of_job, key=of_job.__getitem__), of_job))
    if len({category for category, *_ in found}) < 2:
        return None
    columns = (
        column("category", found, lambda row: row[0], right=False),
        column("main model", found, lambda row: model_name(row[1].main_model), right=False),
        column("advised setting", found, lambda row: figure(row[3].get(row[1].job_id), 2, "×")),
        column("best here", found, lambda row: labels[row[2]], right=False),
        column("its speedup", found, lambda row: figure(row[3][row[2]], 2, "×")),
    )
    return Table(caption="Geometric mean speedup by category", columns=columns)
