"""The servers of one lane: started together where there is room, ended in any case; and a run that one is asked for."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from velosweep.config.settings import Protocol
from velosweep.errors import LaunchFailed, ProgramError, RequestRefused, RunFailed, RunTimeout
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig, Session
from velosweep.machine.conditions import Conditions
from velosweep.measuring.events import RunEnded, RunStarted, ServerLoading, ServerReady
from velosweep.measuring.lane_context import LaneContext
from velosweep.measuring.sample_rows import make_sample
from velosweep.planning.measurements import Measurement
from velosweep.values import Sample

# A run may take this many times the slowest good one of its kind, and this much more, before it counts as hung.
_TIMEOUT_FACTOR = 10.0
_TIMEOUT_FLOOR_S = 5.0
# After so many runs of a server batches are timed: each takes as long as a round of drafting.
_TIMED_RUNS = 3


@dataclass(kw_only=True)
class ResidentServer:
    """A server that was started."""

    config: ServerConfig
    session: Session
    started_at: float  # by time.perf_counter
    warmed_up: bool = False  # it has had its short first run
    pids: set[int] = field(default_factory=set)  # of a script and of the server that it started
    timed: int = 0  # runs after which batches were timed
    refused: set[str] = field(default_factory=set)  # ids of prompts that it won't run; it would refuse them again

    def batches(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The batches to time after its next run: those, or none where enough were timed."""
        self.timed += bool(sizes)
        return sizes if self.timed <= _TIMED_RUNS else ()


class ResidentServers:
    """What is loaded on a lane, or being loaded. `loading_s`: what all loads so far took."""

    def __init__(self, context: LaneContext) -> None:
        self.loading_s = 0.0
        self._context = context
        self._servers: dict[str, ResidentServer] = {}

    def get(self, server: ServerConfig) -> ResidentServer | None:
        """The loaded server of this configuration; None where it isn't loaded."""
        return self._servers.get(server.id)

    def open(self, servers: Sequence[ServerConfig], protocol: Protocol) -> Iterator[tuple[ServerConfig, str]]:
        """Start what is missing of `servers`, as many at a time as there is room for, and wait until they answer.

        Yields each one that did not come up, with the reason. One that crashes while it loads is started again, up
        to `protocol.retries` times. A load is given up as soon as an end is asked for: nothing is lost with it.
        """
        starting: list[ResidentServer] = []
        for server in servers:
            if server.id in self._servers:
                continue
            if starting and self._refusal(server, starting) is not None:
                yield from self._wait_for(starting, protocol)  # what they take is known only once they are loaded
                starting = []
            if self._context.stop.requested:
                break
            try:
                starting.append(self._start(server, starting))
            except (LaunchFailed, ProgramError) as error:
                yield server, str(error)
        yield from self._wait_for(starting, protocol)

    def _refusal(self, server: ServerConfig, starting: Sequence[ResidentServer]) -> LaunchFailed | None:
        loading = [other.config for other in starting]
        loaded = [other.config for other in self._servers.values() if other.config not in loading]
        return self._context.memory.refusal(server, loaded, loading)

    def _start(self, server: ServerConfig, starting: Sequence[ResidentServer] = ()) -> ResidentServer:
        """Raises LaunchFailed, ProgramError."""
        context = self._context
        refusal = self._refusal(server, starting)
        if refusal is not None:
            raise refusal
        changed = context.model_files.changed(server, loaded=False)
        if changed is not None:
            raise LaunchFailed(changed)
        context.recorder.event(ServerLoading(lane=context.lane.number, server=server))
        started_at = time.perf_counter()
        engine = context.prepared.engine_of(server)
        session = engine.launch(server, lane=context.lane, log_path=context.logs.new_path(server))
        started = ResidentServer(config=server, session=session, started_at=started_at)
        self._servers[server.id] = started
        self._count_as_own(started)
        return started

    def _count_as_own(self, server: ResidentServer) -> None:
        """What its process does is none of others' work."""
        if (pid := server.session.pid) is not None:
            server.pids.add(pid)
            self._context.monitor.own_pids.add(pid)

    def _wait_for(self, starting: Sequence[ResidentServer], protocol: Protocol) -> Iterator[tuple[ServerConfig, str]]:
        if starting:
            self._context.preload.begin()
        for first in starting:
            server = first
            for retries_left in reversed(range(protocol.retries + 1)):
                error = self._load_error(server, protocol.load_timeout_s)
                if error is None or self._context.stop.requested:
                    break
                try:
                    if not (retries_left and error.crashed):
                        raise error
                    server = self._start(server.config)
                except (LaunchFailed, ProgramError) as final:
                    yield server.config, str(final)
                    break

    def _load_error(self, server: ResidentServer, timeout_s: float) -> LaunchFailed | None:
        """Wait until a server answers; why it doesn't."""
        context, session = self._context, server.session
        try:
            with context.stop.closing(session.close, early=True):
                session.wait_ready(timeout_s)
        except LaunchFailed as error:
            self.close(server.config)
            return error
        self._count_as_own(server)
        memory_bytes = context.memory.learn(server.config, session)
        load_s = time.perf_counter() - server.started_at
        self.loading_s += load_s
        context.recorder.event(
            ServerReady(lane=context.lane.number, server=server.config, load_s=load_s, memory_bytes=memory_bytes)
        )
        return None

    def make_room(self, server: ServerConfig, needed: Iterable[ServerConfig]) -> None:
        """End servers until there is room for `server`: first those that are not `needed`, then the needed ones."""
        if server.id in self._servers:
            return
        wanted = {other.id for other in needed}
        for loaded in sorted(self._servers.values(), key=lambda other: other.config.id in wanted):
            if self._refusal(server, ()) is None:
                return
            self.close(loaded.config)

    def close(self, server: ServerConfig) -> None:
        """End a server, if it is loaded, and wait for its end."""
        loaded = self._servers.pop(server.id, None)
        if loaded is None:
            return
        self._context.monitor.own_pids.difference_update(loaded.pids)
        loaded.session.close()

    def keep_only(self, servers: Iterable[ServerConfig]) -> None:
        """End all servers but those, all at once: each takes its time to free its memory."""
        wanted = {server.id for server in servers}
        unwanted = [loaded.config for loaded in self._servers.values() if loaded.config.id not in wanted]
        if unwanted:
            with ThreadPoolExecutor(len(unwanted)) as pool:
                list(pool.map(self.close, unwanted))


