"""llama-servers that already run, one for each mode. We start and end nothing, and refuse what doesn't fit."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from velosweep.errors import LaunchFailed, ProgramError, RunFailed, RunTimeout, combine_errors
from velosweep.llama_cpp import process
from velosweep.llama_cpp.client import LOADING, HttpClient, ServerAddress
from velosweep.llama_cpp.engine import Engine, Generation, Request, ServerConfig, Session
from velosweep.llama_cpp.server_client import ServerClient, lack_of_slots
from velosweep.llama_cpp.server_facts import model_meta, server_props, server_slots
from velosweep.values import Lane, Mode

_KEYS = {Mode.VANILLA: "engine.vanilla_url", Mode.SPECULATIVE: "engine.speculative_url"}
# What /v1/models says of a model that is the same wherever the file lies.
_MODEL_FACTS = ("n_params", "size", "n_vocab", "n_embd", "vocab_type")
# How long a server may be unreachable: before a sweep it is just being started, during one its owner restarts it.
_STARTING_S = 3.0
_RESTARTING_S = 30.0


def parse_url(url: str) -> ServerAddress:
    """`http://host:port/prefix`, `http://:KEY@host:port` or `unix:///path/to.sock`. Raises ProgramError.

    A key that is not in the URL is taken from $LLAMA_API_KEY, which keeps it out of the results' configuration.
    """
    from_environment = os.environ.get("LLAMA_API_KEY") or None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 8080
    except ValueError:  # a port that is no number, a bracket without its other
        parts, port = urlsplit(""), 0
    if parts.scheme == "unix":
        return ServerAddress(unix=parts.path, host="localhost", api_key=from_environment)
    if parts.scheme != "http" or not parts.hostname:
        head, at, tail = url.rpartition("@")
        shown = f"{head.partition('://')[0]}://…@{tail}" if at else url  # without its key
        raise ProgramError(
            f"{shown} is not a llama-server address", remedy="write http://host:port, or http://:API_KEY@host:port"
        )
    key = unquote(parts.password) if parts.password else from_environment
    return ServerAddress(host=parts.hostname, port=port, prefix=parts.path.rstrip("/"), api_key=key)


class AttachedEngine(Engine):
    """Servers that somebody else runs."""

    name = "attached"

    def __init__(self, *, vanilla_url: str | None, speculative_url: str | None) -> None:
        """At least one URL. Raises ProgramError for one that can't be read."""
        if vanilla_url is None and speculative_url is None:
            raise ProgramError("engine=attached without a server", remedy="set engine.vanilla_url and speculative_url")
        self._addresses = {
            mode: parse_url(url)
            for mode, url in ((Mode.VANILLA, vanilla_url), (Mode.SPECULATIVE, speculative_url))
            if url is not None
        }
        self._build = ""

    @property
    def build(self) -> str:
        """What the servers say, `unknown` while none can be reached."""
        self._build = self._build or " and ".join(sorted(set(self._said("build_info"))))
        return self._build or "unknown"

    def served_model(self) -> str | None:
        """The model file that the servers say they hold, vanilla's first; None while none can be asked or says it."""
        path = next(self._said("model_path"), None)
        return path if path is None or path.isprintable() else ascii(path)

    def _said(self, name: str) -> Iterator[str]:
        """What each server says of itself under this name, vanilla first; nothing of one that can't be asked."""
        for address in self._addresses.values():
            with suppress(RunFailed):
                value = server_props(HttpClient(address), timeout_s=3.0).get(name)
                if isinstance(value, str) and value.strip():
                    yield value

    def check_reachable(self, *, streams: int) -> None:
        """Raise ProgramError for each server that can't be asked, with the cause; one that still loads is no problem.

        Nor may one have fewer slots than `streams` requests at once. Takes some seconds at most: a server that is just
        being started is given that long to listen.
        """
        problems = []
        began = time.perf_counter()  # the wait for one server is the other's, too
        for mode, address in self._addresses.items():
            key, http = _KEYS[mode], HttpClient(address)
            problem = _wait_healthy(http, unreachable_s=_STARTING_S + began - time.perf_counter(), loading_s=0)
            if problem == LOADING:
                continue
            try:
                if problem is not None:
                    raise RunFailed(problem, remedy=f"start it, or correct {key}")
                server_props(http)  # any web server may say that it is well
                if streams > 1 and (lack := lack_of_slots(server_slots(http), streams)):
                    problems.append(ProgramError(f"{key} {address}: {lack}", remedy="or lower concurrency"))
            except RunTimeout:  # it may be busy; its launch says what is the matter
                pass
            except RunFailed as error:
                remedy = error.remedy or f"correct {key}"
                problems.append(ProgramError(_no_answer(address, key, error.message), remedy=remedy))
        if problems:
            raise combine_errors(problems)

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> "AttachedSession":
        """Nothing is started. Raises ProgramError if no server was named for this mode."""
        if server.mode not in self._addresses:
            raise ProgramError(
                f"engine=attached, but no {server.mode.value} server is set", remedy=f"set {_KEYS[server.mode]}"
            )
        other = Mode.VANILLA if server.mode is Mode.SPECULATIVE else Mode.SPECULATIVE
        return AttachedSession(server, self._addresses[server.mode], other=self._addresses.get(other))


