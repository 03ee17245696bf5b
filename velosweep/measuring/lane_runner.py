"""One lane's schedule: load a block's arms, measure them in rounds, one run at a time, and never raise for a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from velosweep.config.settings import Job
from velosweep.errors import RunFailed, RunTimeout
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.machine.conditions import Conditions
from velosweep.measuring.events import GroupEnded, RunEnded, RunStarted, ServerFailed
from velosweep.measuring.lane_context import CompletedRun, LaneContext
from velosweep.measuring.resident_servers import ResidentServers
from velosweep.measuring.sample_rows import PendingSample
from velosweep.planning.server_groups import Measurement, Round, ServerGroup, launch_iterations, rounds, warmups
from velosweep.values import COOLDOWN_LOOKS, Mode, Sample, Status

# A run may take this many times the slowest good one of its kind, and this much on top, before it counts as hung.
_TIMEOUT_FACTOR = 10.0
_TIMEOUT_FLOOR_S = 5.0


def run_lane(next_block: Callable[[], ServerGroup | None], tools: LaneContext) -> None:
    """Take blocks until there are none or an end is asked for. Servers that the next block needs stay loaded.

    BlockEnded says that nothing of a block is left to do. Raises StorageError where a sample can't be recorded.
    """
    runner = _Runner(tools)
    with ExitStack() as stack:
        stack.callback(runner.servers.keep_only, ())
        while not tools.stop.requested and (group := next_block()) is not None:
            guide = tools.guide_of(group)
            if runner.run_guided(group, guide) if guide else runner.run_block(group):
                tools.observe(GroupEnded(lane=tools.lane.number, group=group))


class _Runner:
    """A lane at work: its servers, and what its arms have shown. One block at a time."""

    def __init__(self, tools: LaneContext) -> None:
        self.tools = tools
        self.servers = ResidentServers(tools=tools, on_failed=lambda server, error: self._give_up(server, error))
        self.group: ServerGroup | None = None
        self.given_up: set[str] = set()
        self.warmed: set[tuple[str, int]] = set()
        self.unfit: dict[str, str] = {}  # by arm id: why its last warm-up failed
        self.slowest = Slowest()
        for key, taken in tools.done.items():
            self.slowest.learn(key[0], key[-1], taken.total_ms / 1000)

    # ------------------------------------------------------------ a block

    def run_block(self, group: ServerGroup) -> bool:
        """Measure what is still missing of a block, launch by launch; False if an end was asked for before its end."""
        self.group = group
        self.given_up.clear()  # a new block is a new chance
        for launch in range(group.jobs[0].protocol.launches):
            todo = [round_ for round_ in rounds(group, launch) if any(m.key not in self.tools.done for m in round_)]
            if not todo or self._decided(group, launch):
                continue
            self.servers.keep_only(group.servers if launch == 0 else ())
            self._open(group, group.servers, launch)
            if not self._measure_rounds(group, launch, todo):
                return False
        return True

    def run_guided(self, group: ServerGroup, next_round: Callable[[], Round | None]) -> bool:
        """Measure what `next_round` asks for, deciding as it goes; False if an end was asked for before its end.

        Servers are started when they are first needed; where memory is short, those that the round does not need
        make room.
        """
        self.group = group
        self.given_up.clear()
        self.tools.settle()
        while (round_ := next_round()) is not None:
            self._check_files(group)
            for measurement in round_:
                if self.tools.stop.requested:
                    return False
                if measurement.key in self.tools.done or measurement.server.id in self.given_up:
                    continue
                self.servers.make_room(measurement.server, [other.server for other in round_])
                if not self._measure_with_retries(group, round_, measurement):
                    return False
        return True

    def _measure_rounds(self, group: ServerGroup, launch: int, todo: Sequence[Round]) -> bool:
        self.tools.settle()
        iteration: int | None = None
        for round_ in todo:
            if self.tools.stop.requested:
                return False
            if self._hopeless(group):
                return True
            if round_[0].iteration != iteration:
                if self._decided(group, launch):
                    return True
                if iteration is not None:
                    self._refresh(group, launch)
                iteration = round_[0].iteration
                self._cool_down(group, launch, round_[0])
            self._check_files(group)
            for measurement in round_:
                if measurement.key in self.tools.done or self._finished(group, launch, measurement):
                    continue
                if self._hopeless(group):
                    return True
                if not self._measure_with_retries(group, round_, measurement):
                    return False
        return True

    def _cool_down(self, group: ServerGroup, launch: int, first: Measurement) -> None:
        """Rest while the vanilla arm is slower than in its first round, and look again, at most twice.

        The looks are kept as warm-ups of their iteration: shown, never averaged, and what the finding `untrusted`
        is taken from. A look is one prompt's run: it is held against that prompt's in the first round.
        """
        series = self._series(group, None, launch)
        if group.vanilla is None or not series or not first.job.protocol.cooldown:
            return
        probe = replace(first, server=group.vanilla, prompt=first.job.prompts.prompts[0], warmup=True)
        at_first = self.tools.done[replace(probe, iteration=launch_iterations(first.job, launch)[0]).key]
        baseline, latest = series[0], series[-1]
        for _ in range(COOLDOWN_LOOKS):
            if not self.tools.rest(first.job.protocol, baseline, latest):
                return
            if self.tools.stop.requested or group.vanilla.id not in self.servers.sessions:
                return
            sample = self._measure_once(group, probe, attempt=0)
            if sample is None or sample.tokens_per_second is None:
                return
            baseline, latest = at_first.tokens_per_second, sample.tokens_per_second

    def _hopeless(self, group: ServerGroup) -> bool:
        """Nothing more can be learnt: the baseline is given up, or every speculative arm is."""
        if group.vanilla is not None and group.vanilla.id in self.given_up:
            for server in group.servers[1:]:
                self._give_up(server, "the vanilla arm of this comparison failed")
            return True
        return all(server.id in self.given_up for server in group.servers)

    def _check_files(self, group: ServerGroup) -> None:
        """Give up arms whose model files were written to while loaded: their servers read what nobody chose."""
        for server in group.servers:
            wrong = self.tools.check_files(server, True) if server.id in self.servers.sessions else None
            if wrong is not None:
                self._give_up(server, wrong)

    # ------------------------------------------------------------ adaptive stopping

    def _decided(self, group: ServerGroup, launch: int) -> bool:
        """Whether every job of the block has reached its target (only with an adaptive protocol)."""
        adaptive = group.jobs[0].protocol.adaptive
        servers = [server for server in group.speculative if server is not None and server.id not in self.given_up]
        return bool(adaptive and group.vanilla and servers) and all(
            self._converged(group, server, launch) for server in servers
        )

    def _finished(self, group: ServerGroup, launch: int, measurement: Measurement) -> bool:
        if measurement.server.id in self.given_up:
            return True
        if measurement.server.mode is Mode.VANILLA:
            return False
        return self._converged(group, measurement.server, launch, before=measurement.iteration)

    def _converged(self, group: ServerGroup, server: ServerConfig, launch: int, before: int | None = None) -> bool:
        adaptive = group.jobs[0].protocol.adaptive
        if adaptive is None or group.vanilla is None:
            return False
        vanilla = self._series(group, None, launch, before)
        speculative = self._series(group, server, launch, before)
        pairs = min(len(vanilla), len(speculative))
        return self.tools.converged(vanilla[:pairs], speculative[:pairs], adaptive)

    def _series(
        self, group: ServerGroup, server: ServerConfig | None, launch: int, before: int | None = None
    ) -> list[float]:
        """Suite tokens per second of each whole iteration so far, in order (None: the vanilla arm)."""
        job = next((j for j, own in zip(group.jobs, group.speculative, strict=True) if own == server), group.jobs[0])
        owner = job.baseline_id if server is None else job.id
        prompts = job.prompts.prompts
        series = []
        for iteration in launch_iterations(job, launch):
            if before is not None and iteration >= before:
                break
            runs = [self.tools.done.get((owner, group.number, launch, iteration, p.id)) for p in prompts]
            good = [run for run in runs if run is not None and run.predicted_ms]
            if len(good) < len(runs):
                break
            tokens = sum(run.predicted_tokens - 1 for run in good)
            series.append(tokens / sum(run.predicted_ms for run in good) * 1000)
        return series

    # ------------------------------------------------------------ servers

    def _open(self, group: ServerGroup, servers: Sequence[ServerConfig], launch: int) -> None:
        """Have these arms loaded and warmed up: one short run for each fresh server, kept and never averaged."""
        wanted = [server for server in servers if server.id not in self.given_up]
        protocol = group.jobs[0].protocol
        self.servers.open(wanted, timeout_s=protocol.load_timeout_s, retries=protocol.retries)
        for measurement in warmups(group, launch):
            server = measurement.server
            fresh = (server.id, self.servers.launches.get(server.id, 0))
            if self.tools.stop.requested or server.id not in self.servers.sessions or fresh in self.warmed:
                continue
            self.warmed.add(fresh)
            sample = self._measure_once(group, measurement, attempt=0)
            if sample is not None and sample.error is not None:
                self.unfit[server.id] = sample.error

    def _refresh(self, group: ServerGroup, launch: int) -> None:
        """Fresh servers for kinds of speculation that learn from one request to the next."""
        stateful = [server for server in group.servers if server.speculation and server.speculation.keeps_state]
        for server in stateful:
            self.servers.close(server.id)
        self._open(group, stateful, launch)

    def _give_up(self, server: ServerConfig, error: str) -> None:
        group = self.group
        if group is None or server.id in self.given_up:
            return
        self.given_up.add(server.id)
        self.servers.close(server.id)
        jobs: tuple[Job, ...] = tuple(
            job
            for job, own in zip(group.jobs, group.speculative, strict=True)
            if own == server or server.mode is Mode.VANILLA
        )
        self.tools.observe(ServerFailed(lane=self.tools.lane.number, server=server, jobs=jobs, error=error))

    # ------------------------------------------------------------ a run

    def _measure_with_retries(self, group: ServerGroup, round_: Round, measurement: Measurement) -> bool:
        """A failed run repeats its whole pair; what fails `retries` times more is given up.

        False if an end was asked for before there was a good run.
        """
        error, culprit = "its runs failed", measurement.server
        for attempt in range(group.jobs[0].protocol.retries + 1):
            again = (*self._partners(round_, measurement), measurement) if attempt else (measurement,)
            for one in again:
                if self.tools.stop.requested:
                    return False
                if one.server.id not in self.servers.sessions:
                    self._open(group, [one.server], one.launch)
                if one.server.id in self.given_up:
                    return True
                if self.tools.stop.requested:
                    return False
                if one.server.id not in self.servers.sessions:  # it came up, and died over its warm-up
                    error, culprit = self.unfit.get(one.server.id, error), one.server
                    break
                sample = self._take(group, one, attempt)
                if sample is None:  # given up at once, on request: the run is lost and nothing else
                    return False
                if sample.status is not Status.OK:
                    error, culprit = sample.error or error, one.server
                    break
            else:
                return True
        self._give_up(culprit, error)
        return True

    def _partners(self, round_: Round, measurement: Measurement) -> Iterator[Measurement]:
        """The taken runs that are compared with this one: the vanilla run, or for that all speculative ones."""
        for other in round_:
            crosses = (other.server.mode is Mode.VANILLA) is not (measurement.server.mode is Mode.VANILLA)
            if crosses and other.key in self.tools.done and other.server.id not in self.given_up:
                yield other

    def _take(self, group: ServerGroup, measurement: Measurement, attempt: int) -> Sample | None:
        sample = self._measure_once(group, measurement, attempt=attempt)
        if sample is not None and sample.status is Status.OK:
            taken = self.tools.done[measurement.key] = CompletedRun.of(sample)
            self.slowest.learn(measurement.key[0], measurement.prompt.id, taken.total_ms / 1000)
        return sample

    def _measure_once(self, group: ServerGroup, measurement: Measurement, *, attempt: int) -> Sample | None:
        tools, server = self.tools, measurement.server
        session = self.servers.sessions[server.id]
        job = measurement.job
        request = Request(
            prompt=measurement.prompt,
            n_predict=job.protocol.warmup_tokens if measurement.iteration == 0 else job.n_predict,
            sampling=job.sampling,
            chat=job.prompts.chat and not measurement.warmup,
        )
        tools.observe(RunStarted(lane=tools.lane.number, measurement=measurement))
        reading = tools.maker.start(measurement, attempt=attempt, shared=len(group.jobs) > 1)
        tools.monitor.begin()
        outcome: Generation | RunFailed
        try:
            with tools.stop.closing(session.close):
                outcome = session.generate(request, timeout_s=self._timeout_s(measurement))
        except RunFailed as error:
            outcome = error
        conditions = tools.monitor.end()
        if tools.stop.at_once and isinstance(outcome, RunFailed):
            return None
        if isinstance(outcome, RunTimeout) or not session.alive:
            self.servers.close(server.id)
        return self._finish(reading, request, outcome, conditions)

    def _finish(
        self, reading: PendingSample, request: Request, outcome: Generation | RunFailed, conditions: Conditions
    ) -> Sample:
        measurement = reading.measurement
        sample = self.tools.maker.finish(reading, request, outcome, conditions)
        self.tools.record(measurement, sample)
        self.tools.observe(RunEnded(lane=self.tools.lane.number, measurement=measurement, sample=sample))
        return sample

    def _timeout_s(self, measurement: Measurement) -> float:
        """What this prompt has taken on this arm says when a run counts as hung; before that the protocol's bound."""
        bound = measurement.job.protocol.run_timeout_s
        slowest = self.slowest.seconds(measurement.key[0], measurement.prompt.id)
        return bound if slowest is None else min(bound, slowest * _TIMEOUT_FACTOR + _TIMEOUT_FLOOR_S)


@dataclass
class Slowest:
    """The slowest good run of each owner (a job, or a baseline) and prompt, in seconds."""

    _seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def learn(self, owner: str, prompt_id: str, seconds: float) -> None:
        """A good run took so long."""
        key = (owner, prompt_id)
        self._seconds[key] = max(seconds, self._seconds.get(key, 0.0))

    def seconds(self, owner: str, prompt_id: str) -> float | None:
        """None where there was none."""
        return self._seconds.get((owner, prompt_id))
