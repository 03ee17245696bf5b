"""All lanes of a sweep at once, each serial in itself. joblib runs them as threads of this process.

Threads and not processes: a lane waits for its servers nearly all the time, and joblib's process pool ends
every other worker when one dies. A dead server is the lane's own business; the journal is the truth.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from velosweep.config.settings import Job, Protocol
from velosweep.llama_cpp.engine import ServerConfig, Session
from velosweep.machine.conditions import Monitor, rest_needed_s, wait_until_cool
from velosweep.machine.memory import held_bytes, is_cpu
from velosweep.measuring.background_collator import BackgroundCollator
from velosweep.measuring.events import Event, GroupEnded, Observer, RunEnded, ServerFailed, ServerReady
from velosweep.measuring.gc_frozen import long_lived
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.lane_context import CompletedRun, Key, LaneContext
from velosweep.measuring.lane_runner import run_lane
from velosweep.measuring.model_files import ModelWatch
from velosweep.measuring.prepare import Prepared
from velosweep.measuring.residency import Residency
from velosweep.measuring.sample_rows import OutputKey, SampleMaker
from velosweep.planning.lane_queue import Estimator, LaneQueue
from velosweep.planning.server_groups import Measurement, Round, ServerGroup
from velosweep.results.journal import Journal
from velosweep.results.paths import SweepPaths
from velosweep.results.precomputed import PrecomputedResults
from velosweep.statistics.stopping import decide
from velosweep.tuning.search_driver import SearchDriver
from velosweep.values import Lane, Sample


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What an earlier run of this sweep left: good samples by key, vanilla outputs, the next order number, and the
    block of each job, as (baseline id, number)."""

    done: dict[Key, CompletedRun] = field(default_factory=dict)
    outputs: dict[OutputKey, tuple[int, ...]] = field(default_factory=dict)
    next_order: int = 0
    groups: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How the lanes ended.

    `runs`: how many samples were taken, failed ones too. `errors`: why jobs failed. `ended`: the jobs that were seen
    through to their end. `begun`: those that something can be said of. `broken`: what kept the sweep from going on
    (a full disk); `display_error`: what silenced the screen; `ready`: jobs whose files are written.
    """

    runs: int
    errors: dict[str, str]
    ended: frozenset[str]
    begun: frozenset[str]
    interrupted: bool
    broken: Exception | None = None
    display_error: str | None = None
    ready: tuple[PrecomputedResults, ...] = ()

    @property
    def nothing_left(self) -> bool:
        """Whether an earlier run of the sweep had measured everything."""
        return not (self.runs or self.errors or self.interrupted or self.broken)


def measure(
    groups: Sequence[ServerGroup],
    prepared: Prepared,
    *,
    sweep_id: str,
    root: Path,
    journal: Journal,
    observe: Observer,
    stop: StopFlag,
    progress: Progress,
    search_drivers: Mapping[ServerGroup, SearchDriver] | None = None,
    ahead: BackgroundCollator | None = None,
) -> Measured:
    """Run all blocks over the lanes. When this returns no server runs and every good sample is in the journal.

    `search_drivers`: what leads through a block's race, for those that are not measured whole. `ahead` works while
    servers load and never while runs count. A lane that can't go on ends the others after their runs under
    way; why is in `broken`.
    """
    watch = _Watch(journal=journal, observe=observe, ahead=ahead, estimator=Estimator(model_bytes=prepared.model_bytes))
    shared = _Shared(
        sweep_id=sweep_id,
        prepared=prepared,
        queue=LaneQueue(groups, lanes=len(prepared.lanes), estimator=watch.estimator),
        logs=_Logs(SweepPaths(root)),
        files=ModelWatch(prepared.environment.models),
        watch=watch,
        stop=stop,
        progress=progress,
        search_drivers=search_drivers or {},
        ahead=ahead,
    )
    with long_lived():
        _run_all(shared.run_one, prepared.lanes)
    return watch.measured(groups, progress)


def _run_all(lane_task: Callable[[int, Lane], None], lanes: Sequence[Lane]) -> None:
    """All lanes side by side; a single one here, without the time that importing joblib takes before the first run."""
    if len(lanes) == 1:
        lane_task(0, lanes[0])
        return
    from joblib import Parallel, delayed

    Parallel(n_jobs=len(lanes), backend="threading")(delayed(lane_task)(*pair) for pair in enumerate(lanes))


def _begun(groups: Sequence[ServerGroup], done: dict[Key, CompletedRun]) -> frozenset[str]:
    """Jobs that something can be said of: with good runs of their own and, unless that is left out, of vanilla."""
    owners = {(key[0], key[1]) for key in done}

    def wanted(job: Job) -> set[str]:
        return ({job.id} if job.speculation.kinds else set()) | (set() if job.skip_vanilla else {job.baseline_id})

    return frozenset(
        job.id
        for group in groups
        for job in group.jobs
        if all((owner, group.number) in owners for owner in wanted(job))
    )


class _Logs:
    """A file of its own for each server that is started: lanes share arms, and a resumed sweep goes on counting."""

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._next: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def path(self, server: ServerConfig) -> Path:
        """A log that is not there yet."""
        with self._lock:
            while True:
                path = self._paths.log(server.id, self._next[server.id])
                self._next[server.id] += 1
                if not path.exists():
                    return path


@dataclass(kw_only=True)
class _Watch:
    """Passes events on, one at a time, and keeps what the end of the sweep needs to know."""

    journal: Journal
    observe: Observer
    estimator: Estimator
    ahead: BackgroundCollator | None = None
    runs: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)
    broken: list[Exception] = field(default_factory=list)
    display_error: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def event(self, event: Event) -> None:
        """Raises StorageError; what the display can't do silences it and nothing else."""
        with self._lock:
            if isinstance(event, ServerFailed):
                self._failed(event)
            elif isinstance(event, ServerReady):
                self.estimator.learn_load(event.server.main_model, event.load_s)
                self.journal.note("launch", arm=event.server.id, load_s=event.load_s, memory_bytes=event.memory_bytes)
            elif isinstance(event, RunEnded) and event.sample.total_time_ms:
                self.estimator.learn_run(
                    event.sample.main_model, event.sample.n_predict, event.sample.total_time_ms / 1000
                )
            elif isinstance(event, GroupEnded):
                self.ended.update(job.id for job in event.group.jobs)
                if self.ahead is not None:
                    self.ahead.ended(event.group)
            if self.display_error is None:
                self._show(event)

    def _show(self, event: Event) -> None:
        try:
            self.observe(event)
        except Exception as error:  # noqa: BLE001 - a terminal that is gone must not end a night's measuring
            self.display_error = f"{type(error).__name__}: {error}"
            self.journal.note("display", error=self.display_error)

    def _failed(self, event: ServerFailed) -> None:
        for job in event.jobs:
            self.errors.setdefault(job.id, event.error)
            self.journal.note("job", job_id=job.id, state="failed", error=event.error)

    def measured(self, groups: Sequence[ServerGroup], progress: Progress) -> Measured:
        """How the sweep ended."""
        missing = {job.id for group in groups for job in group.jobs} - self.ended - self.errors.keys()
        return Measured(
            runs=self.runs,
            errors=self.errors,
            ended=frozenset(self.ended),
            begun=_begun(groups, progress.done),
            interrupted=bool(missing) and not self.broken,
            broken=self.broken[0] if self.broken else None,
            display_error=self.display_error,
        )

    def record(self, measurement: Measurement, sample: Sample) -> None:
        self.journal.append(sample)
        if self.ahead is not None:
            self.ahead.saw(sample)
        with self._lock:
            self.runs += 1

    def output(self, key: OutputKey, tokens: tuple[int, ...]) -> None:
        self.journal.note("output", baseline_id=key[0], prompt_id=key[1], tokens=list(tokens))


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What the lanes of a sweep have in common."""

    sweep_id: str
    prepared: Prepared
    queue: LaneQueue
    logs: _Logs
    files: ModelWatch
    watch: _Watch
    stop: StopFlag
    progress: Progress
    search_drivers: Mapping[ServerGroup, SearchDriver]
    ahead: BackgroundCollator | None

    def run_one(self, index: int, lane: Lane) -> None:
        """Run one lane to its end; never raises."""
        try:
            run_lane(lambda: self.queue.take(index), _tools(lane, self))
        except Exception as error:  # noqa: BLE001 - joblib would leave the other lanes running; the pipeline raises it
            self.watch.broken.append(error)
            self.stop.request()


@dataclass(frozen=True, kw_only=True)
class _Fittings:
    """What one lane is given beside its blocks: how it looks at memory and heat, and who hears of its runs."""

    lane: Lane
    shared: _Shared
    monitor: Monitor
    _cool_c: list[float | None] = field(default_factory=list)

    def memory(self, session: Session) -> int | None:
        """Bytes that a server holds on the lane's devices, None where that can't be had."""
        if is_cpu(self.lane):
            return session.memory_bytes()
        return held_bytes(self.lane, [session.pid], nvml=self.shared.prepared.nvml) if session.pid else None

    def rest(self, protocol: Protocol, baseline: float, latest: float) -> float:
        """Wait until the lane is as cool as when the vanilla arm was at its first speed; seconds waited."""
        if not self._cool_c:
            self._cool_c.append(self.monitor.temperature_c())
        needed_s = rest_needed_s(baseline=baseline, latest=latest, protocol=protocol)
        if not needed_s:
            return 0.0
        return wait_until_cool(
            needed_s,
            temperature=self.monitor.temperature_c,
            target_c=self._cool_c[0],
            should_stop=lambda: self.shared.stop.requested,
        )

    def record(self, measurement: Measurement, sample: Sample) -> None:
        """Into the journal, and to the races that the run is part of."""
        self.shared.watch.record(measurement, sample)
        for guide in self.shared.search_drivers.values():
            if guide.group.jobs[0].baseline_id == measurement.job.baseline_id:
                guide.saw(measurement, sample)

    def observe(self, event: Event) -> None:
        """Pass an event on; a race counts what its servers' loading takes."""
        self.shared.watch.event(event)
        if isinstance(event, ServerReady):
            for guide in self.shared.search_drivers.values():
                guide.loading_s += event.load_s if event.server in guide.group.servers else 0.0

    def guide_of(self, group: ServerGroup) -> Callable[[], Round | None] | None:
        """What says the next round of a block that is raced."""
        guide = self.shared.search_drivers.get(group)
        return guide.next_round if guide else None


