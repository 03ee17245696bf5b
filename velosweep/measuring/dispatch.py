"""All lanes of a sweep at once, each serial in itself. joblib runs them as threads of this process.

Threads and not processes: a lane waits for its servers nearly all the time, and joblib's process pool ends
every other worker when one dies. A dead server is the lane's own business; the journal is the truth.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from velosweep.config.settings import Job
from velosweep.garbage_collection import existing_objects_frozen
from velosweep.machine.conditions import Monitor
from velosweep.measuring.cooldown import Cooldown
from velosweep.measuring.events import GroupEnded, Observer, Recorder
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.lane_context import LaneContext, ModelWatch, Preload, ServerLogs
from velosweep.measuring.lane_runner import GroupRunner
from velosweep.measuring.opening import OpenedSweep
from velosweep.measuring.resident_servers import ResidentServers
from velosweep.planning.lane_queue import LaneQueue
from velosweep.planning.server_groups import ServerGroup
from velosweep.records import SweepRecord
from velosweep.results.journal import Journal
from velosweep.results.paths import SweepPaths
from velosweep.tuning.search_driver import SearchDriver


@dataclass(frozen=True, kw_only=True)
class MeasuringOutcome:
    """How the lanes ended. `states`: of the jobs of which nothing is left to do, by id: done, partial (something can
    be said of it) or failed, with the reason where it is not done."""

    runs: int  # samples that were taken, failed ones too
    states: Mapping[str, tuple[str, str | None]]
    interrupted: bool
    nothing_left: bool  # an earlier run of the sweep had measured everything
    broken: Exception | None = None  # what kept the sweep from going on, such as a full disk
    display_error: str | None = None  # what silenced the screen


def measure(
    groups: Sequence[ServerGroup],
    opened: OpenedSweep,
    *,
    journal: Journal,
    observe: Observer,
    stop: StopFlag,
    preload: Preload,
    search_drivers: Mapping[ServerGroup, SearchDriver],
) -> MeasuringOutcome:
    """Run all groups over the lanes. When this returns no server runs and every good sample is in the journal.

    `search_drivers`: what decides round by round which runs a group takes, for groups that are not measured whole.
    `preload` works while servers load and never while runs count. A lane that can't go on ends the others after
    their runs under way; why is in `broken`.
    """
    prepared, done = opened.prepared, opened.progress.done
    recorder = Recorder(journal=journal, observe=observe, done=done)
    queue = LaneQueue(groups, lanes=prepared.lanes, model_bytes=prepared.model_bytes)
    contexts = list(_contexts(opened, recorder, stop, preload))
    broken: list[Exception] = []

    def run_one(context: LaneContext) -> None:
        try:
            run_lane(queue, context, search_drivers)
        except Exception as error:  # noqa: BLE001 - joblib would leave the other lanes running; the pipeline raises it
            broken.append(error)
            stop.request()

    with existing_objects_frozen():
        if len(contexts) == 1:  # in this thread, without the time that importing joblib takes before the first run
            run_one(contexts[0])
        else:
            from joblib import Parallel, delayed

            Parallel(n_jobs=len(contexts), backend="threading")(delayed(run_one)(context) for context in contexts)
    states = _states(groups, recorder)
    missing = any(job.id not in states for group in groups for job in group.jobs)
    return MeasuringOutcome(
        runs=recorder.runs,
        states=states,
        interrupted=missing and not broken,
        nothing_left=not (recorder.runs or recorder.errors or missing or broken),
        broken=broken[0] if broken else None,
        display_error=recorder.display_error,
    )


def _contexts(opened: OpenedSweep, recorder: Recorder, stop: StopFlag, preload: Preload) -> Iterator[LaneContext]:
    prepared, progress = opened.prepared, opened.progress
    model_files, logs = ModelWatch(prepared.environment.models), ServerLogs(SweepPaths(opened.root))
    own_pids: set[int] = set()  # of all lanes' servers: none of them is somebody else's work
    for lane in prepared.lanes:
        monitor = Monitor(lane, nvml=prepared.nvml, own_pids=own_pids)
        yield LaneContext(
            sweep_id=opened.record.sweep_id,
            lane=lane,
            outputs=dict(progress.outputs),
            order=itertools.count(progress.next_order),
            monitor=monitor,
            cooldown=Cooldown(monitor, stop),
            memory=prepared.memory_estimates(lane),
            prepared=prepared,
            recorder=recorder,
            stop=stop,
            model_files=model_files,
            logs=logs,
            preload=preload,
            refused=progress.refused,
        )


def _states(groups: Sequence[ServerGroup], recorder: Recorder) -> dict[str, tuple[str, str | None]]:
    """As `MeasuringOutcome.states`."""
    measured = {(key[0], key[1]) for key in recorder.done}  # owner and group

    def begun(job: Job, number: int) -> bool:
        """Whether there are good runs of the job and, unless that is skipped, of vanilla."""
        of_vanilla = job.skip_vanilla or (job.baseline_id, number) in measured
        return of_vanilla and (not job.speculation.kinds or (job.id, number) in measured)

    states: dict[str, tuple[str, str | None]] = {}
    for group in groups:
        for job in group.jobs:
            some, error, lacks = begun(job, group.number), recorder.errors.get(job.id), recorder.incomplete.get(job.id)
            if error is not None:
                states[job.id] = ("partial" if some else "failed", error)
            elif job.id in recorder.ended:
                states[job.id] = ("partial", lacks) if some and lacks else ("done", None)
    return states


def with_outcomes(record: SweepRecord, measured: MeasuringOutcome) -> SweepRecord:
    """The record after the lanes have ended; a job with runs left to take stays what it was."""
    ends = (measured.states.get(job.id, (job.state, job.error)) for job in record.jobs)
    jobs = (replace(job, state=state, error=error) for job, (state, error) in zip(record.jobs, ends, strict=True))
    return replace(record, jobs=tuple(jobs))


def run_lane(queue: LaneQueue, context: LaneContext, search_drivers: Mapping[ServerGroup, SearchDriver]) -> None:
    """Take groups until there are none or an end is asked for. Servers that the next group needs stay loaded.

    GroupEnded says that nothing of a group is left to do. Raises StorageError where a sample can't be recorded.
    """
    servers = ResidentServers(context)
    try:
        while not context.stop.requested and (groups := queue.take(context.lane.number)):
            runners = [GroupRunner(group, context, servers) for group in groups]
            driver = search_drivers.get(groups[0])
            if driver is not None:
                runners[0].run_search(driver)
            else:
                _measure_together(runners, servers, context)
            for group, runner in zip(groups, runners, strict=True):
                if not runner.interrupted:
                    context.recorder.event(GroupEnded(lane=context.lane.number, group=group))
    finally:
        servers.keep_only(())


def _measure_together(runners: Sequence[GroupRunner], servers: ResidentServers, context: LaneContext) -> None:
    """Launch by launch, the groups' rounds in turn: A B, B A, ... so that a drift cancels between them, too.

    Every other launch begins with the last group: with a round each, the first one would always be first.
    """
    for runner in runners:
        runner.leave_out_refused()
    for launch in range(runners[0].group.jobs[0].protocol.launches):
        in_order = runners[::-1] if launch % 2 else runners
        beginning = [runner for runner in in_order if not runner.interrupted and runner.has_work(launch)]
        if not beginning:
            continue
        kept = [server for runner in beginning for server in runner.group.servers]
        servers.keep_only(kept if launch == 0 else ())
        for runner in beginning:
            runner.open(launch)
        context.preload.finish()  # runs that count wait until nothing of ours works beside them
        going = [runner.measure(launch) for runner in beginning]
        while going:
            going = [rounds for rounds in going if next(rounds, rounds) is not rounds][::-1]