def _wait_healthy(http: HttpClient, *, unreachable_s: float, loading_s: float) -> str | None:
    """Wait for /health to say that the server is ready; what is wrong after that time or an abort, None for nothing."""
    started = time.perf_counter()
    problem: str | None = None

    def settled() -> bool:
        nonlocal problem
        problem = http.health_problem()
        longest_s = loading_s if problem == LOADING else unreachable_s
        return problem is None or http.aborted or time.perf_counter() - started > longest_s

    process.wait_for(settled, math.inf, longest_s=0.5)
    return problem


def _no_answer(address: ServerAddress, key: str, problem: str | None) -> str:
    return f"No llama-server answers at {address} ({key}): {problem}"


class AttachedSession(Session):
    """One server of somebody else's."""

    def __init__(self, server: ServerConfig, address: ServerAddress, *, other: ServerAddress | None) -> None:
        self._server = server
        self._http = HttpClient(address)
        self._client = ServerClient(server, self._http)
        self._other = other
        self._failed = False
        self._pid: int | None = None

    @property
    def alive(self) -> bool:
        """Whether it can still be asked; after a failure the server itself is asked for its health."""
        return not self._http.aborted and (not self._failed or self._http.health_problem() is None)

    @property
    def pid(self) -> int | None:
        """The server's process where it runs here and the system tells us: its work is not another program's."""
        if self._pid is None:
            self._pid = process.listener(self._http.address.host, self._http.address.port)
        return self._pid

    def wait_ready(self, timeout_s: float) -> None:
        """Block until it answers; refuse one whose model or speculation isn't the job's. Raises LaunchFailed.

        Only a server that says that it loads is waited for as long as that.
        """
        key, address = _KEYS[self._server.mode], self._http.address
        problem = _wait_healthy(self._http, unreachable_s=min(timeout_s, _RESTARTING_S), loading_s=timeout_s)
        if problem is not None:
            raise LaunchFailed(_no_answer(address, key, problem), remedy=f"start it, or correct {key}")
        try:
            self._refuse_other_model()
            wrong = self._client.check_mode(timeout_s=timeout_s)
            if wrong is not None:
                raise RunFailed(wrong, remedy="start the server as the job says, or attach another")
            self._client.check_drafting(timeout_s=timeout_s)
        except RunFailed as error:
            raise LaunchFailed(f"{key} {address}: {error.message}", remedy=error.remedy) from None

    def _refuse_other_model(self) -> None:
        if self._other is None:
            return
        ours, theirs = model_facts(self._http), model_facts(HttpClient(self._other))
        differing = [name for name in ours if name in theirs and ours[name] != theirs[name]]
        if differing:
            shown = ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in differing)
            raise RunFailed(
                f"the servers at {self._http.address} and {self._other} hold different models ({shown})",
                remedy="start both with the same main model",
            )

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        try:
            return self._client.generate(request, timeout_s=timeout_s)
        except RunFailed:
            self._failed = True
            raise

    def check_request(self, request: Request) -> None:
        self._client.check_request(request)

    def close(self) -> None:
        """Give up what was asked of it, from any thread; the server runs on."""
        self._http.abort()


def model_facts(http: HttpClient) -> dict[str, object]:
    """What distinguishes the server's model from another; its file's name where a build says nothing better.

    Raises RunFailed if the server can't be asked.
    """
    meta = model_meta(http)
    if facts := {name: meta[name] for name in _MODEL_FACTS if name in meta}:
        return facts
    path = server_props(http).get("model_path")
    return {"file": Path(path).name} if isinstance(path, str) else {}
