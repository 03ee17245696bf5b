"""llama-server as an engine, and the session that the embedded one shares: a child of ours that speaks HTTP."""

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from velosweep.config.settings import Speculation
from velosweep.errors import LaunchFailed, RunFailed
from velosweep.llama_cpp import failures, process
from velosweep.llama_cpp.arguments import server_arguments
from velosweep.llama_cpp.capabilities import Capabilities, capabilities_of, list_devices, pinning_environment
from velosweep.llama_cpp.client import HttpClient, ServerAddress
from velosweep.llama_cpp.engine import Engine, Generation, Request, ServerConfig, Session
from velosweep.llama_cpp.server_client import ServerClient
from velosweep.llama_cpp.server_log import DraftingLog, offloaded_layers
from velosweep.values import Device, Lane

# A model's name stands in the log, too, and may say that it listens elsewhere: ours are always started on this address.
_LISTENING = re.compile(r"listening on (?:http://)?127\.0\.0\.1:(\d{1,5})\b")
_SILENCE_S = 2.0
_LAST_WORDS = 1 << 20  # bytes of log in which the cause of a death is looked for: debuggers write much
_KILLED = 9  # by somebody, or by a system that is out of memory: to load again would do harm


class ServerEngine(Engine):
    """One llama-server process for each server configuration."""

    name = "server"

    def __init__(self, program: str) -> None:
        """`program`: absolute path of llama-server. Raises ProgramError if it can't be asked what it can do."""
        self._capabilities = capabilities_of(program)

    @property
    def build(self) -> str:
        return self._capabilities.build

    def capabilities_for(self, speculation: Speculation | None) -> Capabilities:
        return self._capabilities

    def devices(self) -> tuple[Device, ...]:
        return list_devices(self._capabilities.program)

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> "ServerSession":
        arguments = server_arguments(server, lane=lane, capabilities=self._capabilities)
        api_key = secrets.token_urlsafe(24)
        argv, environment = [self._capabilities.program, *arguments], {"LLAMA_API_KEY": api_key}
        child = start_child(argv, lane=lane, log_path=log_path, environment=environment)
        return ServerSession(server, child, log_path=log_path, api_key=api_key)


def listening_port(log: str) -> int | None:
    """The port that a server of ours says it listens on."""
    ports = map(int, _LISTENING.findall(log))
    return next((port for port in ports if 0 < port < 1 << 16), None)


def find_listener(pid: int, port: int | None = None) -> tuple[int, int] | None:
    """The process that listens and its port: `pid`, or one that it started as packages' scripts do.

    `port`: the only one that counts.
    """

    def processes() -> Iterator[psutil.Process]:
        yield psutil.Process(pid)
        yield from psutil.Process(pid).children(recursive=True)

    with suppress(psutil.Error):
        for one in processes():
            for found in one.net_connections(kind="tcp"):
                if found.status == psutil.CONN_LISTEN and port in (None, found.laddr.port):
                    return one.pid, found.laddr.port
    return None


