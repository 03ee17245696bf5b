"""The servers of one lane: started together where there is room, known by their arm, ended without exception."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from velosweep.errors import LaunchFailed, ProgramError
from velosweep.llama_cpp.engine import ServerConfig, Session
from velosweep.measuring.events import ServerLoading, ServerReady
from velosweep.measuring.lane_context import LaneContext


@dataclass(frozen=True, kw_only=True)
class _Start:
    """A server that was started and isn't waited for yet."""

    server: ServerConfig
    session: Session
    began: float


@dataclass(kw_only=True)
class ResidentServers:
    """What is loaded on a lane. `on_failed(arm, error)` is told of an arm that did not come up."""

    tools: LaneContext
    on_failed: Callable[[ServerConfig, str], None]
    sessions: dict[str, Session] = field(default_factory=dict)
    launches: dict[str, int] = field(default_factory=dict)  # by arm id: how often started
    _arms: dict[str, ServerConfig] = field(default_factory=dict)

    def open(self, servers: Sequence[ServerConfig], *, timeout_s: float, retries: int) -> None:
        """Start what is missing of `servers`, as many at a time as there is room for, and wait until they answer.

        One that crashes over its load is started again, up to `retries` times. A load is given up as soon as an end
        is asked for: nothing is lost with it.
        """
        starting: list[_Start] = []
        for server in servers:
            if server.id in self.sessions:
                continue
            if starting and self._refusal(server, [start.server for start in starting]) is not None:
                self._await(starting, timeout_s, retries)  # what they take is known only once they are loaded
                starting = []
            if self.tools.stop.requested:
                break
            try:
                starting.append(self._start(server, [start.server for start in starting]))
            except (LaunchFailed, ProgramError) as error:
                self.on_failed(server, str(error))
        self._await(starting, timeout_s, retries)

    def _refusal(self, server: ServerConfig, loading: Sequence[ServerConfig]) -> LaunchFailed | None:
        try:
            self.tools.require_room(server, self.resident(loading), loading)
        except LaunchFailed as error:
            return error
        return None

    def resident(self, loading: Sequence[ServerConfig] = ()) -> list[ServerConfig]:
        """The loaded arms but those."""
        apart = {server.id for server in loading}
        return [self._arms[arm_id] for arm_id in self.sessions if arm_id not in apart]

    def _start(self, server: ServerConfig, loading: Sequence[ServerConfig]) -> _Start:
        """Raises LaunchFailed, ProgramError."""
        refusal = self._refusal(server, loading)
        if refusal is not None:
            raise refusal
        wrong = self.tools.check_files(server, False)
        if wrong is not None:
            raise LaunchFailed(wrong)
        self.tools.observe(ServerLoading(lane=self.tools.lane.number, server=server))
        began = time.perf_counter()
        engine = self.tools.engine_of(server)
        session = engine.launch(server, lane=self.tools.lane, log_path=self.tools.log_path(server))
        self.launches[server.id] = self.launches.get(server.id, 0) + 1
        self.sessions[server.id] = session
        self._arms[server.id] = server
        if session.pid is not None:
            self.tools.pids.add(session.pid)
        return _Start(server=server, session=session, began=began)

    def _await(self, starting: Sequence[_Start], timeout_s: float, retries: int) -> None:
        if starting:
            self.tools.loading()
        for first in starting:
            start = first
            for left in reversed(range(retries + 1)):
                error = self._came_up(start, timeout_s)
                if error is None or self.tools.stop.requested:
                    break
                try:
                    if not (left and error.crashed):
                        raise error
                    start = self._start(start.server, ())
                except (LaunchFailed, ProgramError) as final:
                    self.on_failed(start.server, str(final))
                    break

    def _came_up(self, start: _Start, timeout_s: float) -> LaunchFailed | None:
        """Wait until a server answers; what kept it from that."""
        server, session = start.server, start.session
        try:
            with self.tools.stop.closing(session.close, early=True):
                session.wait_ready(timeout_s)
        except LaunchFailed as error:
            self.close(server.id)
            return error
        memory = self.tools.memory(session)
        if memory is not None:
            self.tools.on_memory(server, memory)
        load_s = time.perf_counter() - start.began
        self.tools.observe(ServerReady(lane=self.tools.lane.number, server=server, load_s=load_s, memory_bytes=memory))
        return None

    def make_room(self, server: ServerConfig, needed: Sequence[ServerConfig]) -> None:
        """End servers until there is room for `server`: first those that are not `needed`, then the needed ones."""
        if server.id in self.sessions:
            return
        wanted = {other.id for other in needed}
        for loaded in sorted(self.sessions, key=lambda arm_id: arm_id in wanted):
            if self._refusal(server, ()) is None:
                return
            self.close(loaded)

    def close(self, arm_id: str) -> None:
        """End an arm's server; nothing where it has none."""
        session = self.sessions.pop(arm_id, None)
        if session is None:
            return
        if session.pid is not None:
            self.tools.pids.discard(session.pid)
        session.close()

    def keep_only(self, servers: Sequence[ServerConfig]) -> None:
        """End all servers but those, all at once: each takes its time to let go of its memory."""
        wanted = {server.id for server in servers}
        unwanted = [arm_id for arm_id in self.sessions if arm_id not in wanted]
        if unwanted:
            with ThreadPoolExecutor(len(unwanted)) as pool:
                list(pool.map(self.close, unwanted))
