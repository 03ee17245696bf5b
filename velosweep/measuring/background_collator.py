"""What the end of a sweep needs is done while servers load: imports, and the files of jobs that are through.

Runs that count wait until nothing of this works. Nothing depends on it: the end of the sweep does what was not done.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence

from velosweep.errors import VelosweepError
from velosweep.measuring.preload import Preload
from velosweep.planning.server_groups import ServerGroup
from velosweep.records import JobRecord
from velosweep.results.precomputed import PrecomputedResults, owners
from velosweep.values import Sample

# Samples that wait in memory for their block's end take some kB each: of larger blocks nothing is done ahead.
MOST_WAITING = 10_000
# What is kept of the work, for the end: some MB. A larger sweep's end works through all of it part by part.
MOST_KEPT = 100_000

Work = Callable[[Sequence[JobRecord], Sequence[Sample]], PrecomputedResults]


class BackgroundCollator:
    """Works out a baseline's jobs as soon as the last of its blocks has ended. Safe to use from any thread.

    `work(jobs, samples)` writes their files. A sweep that measures a draft model as a main model, too, is left to
    its end, as that connects the costs of several baselines.
    """

    def __init__(self, groups: Sequence[ServerGroup], jobs: Sequence[JobRecord], work: Work, preload: Preload) -> None:
        self._work = work
        self._preload = preload
        self._left = Counter(group.jobs[0].baseline_id for group in groups)
        self._jobs: dict[str, list[JobRecord]] = defaultdict(list)
        for job in jobs:
            self._jobs[job.baseline_id].append(job)
        self._off = bool({job.main_model for job in jobs} & {job.draft_model for job in jobs})
        self._samples: dict[str, list[Sample]] = defaultdict(list)
        self._waiting = 0
        self._due: deque[tuple[list[JobRecord], list[Sample]]] = deque()
        self._ready: list[PrecomputedResults] = []
        self._kept = 0  # their rows
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.error: VelosweepError | None = None

    def saw(self, sample: Sample) -> None:
        """A sample was recorded."""
        with self._lock:
            if self._off:
                return
            self._samples[sample.job_id].append(sample)
            self._waiting += 1
            if self._waiting > MOST_WAITING:
                self._give_up()

    def ended(self, group: ServerGroup) -> None:
        """Nothing of a block is left to do."""
        with self._lock:
            baseline = group.jobs[0].baseline_id
            self._left[baseline] -= 1
            if self._off or self._left[baseline]:
                return
            jobs = self._jobs[baseline]
            samples = [sample for owner in sorted(owners(jobs)) for sample in self._samples.pop(owner, [])]
            self._due.append((jobs, samples))

    def begin(self) -> None:
        """Work in the background while there is something to do; returns at once."""
        with self._lock:
            if self._thread is None or (self._due and not self.working):
                self._thread = threading.Thread(target=self._work_off, daemon=True, name="velosweep-ahead")
                self._thread.start()

    def finish(self) -> None:
        """Return when nothing works in the background and what the end needs is imported."""
        if self._thread is None:
            self.begin()
        if self._thread is not None:
            self._thread.join()

    @property
    def working(self) -> bool:
        """Whether something works in the background."""
        return self._thread is not None and self._thread.is_alive()

    def results(self) -> tuple[PrecomputedResults, ...]:
        """What was worked out."""
        self.finish()
        return tuple(self._ready)

    def _work_off(self) -> None:
        self._preload.finish()
        while True:
            with self._lock:
                if not self._due:
                    return
                jobs, samples = self._due.popleft()
                self._waiting -= len(samples)
            try:
                one = self._work(jobs, samples)
            except VelosweepError as error:  # the end of the sweep tries again, and says what is wrong
                with self._lock:
                    self.error = error
                    self._give_up()
                return
            with self._lock:
                self._ready.append(one)
                self._kept += sum(one.rows.values())
                if self._kept > MOST_KEPT:
                    self._ready.clear()
                    self._give_up()

    def _give_up(self) -> None:
        self._off = True
        self._samples.clear()
        self._due.clear()
        self._waiting = 0