def start_child(
    argv: list[str], *, lane: Lane, log_path: Path, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> process.ChildProcess:
    """Start a program on the lane's cores and devices with its output in `log_path`. Raises LaunchFailed."""
    variables = {**pinning_environment(lane), **(environment or {})}
    try:
        return process.start(argv, stderr=log_path, environment=variables, stdin=stdin, cores=lane.cores)
    except OSError as error:
        raise LaunchFailed(f"{argv[0]} can't be started: {error}") from None


class ServerSession(Session):
    """A llama-server that we started."""

    def __init__(self, server: ServerConfig, child: process.ChildProcess, *, log_path: Path, api_key: str) -> None:
        self._server = server
        self._child = child
        self._pid = child.pid
        self._log_path = log_path
        self._api_key = api_key
        self._started = time.perf_counter()
        self._client: ServerClient | None = None
        kinds = server.speculation.kinds if server.speculation and server.concurrency == 1 else ()  # of several: a sum
        self._drafting = DraftingLog(log_path, kinds=len(kinds))
        self._layers: tuple[int | None, int | None] = None, None

    @property
    def alive(self) -> bool:
        return self._child.exit_code is None

    @property
    def pid(self) -> int:
        """Where a script started the server, that one's process once it is ready."""
        return self._pid

    def wait_ready(self, timeout_s: float) -> None:
        deadline = time.perf_counter() + timeout_s
        http: HttpClient | None = None
        problem: str | None = None

        def ready() -> bool:
            nonlocal http, problem
            http = http or self._listening()
            problem = http.health_problem() if http is not None else None
            return not self.alive or (http is not None and (problem is None or http.unreachable))

        came = process.wait_for(ready, deadline, longest_s=0.25)
        if not self.alive:
            raise self._launch_failed("llama.cpp did not start", self._child.exit_code)
        if http is not None and http.unreachable:
            self.close()
            raise LaunchFailed(
                f"llama.cpp listens at {http.address}, which can't be reached from this machine itself: {problem}",
                remedy="bring its loopback device up (ip link set lo up)",
            )
        if not came or http is None:
            self.close()
            raise LaunchFailed(
                f"llama.cpp was not ready after {timeout_s:g} s{f' ({problem})' if problem else ''} "
                f"(log: {self._log_path})",
                remedy="raise protocol.load_timeout_s, or see the log for what it waits for",
            )
        self._client = ServerClient(self._server, http)
        try:
            wrong = self._client.check_mode(timeout_s=max(1.0, deadline - time.perf_counter()))
        except RunFailed as error:
            if self._child.wait(0.2) is not None:
                raise self._launch_failed("llama.cpp did not start", self._child.exit_code) from None
            wrong = f"It does not answer as llama-server does: {error.message}"
        if wrong is not None:
            raise self._launch_failed(wrong, None)
        self._layers = offloaded_layers(self._log_path)
        self._pid, _ = find_listener(self._child.pid, http.address.port) or (self._child.pid, 0)

    def _listening(self) -> HttpClient | None:
        if port := listening_port(process.tail(self._log_path)):
            return HttpClient(ServerAddress(port=port, api_key=self._api_key))
        # A person's own arguments may have silenced the log; the system knows the port, too, but asking it costs more.
        if time.perf_counter() - self._started > _SILENCE_S and (found := find_listener(self._child.pid)):
            return HttpClient(ServerAddress(port=found[1], api_key=self._api_key))
        return None

    def _launch_failed(self, what: str, exit_code: int | None) -> LaunchFailed:
        """The error of a launch, with the cause that the log gives, after the server is ended."""
        log = process.tail(self._log_path, _LAST_WORDS)
        self.close()
        failure = failures.diagnose(log, exit_code)
        return LaunchFailed(
            f"{what}: {failure.cause} (log: {self._log_path})",
            remedy=failure.remedy,
            crashed=process.signal_of(exit_code) not in (0, _KILLED),
        )

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """One run. Raises RunTimeout, RunFailed (with the cause of death if the server died)."""
        if self._client is None:
            raise RunFailed("The server was asked before it was ready; call wait_ready first")
        try:
            self._drafting.skip()
            generation = self._client.generate(request, timeout_s=timeout_s)
        except RunFailed as error:
            # A dying server closes its sockets a moment before it can be waited for.
            code = self._child.wait(0.2)
            if code is None:
                raise
            failure = failures.diagnose(process.tail(self._log_path, _LAST_WORDS), code)
            words = process.describe_exit(code)
            how = "" if words in failure.cause else f" ({words})"
            raise RunFailed(
                f"llama.cpp died during the run{how}: {failure.cause} (log: {self._log_path})", remedy=failure.remedy
            ) from error
        draft_ms = self._drafting.run_ms(generation.draft_tokens)
        batches = self._client.time_batches(request.batches, timeout_s=timeout_s)
        tokens, times_ms = zip(*batches, strict=True) if batches else (None, None)
        there, layers = self._layers
        return replace(
            generation, draft_ms=draft_ms, batch_tokens=tokens, batch_ms=times_ms, layers_on_gpu=there, layers=layers
        )

    def check_request(self, request: Request) -> None:
        if self._client is not None:
            self._client.check_request(request)

    def memory_bytes(self) -> int | None:
        """Resident set of the process."""
        try:
            return int(psutil.Process(self._pid).memory_info().rss)
        except psutil.Error:
            return None

    def close(self) -> None:
        self._child.stop()
