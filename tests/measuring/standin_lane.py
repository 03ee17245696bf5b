"""A lane on a stand-in engine with chosen answers; all else is what runs in production."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.results.made import environment
from velosweep.config.settings import Job
from velosweep.errors import LaunchFailed
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.machine.conditions import Monitor
from velosweep.measuring.cooldown import Cooldown
from velosweep.measuring.dispatch import run_lane
from velosweep.measuring.events import Event, Recorder, RunEnded, ServerFailed
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.lane_context import LaneContext, ModelWatch, Preload, ServerLogs
from velosweep.measuring.memory_estimates import MemoryEstimates
from velosweep.measuring.prepare import Prepared, engine_key
from velosweep.measuring.resuming import CompletedRun, earlier_progress
from velosweep.planning.lane_queue import LaneQueue
from velosweep.planning.measurements import RunKey
from velosweep.planning.server_groups import ServerGroup, plan_with_earlier
from velosweep.results.journal import Journal, read_journal
from velosweep.results.paths import SweepPaths
from velosweep.tuning.search_driver import SearchDriver
from velosweep.values import Device, Lane, Mode, Sample

LANE = Lane(number=0, devices=(Device(kind="cpu", name="test CPU"),))


@dataclass
class StandInSession:
    """Answers like llama.cpp: ten milliseconds a token, drafts in speculative servers."""

    server: ServerConfig
    engine: StandInEngine
    alive: bool = True
    pid: int | None = None
    closed: int = 0

    def wait_ready(self, timeout_s: float) -> None:
        self.engine.on_ready(self.server)

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        self.engine.calls.append(f"{self.server.label}{'/warmup' if request.prompt.id == 'warmup' else ''}")
        self.engine.timeouts_s.append(timeout_s)
        return self.engine.answer(self, request)

    def check_request(self, request: Request) -> None:
        self.engine.check(request)

    def memory_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        self.closed += 1
        self.alive = False


@dataclass
class StandInEngine:
    name: str = "server"
    build: str = "b1"
    calls: list[str] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    sessions: list[StandInSession] = field(default_factory=list)
    answer: Callable[[StandInSession, Request], Generation] = lambda session, request: good(session.server, request)
    check: Callable[[Request], None] = lambda request: None
    on_ready: Callable[[ServerConfig], None] = lambda server: None

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> StandInSession:
        session = StandInSession(server=server, engine=self)
        self.sessions.append(session)
        return session


def good(
    server: ServerConfig, request: Request, *, ms_per_token: float = 10.0, tokens: tuple[int, ...] | None = None
) -> Generation:
    count = request.n_predict
    drafted = 2 * count if server.mode is Mode.SPECULATIVE else None
    return Generation(
        tokens=tokens or tuple(range(count)),
        text="",
        prompt_tokens=5,
        predicted_tokens=count,
        prompt_ms=3.0,
        predicted_ms=(count - 1) * ms_per_token,
        time_to_first_token_ms=4.0,
        total_time_ms=count * ms_per_token,
        draft_tokens=drafted,
        accepted_tokens=count // 2 if drafted else None,
    )


class RecordedPreload(Preload):
    """Imports nothing; writes its calls down among the engine's."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__(())
        self.calls = calls

    def begin(self) -> None:
        self.calls.append("begin")

    def finish(self) -> None:
        self.calls.append("finish")


@dataclass(kw_only=True)
class RoomFor(MemoryEstimates):
    """A machine that has room for so many servers."""

    servers: int

    def refusal(
        self, server: ServerConfig, resident: Sequence[ServerConfig], loading: Sequence[ServerConfig] = ()
    ) -> LaunchFailed | None:
        full = len(resident) + len(loading) >= self.servers
        return LaunchFailed(f"No room to load {server.label}") if full else None


@dataclass
class Bench:
    """Runs groups on a lane with a stand-in engine and keeps what came of it."""

    engine: StandInEngine = field(default_factory=StandInEngine)
    samples: list[Sample] = field(default_factory=list)
    recorded: list[Sample] = field(default_factory=list)  # with those of runs that were never asked for
    events: list[Event] = field(default_factory=list)
    done: dict[RunKey, CompletedRun] = field(default_factory=dict)
    stop: StopFlag = field(default_factory=StopFlag)
    after_sample: Callable[[Sample], None] = lambda sample: None
    driver: SearchDriver | None = None
    refused: dict[tuple[str, str], str] = field(default_factory=dict)  # by earlier runs of the sweep
    room: int = 100  # for so many servers at once, when groups are planned
    loaded_at_most: int = 100  # servers, when they are loaded
    preload_calls: list[str] = field(default_factory=list)
    monitor: Monitor = field(default_factory=lambda: Monitor(LANE))

    def run(self, jobs: Sequence[Job]) -> None:
        groups = plan_with_earlier(jobs, {}, lanes=1, resident_servers=lambda job: self.room)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "journal.jsonl"
            with Journal(path) as journal:
                self._run(groups, journal, Path(folder))
            self.refused |= earlier_progress(SweepPaths(Path(folder))).refused
            self.recorded += read_journal(path).samples

    def _run(self, groups: Sequence[ServerGroup], journal: Journal, folder: Path) -> None:
        prepared = Prepared(
            jobs=groups[0].jobs,
            lanes=(LANE,),
            environment=environment(),
            engines={engine_key(job.engine): self.engine for group in groups for job in group.jobs},
            reasons=(),
        )
        preload = RecordedPreload(self.preload_calls)
        context = LaneContext(
            sweep_id="s",
            lane=LANE,
            outputs={},
            order=itertools.count(),
            monitor=self.monitor,
            cooldown=Cooldown(self.monitor, self.stop),
            memory=RoomFor(lane=LANE, headers={}, servers=self.loaded_at_most),
            prepared=prepared,
            recorder=Recorder(journal=journal, observe=self._observe, done=self.done),
            stop=self.stop,
            model_files=ModelWatch(()),
            logs=ServerLogs(SweepPaths(folder)),
            preload=preload,
            refused=self.refused,
        )
        drivers = {self.driver.group: self.driver} if self.driver else {}
        run_lane(LaneQueue(groups, lanes=[LANE], model_bytes=prepared.model_bytes), context, drivers)

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, RunEnded):
            self.samples.append(event.sample)
            self.after_sample(event.sample)

    def counted(self) -> Counter[str]:
        return Counter(
            f"{sample.mode.value} {sample.n_draft} {sample.status.value}"
            for sample in self.samples
            if not sample.warmup
        )

    def failures(self) -> list[ServerFailed]:
        return [event for event in self.events if isinstance(event, ServerFailed)]
