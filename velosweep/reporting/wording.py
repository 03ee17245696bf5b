"""Figures and names in words, alike on the screen, in exports and in the report."""

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from velosweep.config.flags import as_typed
from velosweep.planning.job_names import JobNames, job_names
from velosweep.planning.job_settings import settings_of
from velosweep.records import SweepRecord
from velosweep.statistics.comparison import Comparison, Statistics
from velosweep.statistics.intervals import ONE_LAUNCH
from velosweep.statistics.ranking import best_estimate
from velosweep.values import Verdict

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

VERDICT_SIGNS = {
    Verdict.FASTER: "▲",
    Verdict.SLOWER: "▼",
    Verdict.NO_RELIABLE_GAIN: "≈",
    Verdict.NOT_CONVERGED: "?",
    Verdict.INVALID: "✗",
}


def number(value: float | None, digits: int = 2) -> str:
    """A figure with fixed decimals; an en dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """A share of 1 as per cent."""
    return "–" if share is None else f"{100 * share:.0f} %"


def plus_minus(stats: Statistics, digits: int = 2) -> str:
    """`28.43 ± 0.07`; without ± where there is only one sample."""
    spread = "" if stats.stddev is None else f" ± {stats.stddev:.{digits}f}"
    return f"{stats.mean:.{digits}f}{spread}"


_SAYS_NOTHING = 10.0  # an interval of a ratio whose ends are further apart than this: two runs that differ by chance
TOO_FEW_RUNS = "too few runs"


def is_informative(low: float | None, high: float | None) -> bool:
    """Whether the interval of a ratio is there, and not so wide that its ends would only confuse."""
    return low is not None and high is not None and high <= _SAYS_NOTHING * low


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """`[1.33, 1.49]`, of a ratio; empty where there is none, and in words where it says nothing."""
    if low is None or high is None:
        return ""
    return f"[{low:.{digits}f}, {high:.{digits}f}]" if is_informative(low, high) else f"({TOO_FEW_RUNS})"


def unpaired(comparison: Comparison) -> bool:
    """Whether the interval is Welch's, of runs that are not interleaved pairs (such as those a search dropped)."""
    return comparison.ci_low is not None and "welch" in (comparison.ci_method or "").lower()


def interval_words(comparison: Comparison) -> str:
    """`[1.33, 1.49]`, with `unpaired` where it is: such an interval is not protected from drift.

    Empty where there is no speedup.
    """
    if best_estimate(comparison) is None:
        return ""
    text = interval(comparison.ci_low, comparison.ci_high)
    return f"{text} unpaired" if unpaired(comparison) else text


def method_words(ci_method: str) -> str:
    """How an interval was computed; that servers were started once is said elsewhere, and better."""
    return ci_method.replace(ONE_LAUNCH, "")


def interval_source(ci_method: str) -> str:
    """What an interval was computed from, in plain words; the report's method section names the method."""
    if ci_method.startswith("moderated"):
        return "the interval is from pairs of runs, noise pooled over the rounds' settings"
    return f"the interval is from {'pairs of' if ci_method.startswith('paired') else 'unpaired'} runs"


def speedup_words(comparison: Comparison) -> str:
    """`1.41× [1.33, 1.49]`: the geometric mean ratio and its 95 % interval."""
    value = best_estimate(comparison)
    if value is None:
        return "no speedup measured"
    return " ".join(filter(None, (f"{value:.2f}×", interval(comparison.ci_low, comparison.ci_high))))


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds <= 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def join_words(items: Iterable[str]) -> str:
    """`a, b and c`."""
    *head, last = list(items) or [""]
    return f"{', '.join(head)} and {last}" if head else last


def failure_alike(error: str) -> str:
    """What is the same in the errors of servers that died alike: all but where their logs are."""
    return re.sub(r" ?\(log: [^)]*\)", "", error)