def _tools(lane: Lane, shared: _Shared) -> LaneContext:
    prepared, watch, ahead = shared.prepared, shared.watch, shared.ahead
    monitor = Monitor(lane, nvml=prepared.nvml, own_pids=lambda: tuple(watch.pids))
    fittings = _Fittings(lane=lane, shared=shared, monitor=monitor)
    residency = Residency(
        lane=lane, model_bytes=prepared.model_bytes, kv_elements=prepared.kv_elements, nvml=prepared.nvml
    )
    return LaneContext(
        engine_of=prepared.engine_of,
        lane=lane,
        maker=SampleMaker(
            sweep_id=shared.sweep_id,
            lane=lane,
            host=prepared.environment.host,
            engine_of=prepared.engine_of,
            outputs=dict(shared.progress.outputs),
            on_output=watch.output,
            next_order=shared.progress.next_order,
        ),
        record=fittings.record,
        guide_of=fittings.guide_of,
        observe=fittings.observe,
        stop=shared.stop,
        monitor=monitor,
        log_path=shared.logs.path,
        done=shared.progress.done,
        pids=watch.pids,
        require_room=residency.require_room,
        check_files=shared.files.wrong,
        memory=fittings.memory,
        on_memory=residency.seen,
        rest=fittings.rest,
        loading=ahead.begin if ahead else _nothing,
        settle=ahead.finish if ahead else _nothing,
        converged=lambda vanilla, speculative, adaptive: decide(vanilla, speculative, adaptive).stop,
    )


def _nothing() -> None:
    """What a lane does at a load where no work waits for it."""
