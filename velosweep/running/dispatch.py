"""All lanes of a sweep at once, each serial in itself. joblib runs them as threads of this process.

Threads and not processes: a lane waits for its servers nearly all the time, and joblib's process pool ends
every other worker when one dies. A dead server is the lane's own business; the journal is the truth.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from velosweep.analysis.stopping import decide
from velosweep.model import (
    Arm,
    ArmFailed,
    ArmReady,
    Block,
    BlockEnded,
    Event,
    Lane,
    Measurement,
    Observer,
    Protocol,
    RunEnded,
    Sample,
)
from velosweep.planning.lanes import Estimator, Queues
from velosweep.running.conditions import Monitor, rest_needed_s, wait_until_cool
from velosweep.running.interrupts import StopFlag
from velosweep.running.lane import Key, LaneTools, run_lane
from velosweep.running.prepare import Prepared
from velosweep.running.residency import Residency
from velosweep.running.sampling import OutputKey, SampleMaker
from velosweep.storage.journal import Journal
from velosweep.storage.paths import SweepPaths


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What an earlier run of this sweep left: good samples by key, vanilla outputs, the next order numbers."""

    done: dict[Key, Sample] = field(default_factory=dict)
    outputs: dict[OutputKey, tuple[int, ...]] = field(default_factory=dict)
    next_order: int = 0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How the lanes ended: why jobs failed, and which jobs were seen through to their end, by job id."""

    errors: dict[str, str]
    ended: frozenset[str]
    interrupted: bool


def measure(
    blocks: Sequence[Block],
    prepared: Prepared,
    *,
    sweep_id: str,
    root: Path,
    journal: Journal,
    observe: Observer,
    stop: StopFlag,
    progress: Progress,
) -> Measured:
    """Run all blocks over the lanes; every sample is in the journal when this returns. Raises StorageError."""
    from joblib import Parallel, delayed

    watch = _Watch(journal=journal, observe=observe, estimator=Estimator(model_bytes=prepared.model_bytes))
    queues = Queues(lanes=len(prepared.lanes), estimate=watch.estimator.block_s)
    queues.fill(blocks)
    lock = threading.Lock()

    def next_block_for(number: int) -> Callable[[], Block | None]:
        def next_block() -> Block | None:
            with lock:
                return queues.take(number)

        return next_block

    def lane_task(index: int, lane: Lane) -> None:
        tools = _tools(lane, prepared, sweep_id, SweepPaths(root), watch, stop, progress)
        try:
            run_lane(next_block_for(index), tools)
        except BaseException:
            stop.request()  # a lane that can't go on (disk full) ends the others after the run under way
            raise

    tasks = [delayed(lane_task)(index, lane) for index, lane in enumerate(prepared.lanes)]
    Parallel(n_jobs=len(tasks), backend="threading")(tasks)
    return Measured(errors=watch.errors, ended=frozenset(watch.ended), interrupted=stop.requested)


@dataclass(kw_only=True)
class _Watch:
    """Passes events on, one at a time, and keeps what the end of the sweep needs to know."""

    journal: Journal
    observe: Observer
    estimator: Estimator
    errors: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def event(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, ArmFailed):
                self._failed(event)
            elif isinstance(event, ArmReady):
                self.estimator.learn_load(event.arm.main_model, event.load_s)
                self.journal.note("launch", arm=event.arm.id, load_s=event.load_s, memory_bytes=event.memory_bytes)
            elif isinstance(event, RunEnded) and event.sample.total_time_ms:
                self.estimator.learn_run(
                    event.sample.main_model, event.sample.n_predict, event.sample.total_time_ms / 1000
                )
            elif isinstance(event, BlockEnded):
                self.ended.update(job.id for job in event.block.jobs)
            self.observe(event)

    def _failed(self, event: ArmFailed) -> None:
        for job in event.jobs:
            self.errors.setdefault(job.id, event.error)
            self.journal.note("job", job_id=job.id, state="failed", error=event.error)

    def record(self, measurement: Measurement, sample: Sample) -> None:
        self.journal.append(sample)

    def output(self, key: OutputKey, tokens: tuple[int, ...]) -> None:
        self.journal.note("output", baseline_id=key[0], prompt_id=key[1], tokens=list(tokens))


def _tools(
    lane: Lane,
    prepared: Prepared,
    sweep_id: str,
    paths: SweepPaths,
    watch: _Watch,
    stop: StopFlag,
    progress: Progress,
) -> LaneTools:
    maker = SampleMaker(
        sweep_id=sweep_id,
        lane=lane,
        host=prepared.environment.host,
        engine_of=prepared.engine_of,
        outputs=dict(progress.outputs),
        on_output=watch.output,
        next_order=progress.next_order,
    )

    def log_path(arm: Arm, launch: int) -> Path:
        return paths.log(arm.id, launch)

    monitor = Monitor(lane, nvml=prepared.nvml, own_pids=lambda: tuple(watch.pids))

    def rest(protocol: Protocol, baseline: float, latest: float) -> float:
        needed_s = rest_needed_s(baseline=baseline, latest=latest, protocol=protocol)
        return wait_until_cool(needed_s, should_stop=lambda: stop.requested) if needed_s else 0.0

    residency = Residency(lane=lane, model_bytes=prepared.model_bytes, nvml=prepared.nvml)
    return LaneTools(
        engine_of=prepared.engine_of,
        lane=lane,
        maker=maker,
        record=watch.record,
        observe=watch.event,
        stop=stop,
        monitor=monitor,
        log_path=log_path,
        done=progress.done,
        pids=watch.pids,
        require_room=residency.require_room,
        on_memory=residency.seen,
        rest=rest,
        converged=lambda vanilla, speculative, adaptive: decide(vanilla, speculative, adaptive).stop,
    )
