"""Over several baselines (engine settings, quantisations of a model): which is the fastest of all, and its price."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from velosweep.planning.job_names import JobNames
from velosweep.planning.job_settings import MAIN, settings_of, value_of
from velosweep.records import SweepRecord
from velosweep.reporting.wording import interval, names_of
from velosweep.statistics.best_of_several import question_of
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.intervals import welch_ratio
from velosweep.statistics.ranking import Leader, leaders
from velosweep.units import bytes_words, plural

_MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """What one baseline reached. `rates`: tokens a second, run by run; `memory`: bytes, of files where `of_files`."""

    job: Comparison
    baseline_id: str
    name: str
    rates: tuple[float, ...]
    memory: int | None
    of_files: bool

    @property
    def words(self) -> str:
        """`q8_0 main model, n_draft 4: 31.4 tok/s in 393 MB`."""
        where = "" if self.memory is None else f" in {bytes_words(self.memory)}{' of files' if self.of_files else ''}"
        return f"{self.name}: {sum(self.rates) / len(self.rates):.1f} tok/s{where}"


def fastest_of_all(
    jobs: Sequence[Comparison], record: SweepRecord, samples: pa.Table | None = None, *, brief: bool = False
) -> Iterator[str]:
    """A sentence for each load and set of prompts that several baselines were measured under; none for builds.

    Their runs are not paired, be they of the same rounds or not: the interval is Welch's. With the sweep's
    `samples` it says whether their answers differ. `brief`: the two fastest alone.
    """

    def task(job: Comparison) -> list[str]:
        return sorted(f"{key}={value}" for key, value in question_of(job) if key != MAIN)

    if any(job.beside_first is not None for job in jobs):  # build_answers says more of them
        return
    names = names_of(jobs)
    for _, alike in groupby(sorted(jobs, key=task), task):
        found = [_entry(leader, names, record) for leader in leaders(alike, record)]
        entries = [entry for entry in found if entry is not None]
        if len(entries) > 1:
            yield f"{_first_two(entries)}." if brief else _sentence(entries, samples)


def _entry(leader: Leader, names: JobNames, record: SweepRecord) -> _Entry | None:
    job, mode = leader.job, leader.mode
    if mode is None or not mode.tokens_per_second.samples:
        return None
    plain = names.vanilla[job.job_id].removeprefix("vanilla, ")
    memory, sizes = job.memory_bytes_vanilla, {model.path: model.size_bytes for model in record.environment.models}
    files = [job.main_model]
    if leader.speculates:
        memory = job.memory_bytes_speculative
        files += [job.draft_model] if job.draft_model else []
    of_files = memory is None and all(path in sizes for path in files)
    return _Entry(
        job=job,
        baseline_id=leader.baseline_id,
        name=names.labels[job.job_id] if leader.speculates else f"{plain}, no speculation",
        rates=mode.tokens_per_second.samples,
        memory=sum(sizes[path] for path in files) if of_files else memory,
        of_files=of_files,
    )


def _first_two(entries: Sequence[_Entry]) -> str:
    first, second = entries[:2]
    ratio = welch_ratio([math.log(rate) for rate in second.rates], [math.log(rate) for rate in first.rates])
    bounds = ratio.interval and interval(ratio.interval.low, ratio.interval.high)
    sure = ratio.interval is not None and ratio.interval.low > 1
    text = f"Fastest of all: {first.words}, {ratio.ratio:.2f}×{f' {bounds}' if bounds else ''} of {second.words}"
    return text if sure else f"{text}, which may be as fast"


def _sentence(entries: Sequence[_Entry], samples: pa.Table | None) -> str:
    first, second, *others = entries
    text = _first_two(entries)
    if others:
        text += f"; then {'; '.join(entry.words for entry in others[: _MOST_NAMED - 2])}"
        if len(entries) > _MOST_NAMED:
            text += f"; {len(entries) - _MOST_NAMED} more"
    answers = _answers(first, second, samples, "The first two" if others else "Both")
    return f"{text}. Not compared round by round. {answers}".strip()


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
