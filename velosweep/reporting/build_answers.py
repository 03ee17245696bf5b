"""Builds of llama.cpp beside the first of a sweep, in sentences: did the update slow it?"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from velosweep.records import SweepRecord
from velosweep.reporting.wording import interval, is_informative, names_of
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.intervals import WELCH, Interval

_MOST_SETTINGS = 3


def build_answers(jobs: Sequence[Comparison], record: SweepRecord) -> Iterator[str]:
    """A sentence for each further build and load: without speculation, then the settings that changed most."""
    names, by_id = names_of(jobs), {job.job_id: job for job in jobs}
    of_build: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for job in jobs:
        if job.beside_first is not None:
            twins = (names.vanilla[name].removeprefix("vanilla, ") for name in (job.job_id, job.beside_first.reference))
            new, old = twins
            of_build[new, old].append(job)
    one_start = all(job.launches == 1 for job in record.jobs)
    for (new, old), members in of_build.items():
        settings = names_of([by_id[job.beside_first.reference] for job in members if job.beside_first])
        parts = []
        vanilla = next((job.beside_first.vanilla for job in members if job.beside_first), None)
        if vanilla is not None:
            parts.append(f"{_words(vanilla)} without speculation")
        drafted = [(job.beside_first.speculative, job.beside_first.reference) for job in members if job.beside_first]
        told = [(ratio, name) for ratio, name in drafted if ratio is not None]
        told.sort(key=lambda pair: -abs(pair[0].ratio - 1))
        parts += [
            f"{_words(ratio)} with {settings.labels[name] or 'speculation'}" for ratio, name in told[:_MOST_SETTINGS]
        ]
        if not parts:
            continue
        if len(told) > _MOST_SETTINGS:
            parts.append(f"{len(told) - _MOST_SETTINGS} more settings changed less")
        found = [ratio for ratio in (vanilla, *(ratio for ratio, _ in told)) if ratio is not None]
        yield f"{new[0].upper()}{new[1:]} against {old}: {'; '.join(parts)}.{_rests_on(found, one_start)}"


def _words(ratio: Interval) -> str:
    told = f"{ratio.ratio:.2f}× {interval(ratio.low, ratio.high)}"
    if not is_informative(ratio.low, ratio.high):
        return told
    return f"{told} ({'slower' if ratio.high < 1 else 'faster' if ratio.low > 1 else 'no change seen'})"


def _rests_on(ratios: Sequence[Interval], one_start: bool) -> str:
    """What the intervals don't hold."""
    if any(ratio.method == WELCH for ratio in ratios):
        return " The builds did not take turns: a drift of the machine would look the same."
    if one_start and any(ratio.low > 1 or ratio.high < 1 for ratio in ratios):
        return " One start of each: protocol.launches=3 shows whether another start does the same."
    return ""