def request_of(measurement: Measurement, batches: tuple[int, ...] = ()) -> Request:
    """What the server of a measurement is asked; each iteration of a temperature above 0 has a seed of its own."""
    job, prompt, sampling = measurement.job, measurement.prompt, measurement.job.sampling
    if sampling.temperature > 0:  # greedy texts have no use for seeds, and are the same in every iteration
        sampling = replace(sampling, seed=sampling.seed + measurement.iteration)
    return Request(
        prompt=prompt if prompt.system or not job.prompts.system else replace(prompt, system=job.prompts.system),
        n_predict=job.protocol.warmup_tokens if measurement.iteration == 0 else job.n_predict,
        sampling=sampling,
        stop=job.stop if measurement.iteration > 0 else "length",
        template_kwargs=job.prompts.template_kwargs,
        depth_timeout_s=job.protocol.run_timeout_s,
        chat=bool(job.prompts.chat) and measurement.iteration > 0,  # a warm-up says nothing that needs a template
        batches=batches,
    )


def run_once(
    context: LaneContext,
    servers: ResidentServers,
    measurement: Measurement,
    attempt: int = 0,
    batches: tuple[int, ...] = (),
) -> Sample | None:
    """The recorded sample, of whatever status; None where the run was given up because an end at once was asked for.

    The measurement's server must be loaded; it is ended if it hung or died. `batches`: sizes of batches to time after
    it. Raises StorageError where the sample can't be recorded.
    """
    loaded = servers.get(measurement.server)
    if loaded is None:
        raise ValueError(f"the server of {measurement.key} is not loaded")
    request = request_of(measurement, loaded.batches(batches))
    job, session, lane = measurement.job, loaded.session, context.lane.number
    slowest_s, timeout_s = context.recorder.slowest_s(measurement), job.protocol.run_timeout_s
    if slowest_s is not None:
        timeout_s = min(timeout_s, slowest_s * _TIMEOUT_FACTOR + _TIMEOUT_FLOOR_S)
    context.recorder.event(RunStarted(lane=lane, measurement=measurement))
    started_at = datetime.now(timezone.utc)
    context.monitor.begin()
    outcome: Generation | RunFailed
    try:
        with context.stop.closing(session.close):
            outcome = session.generate(request, timeout_s=timeout_s)
    except RunFailed as error:
        outcome = error
    conditions = context.monitor.end()
    if measurement.server.engine.kind == "attached" and session.pid is None:  # of another machine than the server's
        conditions = Conditions()
    if context.stop.at_once and isinstance(outcome, RunFailed):
        return None
    if isinstance(outcome, RunTimeout) or not session.alive:
        servers.close(measurement.server)
    if isinstance(outcome, RequestRefused):
        loaded.refused.add(measurement.prompt.id)
    held = context.memory.learn(measurement.server, session) if session.alive else None
    sample = make_sample(
        context, measurement, request, outcome, conditions, started_at=started_at, attempt=attempt, memory_bytes=held
    )
    context.recorder.sample(measurement, sample)
    context.recorder.event(RunEnded(lane=lane, measurement=measurement, sample=sample))
    return sample
