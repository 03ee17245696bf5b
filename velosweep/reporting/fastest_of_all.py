"""Over several main models (quantisations of one, say): which is the fastest of all, and what it gives up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from velosweep.planning.job_names import shortened
from velosweep.planning.job_settings import MAIN
from velosweep.records import SweepRecord
from velosweep.reporting.recommendation import Recommendation
from velosweep.reporting.wording import interval, job_labels
from velosweep.statistics.best_of_several import question_of
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.intervals import welch_ratio
from velosweep.units import bytes_words


@dataclass(frozen=True, kw_only=True, slots=True)
class _Leader:
    """The best that one main model reached. `rates`: tokens a second, run by run."""

    main_model: str
    setting: str
    rates: tuple[float, ...]
    size: int | None

    @property
    def rate(self) -> float:
        return sum(self.rates) / len(self.rates)


def fastest_of_all(found: Sequence[Recommendation], jobs: Sequence[Comparison], record: SweepRecord) -> Iterator[str]:
    """A sentence for each load and set of prompts that several main models were measured under.

    Their runs were not taken in the same rounds: the interval is Welch's, of independent series.
    """
    asked: dict[object, list[_Leader]] = {}
    labels = job_labels(jobs)
    sizes = {model.path: model.size_bytes for model in record.environment.models}
    for answer in found:
        leader = _leader(answer, labels, sizes)
        if answer.job is not None and leader is not None:
            task = frozenset((key, value) for key, value in question_of(answer.job) if key != MAIN)
            asked.setdefault(task, []).append(leader)
    for leaders in asked.values():
        if len({leader.main_model for leader in leaders}) > 1:
            yield _sentence(sorted(leaders, key=lambda leader: -leader.rate))


def _leader(answer: Recommendation, labels: Mapping[str, str], sizes: Mapping[str, int]) -> _Leader | None:
    job = answer.job
    if job is None:
        return None
    speculates = answer.kind == "run"
    mode = job.speculative if speculates else job.vanilla
    if mode is None or not mode.tokens_per_second.samples:
        return None
    files = [job.main_model, *([job.draft_model] if speculates and job.draft_model else [])]
    return _Leader(
        main_model=job.main_model,
        setting=labels[job.job_id] if speculates else "no speculation",
        rates=mode.tokens_per_second.samples,
        size=sum(sizes[path] for path in files) if all(path in sizes for path in files) else None,
    )


def _sentence(leaders: Sequence[_Leader]) -> str:
    first, second = leaders[:2]
    short = shortened({leader.main_model for leader in leaders})
    logs = [[math.log(rate) for rate in leader.rates] for leader in (second, first)]
    ratio = welch_ratio(*logs)
    bounds = ratio.interval and interval(ratio.interval.low, ratio.interval.high)
    sure = ratio.interval is not None and ratio.interval.low > 1
    beside = f"{ratio.ratio:.2f}×{f' {bounds}' if bounds else ''} the best of {short[second.main_model]}"
    text = f"Fastest of all: {short[first.main_model]} with {first.setting}, {first.rate:.1f} tok/s, {beside}"
    if not sure:
        text += ", which may be as fast"
    if first.size is not None and second.size is not None:
        text += f"; its files take {bytes_words(first.size)}, the other's {bytes_words(second.size)}"
    return f"{text}. Another main model answers differently: that was not compared."
