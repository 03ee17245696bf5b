"""One lane's schedule: load a block's arms, measure them in rounds, one run at a time, and never raise for a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from velosweep.engines.base import Engine, Session
from velosweep.errors import LaunchFailed, ProgramError, RunFailed, RunTimeout
from velosweep.model import (
    Adaptive,
    Arm,
    ArmFailed,
    ArmLoading,
    ArmReady,
    Block,
    BlockEnded,
    Conditions,
    Generation,
    Job,
    Lane,
    Measurement,
    Mode,
    Observer,
    Request,
    RunEnded,
    RunStarted,
    Sample,
    Status,
)
from velosweep.model import Protocol as RunProtocol
from velosweep.planning.schedule import Round, launch_iterations, rounds, warmups
from velosweep.running.interrupts import StopFlag
from velosweep.running.sampling import Reading, SampleMaker

# A run may take this many times the arm's slowest good run, and this much on top, before it counts as hung.
_TIMEOUT_FACTOR = 10.0
_TIMEOUT_FLOOR_S = 5.0

Key = tuple[str, int, int, int, str]


class Monitor(Protocol):
    """Reads the machine around a run."""

    def begin(self) -> None:
        """A run is about to start."""

    def end(self) -> Conditions:
        """It ended."""


@dataclass(frozen=True, kw_only=True)
class LaneTools:
    """What a lane is given. Everything that touches disk, screen or clock policy comes from outside.

    `require_room(arm, resident)` raises LaunchFailed where memory is too short for one more.
    `converged(vanilla, speculative, adaptive)` is the stopping rule. `rest(protocol, baseline, latest)` sleeps
    where the vanilla arm's tokens per second have fallen too far from its first, and returns the seconds.
    """

    engine_of: Callable[[Arm], Engine]
    lane: Lane
    maker: SampleMaker
    record: Callable[[Measurement, Sample], None]
    observe: Observer
    stop: StopFlag
    monitor: Monitor
    log_path: Callable[[Arm, int], Path]
    done: dict[Key, Sample]
    converged: Callable[[Sequence[float], Sequence[float], Adaptive], bool]
    pids: set[int] = field(default_factory=set)  # of all lanes' servers: their work is not somebody else's
    require_room: Callable[[Arm, Sequence[Arm]], None] = lambda arm, resident: None
    on_memory: Callable[[Arm, int], None] = lambda arm, memory: None
    rest: Callable[[RunProtocol, float, float], float] = lambda protocol, baseline, latest: 0.0


def run_lane(next_block: Callable[[], Block | None], tools: LaneTools) -> None:
    """Take blocks until there are none or an end is asked for. Servers that the next block needs stay loaded."""
    with ExitStack() as stack:
        runner = _Runner(tools)
        stack.callback(runner.close_all)
        while not tools.stop.requested and (block := next_block()) is not None:
            runner.run_block(block)
            tools.observe(BlockEnded(lane=tools.lane.number, block=block))


@dataclass
class _Runner:
    """The sessions of a lane and what its arms have shown."""

    tools: LaneTools
    sessions: dict[str, Session] = field(default_factory=dict)
    launches: dict[str, int] = field(default_factory=dict)
    slowest_s: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    warmed: set[tuple[str, int]] = field(default_factory=set)

    # ------------------------------------------------------------ a block

    def run_block(self, block: Block) -> None:
        """Measure what is still missing of a block, launch by launch."""
        for arm in block.arms:  # a new block is a new chance
            self.failures.pop(arm.id, None)
            self.given_up.discard(arm.id)
        for launch in range(block.jobs[0].protocol.launches):
            todo = [round_ for round_ in rounds(block, launch) if any(m.key not in self.tools.done for m in round_)]
            if not todo or self.tools.stop.requested or self._decided(block, launch):
                continue
            self._keep_only(block.arms if launch == 0 else ())
            self._open(block, block.arms)
            self._warm_up(block, launch)
            self._measure_rounds(block, launch, todo)

    def _measure_rounds(self, block: Block, launch: int, todo: Sequence[Round]) -> None:
        iteration: int | None = None
        for round_ in todo:
            if self.tools.stop.requested or self._hopeless(block):
                return
            if round_[0].iteration != iteration:
                if self._decided(block, launch):
                    return
                if iteration is not None:
                    self._refresh(block)
                iteration = round_[0].iteration
                self._cool_down(block, launch, round_[0])
            for measurement in round_:
                if self.tools.stop.requested:
                    return
                if measurement.key in self.tools.done or self._finished(block, launch, measurement):
                    continue
                self._measure_with_retries(block, measurement)

    def _cool_down(self, block: Block, launch: int, first: Measurement) -> None:
        """Rest while the vanilla arm is slower than in its first round, and look again, at most twice.

        The looks are kept as warm-ups of their iteration: shown, never averaged. A machine that stays slow shows
        as a drift in the results.
        """
        series = self._series(block, None, launch)
        if block.vanilla is None or not series or not first.job.protocol.cooldown:
            return
        latest: float | None = series[-1]
        for _ in range(2):
            if latest is None or not self.tools.rest(first.job.protocol, series[0], latest):
                return
            if self.tools.stop.requested or block.vanilla.id not in self.sessions:
                return
            probe = replace(first, arm=block.vanilla, prompt=first.job.prompts.prompts[0], warmup=True)
            sample = self._measure_once(block, probe, attempt=0)
            latest = None if sample is None else sample.tokens_per_second

    def _hopeless(self, block: Block) -> bool:
        """Nothing more can be learnt: the baseline is given up, or every speculative arm is."""
        if block.vanilla is not None and block.vanilla.id in self.given_up:
            for arm in block.arms[1:]:
                self._give_up(block, arm, "the vanilla arm of this comparison failed")
            return True
        return all(arm.id in self.given_up for arm in block.arms)

    # ------------------------------------------------------------ adaptive stopping

    def _decided(self, block: Block, launch: int) -> bool:
        """Whether every job of the block has reached its target (only with an adaptive protocol)."""
        adaptive = block.jobs[0].protocol.adaptive
        arms = [arm for arm in block.speculative if arm is not None and arm.id not in self.given_up]
        return bool(adaptive and block.vanilla and arms) and all(self._converged(block, arm, launch) for arm in arms)

    def _finished(self, block: Block, launch: int, measurement: Measurement) -> bool:
        if measurement.arm.id in self.given_up:
            return True
        if measurement.arm.mode is Mode.VANILLA:
            return False
        return self._converged(block, measurement.arm, launch, before=measurement.iteration)

    def _converged(self, block: Block, arm: Arm, launch: int, before: int | None = None) -> bool:
        adaptive = block.jobs[0].protocol.adaptive
        if adaptive is None or block.vanilla is None:
            return False
        vanilla = self._series(block, None, launch, before)
        speculative = self._series(block, arm, launch, before)
        pairs = min(len(vanilla), len(speculative))
        return self.tools.converged(vanilla[:pairs], speculative[:pairs], adaptive)

    def _series(self, block: Block, arm: Arm | None, launch: int, before: int | None = None) -> list[float]:
        """Suite tokens per second of each whole iteration so far, in order (None: the vanilla arm)."""
        job = next((j for j, own in zip(block.jobs, block.speculative, strict=True) if own == arm), block.jobs[0])
        owner = job.baseline_id if arm is None else job.id
        prompts = job.prompts.prompts
        series = []
        for iteration in launch_iterations(job, launch):
            if before is not None and iteration >= before:
                break
            runs = [self.tools.done.get((owner, block.number, launch, iteration, p.id)) for p in prompts]
            good = [run for run in runs if run is not None and run.predicted_ms]
            if len(good) < len(runs):
                break
            tokens = sum((run.predicted_tokens or 1) - 1 for run in good)
            series.append(tokens / sum(run.predicted_ms or 0.0 for run in good) * 1000)
        return series

    # ------------------------------------------------------------ servers

    def _keep_only(self, arms: Sequence[Arm]) -> None:
        wanted = {arm.id for arm in arms}
        for arm_id in [arm_id for arm_id in self.sessions if arm_id not in wanted]:
            self._close(arm_id)

    def _close(self, arm_id: str) -> None:
        session = self.sessions.pop(arm_id)
        if session.pid is not None:
            self.tools.pids.discard(session.pid)
        session.close()

    def close_all(self) -> None:
        """End every server of this lane."""
        self._keep_only(())

    def _open(self, block: Block, arms: Sequence[Arm]) -> None:
        """Start all servers that are missing, together, then wait for each."""
        starting: list[tuple[Arm, Session, float]] = []
        for arm in arms:
            if arm.id in self.sessions or arm.id in self.given_up or self.tools.stop.requested:
                continue
            self.tools.observe(ArmLoading(lane=self.tools.lane.number, arm=arm))
            began = time.perf_counter()
            number = self.launches[arm.id] = self.launches.get(arm.id, -1) + 1
            try:
                self.tools.require_room(arm, [other for other in block.arms if other.id in self.sessions])
                engine = self.tools.engine_of(arm)
                session = engine.launch(arm, lane=self.tools.lane, log_path=self.tools.log_path(arm, number))
            except (LaunchFailed, ProgramError) as error:
                self._give_up(block, arm, str(error))
                continue
            self.sessions[arm.id] = session
            starting.append((arm, session, began))
        for arm, session, began in starting:
            self._await(block, arm, session, began)

    def _await(self, block: Block, arm: Arm, session: Session, began: float) -> None:
        try:
            with self.tools.stop.closing(session.close):
                session.wait_ready(block.jobs[0].protocol.load_timeout_s)
        except LaunchFailed as error:
            self._close(arm.id)
            if not self.tools.stop.at_once:
                self._give_up(block, arm, str(error))
            return
        if session.pid is not None:
            self.tools.pids.add(session.pid)
        memory = session.memory_bytes()
        if memory is not None:
            self.tools.on_memory(arm, memory)
        load_s = time.perf_counter() - began
        self.tools.observe(ArmReady(lane=self.tools.lane.number, arm=arm, load_s=load_s, memory_bytes=memory))

    def _refresh(self, block: Block) -> None:
        """Fresh servers for kinds of speculation that learn from one request to the next."""
        stateful = [arm for arm in block.arms if arm.speculation and arm.speculation.keeps_state]
        for arm in stateful:
            if arm.id in self.sessions:
                self._close(arm.id)
        self._open(block, stateful)

    def _warm_up(self, block: Block, launch: int) -> None:
        for measurement in warmups(block, launch):
            arm = measurement.arm
            session_key = (arm.id, self.launches.get(arm.id, 0))
            if self.tools.stop.requested or arm.id not in self.sessions or session_key in self.warmed:
                continue
            self.warmed.add(session_key)
            self._measure_once(block, measurement, attempt=0)

    def _give_up(self, block: Block, arm: Arm, error: str) -> None:
        if arm.id in self.given_up:
            return
        self.given_up.add(arm.id)
        if arm.id in self.sessions:
            self._close(arm.id)
        jobs: tuple[Job, ...] = tuple(
            job
            for job, own in zip(block.jobs, block.speculative, strict=True)
            if own == arm or arm.mode is Mode.VANILLA
        )
        self.tools.observe(ArmFailed(lane=self.tools.lane.number, arm=arm, jobs=jobs, error=error))

    # ------------------------------------------------------------ a run

    def _measure_with_retries(self, block: Block, measurement: Measurement) -> None:
        """A failed run repeats its whole pair; after `retries` failures in a row the arm is given up."""
        arm = measurement.arm
        error = "its runs failed"
        for attempt in range(block.jobs[0].protocol.retries + 1):
            if attempt and not self._prepare_retry(block, measurement, attempt):
                return
            if arm.id not in self.sessions:
                self._open(block, [arm])
            if arm.id in self.given_up or self.tools.stop.requested:
                return
            sample = self._measure_once(block, measurement, attempt=attempt)
            if sample is None:  # given up at once, on request: the run is lost and nothing else
                return
            if sample.status is Status.OK:
                self.tools.done[measurement.key] = sample
                return
            error = sample.error or error
        self._give_up(block, arm, error)

    def _prepare_retry(self, block: Block, measurement: Measurement, attempt: int) -> bool:
        """Repeat the vanilla half of a pair first; False if an end is asked for."""
        if self.tools.stop.requested:
            return False
        if measurement.arm.mode is Mode.SPECULATIVE and block.vanilla is not None:
            other = Measurement(
                arm=block.vanilla,
                job=measurement.job,
                prompt=measurement.prompt,
                iteration=measurement.iteration,
                launch=measurement.launch,
                block=measurement.block,
            )
            if other.key in self.tools.done and block.vanilla.id in self.sessions:
                again = self._measure_once(block, other, attempt=attempt)
                if again is not None and again.status is Status.OK:
                    self.tools.done[other.key] = again
        return True

    def _measure_once(self, block: Block, measurement: Measurement, *, attempt: int) -> Sample | None:
        tools, arm = self.tools, measurement.arm
        session = self.sessions[arm.id]
        job = measurement.job
        request = Request(
            prompt=measurement.prompt,
            n_predict=job.protocol.warmup_tokens if measurement.iteration == 0 else job.n_predict,
            sampling=job.sampling,
            chat=job.prompts.chat and not measurement.warmup,
        )
        tools.observe(RunStarted(lane=tools.lane.number, measurement=measurement))
        reading = tools.maker.start(measurement, attempt=attempt, shared=len(block.jobs) > 1)
        tools.monitor.begin()
        outcome: Generation | RunFailed
        try:
            with tools.stop.closing(session.close):
                outcome = session.generate(request, timeout_s=self._timeout_s(arm, job))
        except RunFailed as error:
            outcome = error
        conditions = tools.monitor.end()
        if tools.stop.at_once:
            return None
        if isinstance(outcome, RunTimeout) or not session.alive:
            self._close(arm.id)
        return self._finish(reading, request, outcome, conditions)

    def _finish(
        self, reading: Reading, request: Request, outcome: Generation | RunFailed, conditions: Conditions
    ) -> Sample:
        measurement = reading.measurement
        sample = self.tools.maker.finish(reading, request, outcome, conditions)
        if sample.status is Status.OK and sample.total_time_ms is not None and not measurement.warmup:
            seen = self.slowest_s.get(measurement.arm.id, 0.0)
            self.slowest_s[measurement.arm.id] = max(seen, sample.total_time_ms / 1000)
        self.tools.record(measurement, sample)
        self.tools.observe(RunEnded(lane=self.tools.lane.number, measurement=measurement, sample=sample))
        return sample

    def _timeout_s(self, arm: Arm, job: Job) -> float:
        slowest = self.slowest_s.get(arm.id)
        if slowest is None:
            return job.protocol.run_timeout_s
        return min(job.protocol.run_timeout_s, slowest * _TIMEOUT_FACTOR + _TIMEOUT_FLOOR_S)
