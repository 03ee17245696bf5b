"""What a sweep over several baselines says, in sentences: builds of llama.cpp beside the first, and of engine
settings and quantisations which is the fastest of all, and its price."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from velosweep.planning.job_names import JobNames
from velosweep.planning.job_settings import MAIN, settings_of, value_of
from velosweep.records import SweepRecord
from velosweep.reporting.wording import grouped, interval, is_informative, names_of
from velosweep.statistics.best_of_several import task_of
from velosweep.statistics.builds import SharedRounds, series_of
from velosweep.statistics.comparison import BuildComparison, Comparison
from velosweep.statistics.intervals import WELCH, Interval, Ratio, welch_ratio
from velosweep.statistics.ranking import Leader, leaders
from velosweep.units import bytes_words, plural

_MOST_SETTINGS = 3
_MOST_NAMED = 4
_MOST_ARMS = 16  # series by which the noise of shared rounds is judged; more cost more than they tell


def build_answers(jobs: Sequence[Comparison], record: SweepRecord) -> Iterator[str]:
    """A sentence for each further build and load: without speculation, then the settings that changed most."""
    names, by_id = names_of(jobs), {job.job_id: job for job in jobs}
    of_build: dict[tuple[str, str], list[BuildComparison]] = defaultdict(list)
    for job in jobs:
        if (twins := job.beside_first) is not None:
            new, old = (names.vanilla[name].removeprefix("vanilla, ") for name in (job.job_id, twins.reference))
            of_build[new, old].append(twins)
    one_start = all(job.launches == 1 for job in record.jobs)
    for (new, old), members in of_build.items():
        labels = names_of([by_id[twins.reference] for twins in members]).labels
        vanilla = members[0].vanilla
        told = [(labels[twins.reference], twins.speculative) for twins in members if twins.speculative is not None]
        told.sort(key=lambda entry: -abs(entry[1].ratio - 1))
        parts = [f"{_words(vanilla)} without speculation"] if vanilla is not None else []
        parts += [f"{_words(ratio)} with {label or 'speculation'}" for label, ratio in told[:_MOST_SETTINGS]]
        if not parts:
            continue
        if len(told) > _MOST_SETTINGS:
            parts.append(f"{len(told) - _MOST_SETTINGS} more settings changed less")
        found = [*([vanilla] if vanilla else []), *(ratio for _, ratio in told)]
        yield f"{new[0].upper()}{new[1:]} against {old}: {'; '.join(parts)}.{_rests_on(found, one_start)}"


def _words(ratio: Interval) -> str:
    told = f"{ratio.ratio:.2f}× {interval(ratio.low, ratio.high)}"
    if not is_informative(ratio.low, ratio.high):
        return told
    return f"{told} ({'slower' if ratio.high < 1 else 'faster' if ratio.low > 1 else 'no change seen'})"


def _rests_on(ratios: Sequence[Interval], one_start: bool) -> str:
    """What the intervals don't hold."""
    told = ""
    if any(ratio.method == WELCH for ratio in ratios):
        told = " The builds did not take turns: a drift of the machine would look the same."
    if one_start and any(ratio.low > 1 or ratio.high < 1 for ratio in ratios):
        told += " One start of each: protocol.launches=3 shows whether another start does the same."
    return told


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """What one baseline reached by the faster way to run it.

    `rates`: tokens a second, run by run, of the series `arm`; `words`: `q8_0 main model, n_draft 4: 31.4 tok/s in
    393 MB`.
    """

    job: Comparison
    baseline_id: str
    arm: str
    rates: tuple[float, ...]
    words: str


def fastest_of_all(
    jobs: Sequence[Comparison], record: SweepRecord, samples: pa.Table | None = None
) -> Iterator[tuple[str, str]]:
    """For each load and set of prompts that several baselines were measured under, but for builds: the two fastest in a
    sentence, and all there is to say.

    With the sweep's `samples` the intervals are of the rounds that they shared, and it says whether their answers
    differ; else, and where they shared none, these are Welch's. The first is compared with each other one so that all
    intervals hold together with 95 %: it was chosen for being the fastest.
    """

    if any(job.beside_first is not None for job in jobs):  # build_answers says more of them
        return
    names, baseline_of = names_of(jobs), record.baselines
    for competing in grouped(jobs, lambda job: frozenset(one for one in task_of(job) if one[0] != MAIN)).values():
        found = [_entry(leader, names, record) for leader in leaders(competing, record)]
        entries = [entry for entry in found if entry is not None]
        if len(entries) > 1:
            leading = [arm for entry in entries for arm in (entry.arm, entry.baseline_id)]
            others = [arm for job in competing for arm in (job.job_id, baseline_of.get(job.job_id, ""))]
            arms = list(dict.fromkeys([*leading, *others]))[: max(len(leading), _MOST_ARMS)]
            series = {} if samples is None else series_of(samples, set(arms))
            yield _told(entries, SharedRounds(series), samples)


