"""What has been measured of a sweep so far, by the events of its runs."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from velosweep.config.settings import Job
from velosweep.planning.measurements import Measurement, most_iterations
from velosweep.statistics.intervals import Ratio, t_ratio
from velosweep.values import Mode, Sample, Status

MOST_LEADERS = 5


@dataclass(slots=True)
class _Pass:
    """One server's runs over the prompt set in one iteration, added up."""

    runs: int = 0
    tokens: int = 0  # after the first of each run
    decoding_ms: float = 0.0
    total_ms: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return 1000 * self.tokens / self.decoding_ms


@dataclass(slots=True)
class SweepProgress:
    """What has been measured so far."""

    jobs: Sequence[Job]
    done: int = 0
    bad: int = 0
    groups: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # begun, by baseline
    passes: dict[tuple[str, int, int, int], _Pass] = field(default_factory=lambda: defaultdict(_Pass))
    log_ratios: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of complete pairs, by job
    ratios: dict[str, Ratio] = field(default_factory=dict)  # of all a job's pairs, where they were asked for
    of_baseline: dict[str, list[Job]] = field(init=False)
    _runs_of_baseline: dict[str, tuple[int, int]] = field(init=False)  # vanilla's of a group, all jobs'

    def __post_init__(self) -> None:
        self.of_baseline = defaultdict(list)
        for job in self.jobs:
            self.of_baseline[job.baseline_id].append(job)
        self._runs_of_baseline = {}
        for baseline_id, jobs in self.of_baseline.items():
            times = [most_iterations(job) * len(job.prompts.prompts) for job in jobs]
            own = sum(runs for job, runs in zip(jobs, times, strict=True) if job.speculation.kinds)
            self._runs_of_baseline[baseline_id] = (0 if jobs[0].skip_vanilla else times[0], own)

    def expected(self) -> int:
        """Measurements known to come, warm-ups apart; adaptive jobs count at their maximum."""
        runs = self._runs_of_baseline.items()
        total = sum(max(len(self.groups[baseline]), 1) * vanilla + own for baseline, (vanilla, own) in runs)
        return max(total, self.done)

    def add(self, measurement: Measurement, sample: Sample) -> _Pass | None:
        """Count a run; returns its pass if this run completes it. Each pair that this completes adds its log ratio."""
        if measurement.warmup:
            return None
        self.done += 1
        if sample.status is not Status.OK or not sample.predicted_ms or not sample.predicted_tokens:
            self.bad += 1
            return None
        own, job, place = self.passes[measurement.key[:4]], measurement.job, measurement.key[1:4]
        own.runs += 1
        own.tokens += sample.predicted_tokens - 1
        own.decoding_ms += sample.predicted_ms
        own.total_ms += sample.total_time_ms or 0.0
        if own.runs != len(job.prompts.prompts):
            return None
        for other in self.of_baseline[job.baseline_id] if measurement.server.mode is Mode.VANILLA else [job]:
            fast, base = self.passes.get((other.id, *place)), self.passes.get((other.baseline_id, *place))
            if fast and base and fast.runs == base.runs == len(other.prompts.prompts):
                self.log_ratios[other.id].append(math.log(fast.tokens_per_second / base.tokens_per_second))
                self.ratios.pop(other.id, None)
        return own

    def leaders(self, most: int = MOST_LEADERS) -> list[tuple[Job, Ratio]]:
        """The jobs with the highest speedups so far: geometric mean of the complete pairs, and its 95 % interval."""
        for job_id in self.log_ratios.keys() - self.ratios.keys():
            self.ratios[job_id] = t_ratio(self.log_ratios[job_id])
        found = [(job, self.ratios[job.id]) for job in self.jobs if job.id in self.ratios]
        return nlargest(most, found, key=lambda entry: entry[1].ratio or 0.0)
