"""llama-server as an engine, and the session that the embedded one shares: a child of ours that speaks HTTP."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from velosweep.errors import LaunchFailed, RunFailed
from velosweep.llama_cpp import failures, process
from velosweep.llama_cpp.arguments import server_arguments
from velosweep.llama_cpp.capabilities import Capabilities, of_program
from velosweep.llama_cpp.client import HttpClient, ServerAddress
from velosweep.llama_cpp.device_list import list_devices, pinning_environment
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.llama_cpp.server_client import ServerClient
from velosweep.values import Device, Lane

_LISTENING = re.compile(r"listening on (?:http://)?([^\s:/]+):(\d+)")

_SILENCE_S = 2.0


class ServerEngine:
    """One llama-server process for each server configuration."""

    name = "server"

    def __init__(self, program: str) -> None:
        """`program`: absolute path of llama-server. Raises ProgramError if it can't be asked what it can do."""
        self.capabilities: Capabilities = of_program(program)
        self._program = program

    @property
    def build(self) -> str:
        """Version as the program says it."""
        return self.capabilities.build

    def devices(self) -> tuple[Device, ...]:
        """The GPUs that the program can use, in its order; empty for a build without any."""
        return list_devices(self._program, self.capabilities)

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> ServerSession:
        """Start a server and return at once. Raises LaunchFailed, ProgramError."""
        # Port 0 lets the kernel choose, so that no two servers can meet on one.
        arguments = server_arguments(server, lane=lane, capabilities=self.capabilities, port=0)
        api_key = secrets.token_urlsafe(24)
        environment = {**pinning_environment(lane), "LLAMA_API_KEY": api_key}
        child = start_child([self._program, *arguments], log_path=log_path, environment=environment, lane=lane)
        return ServerSession(server, child, log_path=log_path, api_key=api_key)


def start_child(
    argv: list[str], *, log_path: Path, environment: Mapping[str, str | None], lane: Lane, stdin: bool = False
) -> process.ChildProcess:
    """Start a program on the lane's cores with its output in `log_path`. Raises LaunchFailed."""
    try:
        return process.start(argv, stderr=log_path, environment=environment, stdin=stdin, cores=lane.cores)
    except OSError as error:
        raise LaunchFailed(f"{argv[0]} can't be started: {error}") from None


def _listening_port(pid: int) -> int | None:
    """A TCP port that the process listens on, None if there is none or the system won't say."""
    import psutil

    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except (psutil.Error, AttributeError):
        return None
    return next((c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN and c.laddr), None)


_KILLED = -9  # by somebody, or by a system that is out of memory: to load again would do harm


class ServerSession:
    """A llama-server that we started."""

    def __init__(self, server: ServerConfig, child: process.ChildProcess, *, log_path: Path, api_key: str) -> None:
        self._server = server
        self._child = child
        self._log_path = log_path
        self._api_key = api_key
        self._started = time.perf_counter()
        self._client: ServerClient | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    @property
    def pid(self) -> int | None:
        """The server's process."""
        return self._child.pid

    def wait_ready(self, timeout_s: float) -> None:
        """Block until the model is loaded and the server drafts, or doesn't, as configured. Raises LaunchFailed."""
        deadline = time.perf_counter() + timeout_s
        http: HttpClient | None = None

        def ready() -> bool:
            nonlocal http
            http = http or self._listening()
            return not self._child.alive or (http is not None and http.health_problem() is None)

        came = process.wait_for(ready, deadline, first_s=0.01, longest_s=0.25)
        if not self._child.alive:
            self._fail()
        if not came or http is None:
            self.close()
            raise LaunchFailed(
                f"llama.cpp was not ready after {timeout_s:g} s (log: {self._log_path})",
                remedy="raise protocol.load_timeout_s, or see the log for what it waits for",
            )
        self._client = ServerClient(self._server, http)
        self._check_mode(self._client, max(1.0, deadline - time.perf_counter()))

    def _listening(self) -> HttpClient | None:
        match = _LISTENING.search(process.tail(self._log_path))
        if match is not None:
            return HttpClient(ServerAddress(host=match.group(1), port=int(match.group(2)), api_key=self._api_key))
        # A person's own arguments may have silenced the log; the system knows the port, too, but asking it costs more.
        if time.perf_counter() - self._started > _SILENCE_S:
            port = _listening_port(self._child.pid)
            return HttpClient(ServerAddress(port=port, api_key=self._api_key)) if port else None
        return None

    def _check_mode(self, client: ServerClient, timeout_s: float) -> None:
        try:
            wrong = client.check_mode(timeout_s=timeout_s)
        except RunFailed as error:
            if self._child.wait(0.2) is not None:
                self._fail()
            wrong = f"It does not answer as llama-server does: {error.message}"
        if wrong is not None:
            log = process.tail(self._log_path)
            self.close()
            failure = failures.diagnose(log, None)
            raise LaunchFailed(f"{wrong}: {failure.cause} (log: {self._log_path})", remedy=failure.remedy)

    def _fail(self) -> None:
        log, code = process.tail(self._log_path), self._child.exit_code
        self.close()
        failure = failures.diagnose(log, code)
        raise LaunchFailed(
            f"llama.cpp did not start: {failure.cause} (log: {self._log_path})",
            remedy=failure.remedy,
            crashed=code is not None and code < 0 and code != _KILLED,
        )

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """One run. Raises RunTimeout, RunFailed (with the cause of death if the server died)."""
        if self._client is None:
            raise RunFailed("The server was asked before it was ready; call wait_ready first")
        try:
            return self._client.generate(request, timeout_s=timeout_s)
        except RunFailed as error:
            # A dying server closes its sockets a moment before it can be waited for.
            if self._child.wait(0.2) is None:
                raise
            failure = failures.diagnose(process.tail(self._log_path), self._child.exit_code)
            # an unknown cause says itself how it ended
            how = "" if not failure.known else f" ({process.describe_exit(self._child.exit_code)})"
            raise RunFailed(
                f"llama.cpp died during the run{how}: {failure.cause} (log: {self._log_path})",
                remedy=failure.remedy,
            ) from error

    def memory_bytes(self) -> int | None:
        """Resident set of the process."""
        import psutil

        try:
            return int(psutil.Process(self._child.pid).memory_info().rss)
        except psutil.Error:
            return None

    def close(self) -> None:
        """End the server; idempotent."""
        self._child.stop()