def _entry(leader: Leader, names: JobNames, record: SweepRecord) -> _Entry | None:
    job, mode = leader.job, leader.mode
    if mode is None or not mode.tokens_per_second.samples:
        return None
    if leader.speculates:
        name, memory, files = names.labels[job.job_id], job.memory_bytes_speculative, (job.main_model, job.draft_model)
    else:
        plain = names.vanilla[job.job_id].removeprefix("vanilla, ")
        name, memory, files = f"{plain}, no speculation", job.memory_bytes_vanilla, (job.main_model, None)
    known = {model.path: model.size_bytes for model in record.environment.models}
    sizes = [known.get(path) for path in files if path]
    where = "" if memory is None else f" in {bytes_words(memory)}"
    if memory is None and None not in sizes:
        where = f" in {bytes_words(sum(filter(None, sizes)))} of files"
    rates = mode.tokens_per_second.samples
    return _Entry(
        job=job,
        baseline_id=leader.baseline_id,
        arm=job.job_id if leader.speculates else leader.baseline_id,
        rates=rates,
        words=f"{name}: {sum(rates) / len(rates):.1f} tok/s{where}",
    )


def _told(entries: Sequence[_Entry], series: SharedRounds, samples: pa.Table | None) -> tuple[str, str]:
    """The first two in a sentence, and the same with the others and whether the answers of the two differ."""
    first, second, *others = entries
    ratios = [_ratio(first, other, series, confidence=1 - 0.05 / (len(entries) - 1)) for other in entries[1:]]
    found = ratios[0].interval
    bounds = found and interval(found.low, found.high)
    text = f"Fastest of all: {first.words}, {ratios[0].ratio:.2f}×{f' {bounds}' if bounds else ''} of {second.words}"
    equal = sum(ratio.interval is None or ratio.interval.low <= 1 for ratio in ratios)
    if equal:
        text += ", which may be as fast" if equal == 1 else f", which may be as fast, as {equal - 1} more may"
    further = f"; then {'; '.join(entry.words for entry in others[: _MOST_NAMED - 2])}" if others else ""
    if len(entries) > _MOST_NAMED:
        further += f"; {len(entries) - _MOST_NAMED} more"
    by_rounds = found is not None and found.method != WELCH
    apart = "" if by_rounds else " Not compared round by round."
    answers = _answers(first, second, samples, "The first two" if others else "Both")
    return f"{text}.", f"{text}{further}.{apart} {answers}".strip()


def _ratio(first: _Entry, other: _Entry, series: SharedRounds, *, confidence: float) -> Ratio:
    found = series.ratio(first.arm, other.arm)
    if found is not None:
        return Ratio(ratio=found.ratio, interval=found.at(confidence))
    return welch_ratio(*([math.log(rate) for rate in one.rates] for one in (other, first)), confidence=confidence)


def _answers(first: _Entry, second: _Entry, samples: pa.Table | None, they: str) -> str:
    """Whether the two write the same text, by what their vanilla servers wrote under greedy decoding."""
    texts = [_texts(entry, samples) for entry in (first, second)]
    both = texts[0].keys() & texts[1].keys()
    changed = sum(texts[0][prompt] != texts[1][prompt] for prompt in both)
    if both and not changed:
        return f"{they} write the same text on {plural(len(both), 'prompt')}."
    why = "Other weights" if first.job.main_model != second.job.main_model else "These settings"
    if both:
        return (
            f"{why} give other answers, on {changed} of {plural(len(both), 'prompt')}: how good they are is not known."
        )
    return f"{why} may give other answers: that was not compared." if why == "Other weights" else ""


def _texts(entry: _Entry, samples: pa.Table | None) -> dict[str, set[str]]:
    """Hashes of what the vanilla server wrote, by prompt; empty where sampling makes each text another one."""
    if samples is None or value_of(settings_of(entry.job), "sampling.temperature"):
        return {}
    wanted = (pc.field("job_id") == entry.baseline_id) & ~pc.field("warmup") & (pc.field("status") == "ok")
    rows = samples.filter(wanted).select(["prompt_id", "output_sha256"]).to_pylist()
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["output_sha256"]:
            found.setdefault(row["prompt_id"], set()).add(row["output_sha256"])
    return found