def failure_sentences(record: SweepRecord, told: Collection[str] = ()) -> list[str]:
    """Which settings failed and why, a sentence for those that failed alike. `told`: of which jobs that is above."""
    failed = (job for job in record.jobs if job.state == "failed")
    alike = grouped(failed, lambda job: failure_alike(job.error or "see its log"))
    labels = recorded_names(record).labels if alike else {}
    return [
        f"{'The job' if record.single else '; '.join(first_few([labels[job.id] for job in jobs], 3))} failed: "
        + ("see above" if jobs[0].id in told else as_typed(jobs[0].error or "see its log", record.command))
        for jobs in alike.values()
    ]


def first_few(items: Sequence[str], most: int) -> list[str]:
    """The first `most` items, and how many more there are."""
    return [*items[:most], *([f"{len(items) - most} more"] if len(items) > most else [])]


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by their keys, both in the order given."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def whole_jobs(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons over a job's whole prompt set, in the order of the jobs."""
    rows = [comparison for comparison in comparisons if comparison.prompt_id is None]
    return sorted(rows, key=lambda row: (row.job_num is None, row.job_num or 0, row.job_id))


def by_prompt(comparisons: Iterable[Comparison], job_id: str) -> list[Comparison]:
    """The comparisons of one job's prompts, as given."""
    return [row for row in comparisons if row.prompt_id is not None and row.job_id == job_id]


def names_of(rows: Iterable[Comparison]) -> JobNames:
    """What tells jobs apart: their settings, and where they ran as far as no setting says that."""
    return _names_of(_Same(tuple(rows)))


class _Same(NamedTuple):
    """Comparisons that count as equal where they are the same objects: those of a sweep are named time and again."""

    jobs: tuple[Comparison, ...]

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.jobs)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and tuple(map(id, self.jobs)) == tuple(map(id, other.jobs))


@lru_cache(maxsize=4)
def _names_of(same: _Same) -> JobNames:
    settings = {job.job_id: {**settings_of(job), "engine": job.engine, "device": job.device} for job in same.jobs}
    return job_names(settings, {job.job_id: job.job_num for job in same.jobs})


def recorded_names(record: SweepRecord) -> JobNames:
    """What tells all jobs of a sweep apart, measured or not."""
    settings = {job.id: settings_of(job) for job in record.jobs}
    return job_names(settings, {job.id: job.num for job in record.jobs})


def jobs_by_series(rows: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Jobs that differ only in n_draft, by label (empty where there is one series), each in order of n_draft."""
    jobs = list(rows)
    names = names_of(jobs).series
    series = grouped(jobs, lambda job: names[job.job_id])
    return {name: sorted(members, key=lambda job: job.n_draft) for name, members in series.items()}


MOST_SERIES = 8  # lines of a chart that can be told apart


def leading_series(rows: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """As `jobs_by_series`, but at most MOST_SERIES: those that reached the highest speedups."""
    series = jobs_by_series(rows)
    reached = {name: max(best_estimate(job) or 0.0 for job in members) for name, members in series.items()}
    leading = sorted(series, key=lambda name: -reached[name])[:MOST_SERIES]
    return {name: members for name, members in series.items() if name in leading}


def target_of(record: SweepRecord, job_id: str) -> float:
    """The target speedup a job was held against."""
    job = record.job(job_id)
    return job.target_speedup if job else 1.5


def without_speedup(job: Comparison, record: SweepRecord) -> str:
    """Why a job has no speedup: vanilla was left out on request, or what was asked for could not be used."""
    if job.speculation == "none":
        return "this setting does not speculate"
    if job.vanilla is None and (entry := record.job(job.job_id)) and entry.skip_vanilla:
        return "vanilla was skipped"
    if job.vanilla is None and job.speculative is None:
        return "there are no valid runs"
    if job.vanilla is None:
        return "there is no valid vanilla run"
    return "there is no valid speculative run" if job.speculative is None else "there are no valid pairs of runs"
