"""llama-servers that already run, one for each mode. We start and end nothing, and refuse what doesn't fit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from velosweep.errors import LaunchFailed, ProgramError, RunFailed
from velosweep.llama_cpp import client as http
from velosweep.llama_cpp import process
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.llama_cpp.session import ServerClient
from velosweep.values import Lane, Mode

_KEYS = {Mode.VANILLA: "engine.vanilla_url", Mode.SPECULATIVE: "engine.speculative_url"}
# What /v1/models says of a model that is the same wherever the file lies.
_MODEL_FACTS = ("n_params", "size", "n_vocab", "n_embd", "vocab_type")


def parse_url(url: str) -> http.Address:
    """`http://host:port/prefix`, `http://:KEY@host:port` or `unix:///path/to.sock`. Raises ProgramError.

    A key that is not in the URL is taken from $LLAMA_API_KEY, which keeps it out of the results' configuration.
    """
    from_environment = os.environ.get("LLAMA_API_KEY") or None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme == "unix":
        return http.Address(unix=parts.path, host="localhost", api_key=from_environment)
    try:
        port = parts.port or 8080
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise ProgramError(
            f"{_without_key(url)} is no address of a llama-server",
            remedy="write http://host:port, or http://:API_KEY@host:port",
        )
    key = unquote(parts.password) if parts.password else from_environment
    return http.Address(host=parts.hostname, port=port, prefix=parts.path.rstrip("/"), api_key=key)


def _without_key(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url


class AttachedEngine:
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
        self._build: str | None = None

    @property
    def build(self) -> str:
        """What the servers say, `unknown` while none can be reached."""
        if self._build is None:
            said = {build for address in self._addresses.values() if (build := _build_info(address)) is not None}
            if not said:
                return "unknown"
            self._build = " and ".join(sorted(said))
        return self._build

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> AttachedSession:
        """Nothing is started. Raises ProgramError if no server was named for the arm's mode."""
        if server.mode not in self._addresses:
            raise ProgramError(
                f"engine=attached, but no server for {server.mode.value} runs", remedy=f"set {_KEYS[server.mode]}"
            )
        other = Mode.VANILLA if server.mode is Mode.SPECULATIVE else Mode.SPECULATIVE
        return AttachedSession(server, self._addresses[server.mode], other=self._addresses.get(other))


def _build_info(address: http.Address) -> str | None:
    try:
        props = http.get_json(address, "/props")
    except RunFailed:
        return None
    info = props.get("build_info") if isinstance(props, Mapping) else None
    return info if isinstance(info, str) and info else None


class AttachedSession:
    """One server of somebody else's."""

    def __init__(self, server: ServerConfig, address: http.Address, *, other: http.Address | None) -> None:
        self._arm = server
        self._address = address
        self._other = other
        self._dialogue: ServerClient | None = None
        self._closed = False
        self._failed = False

    @property
    def alive(self) -> bool:
        """Whether it can still be asked; after a failure the server itself is asked for its health."""
        return not self._closed and (not self._failed or http.health(self._address))

    @property
    def pid(self) -> int | None:
        """None: it is no process of ours."""
        return None

    def memory_bytes(self) -> int | None:
        """Unknown."""
        return None

    def wait_ready(self, timeout_s: float) -> None:
        """Block until it answers; refuse one whose model or speculation isn't the job's. Raises LaunchFailed."""
        key = _KEYS[self._arm.mode]
        if not process.wait_for(lambda: http.health(self._address), time.perf_counter() + timeout_s, longest_s=1.0):
            raise LaunchFailed(
                f"No llama-server answers at {self._address} ({key})", remedy=f"start it, or correct {key}"
            )
        try:
            self._refuse_other_model()
            dialogue = ServerClient(self._arm, self._address, shared=True)
            wrong = dialogue.check_mode(timeout_s=timeout_s) or dialogue.check_draft_length(timeout_s=timeout_s)
        except RunFailed as error:
            raise LaunchFailed(f"{key} {self._address}: {error.message}", remedy=error.remedy) from None
        if wrong is not None:
            raise LaunchFailed(
                f"{key} {self._address}: {wrong}", remedy="start the server as the job says, or attach another"
            )
        self._dialogue = dialogue

    def _refuse_other_model(self) -> None:
        if self._other is None:
            return
        ours, theirs = model_facts(self._address), model_facts(self._other)
        differing = [name for name in ours if name in theirs and ours[name] != theirs[name]]
        if differing:
            shown = ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in differing)
            raise RunFailed(
                f"the servers at {self._address} and {self._other} hold different models ({shown})",
                remedy="start both with the same main model",
            )

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """One run. Raises RunTimeout, RunFailed."""
        if self._dialogue is None:
            raise RunFailed("The server was asked before it was ready; call wait_ready first")
        try:
            return self._dialogue.generate(request, timeout_s=timeout_s)
        except RunFailed:
            self._failed = True
            raise

    def close(self) -> None:
        """Let go of it; it runs on."""
        self._closed = True


def model_facts(address: http.Address) -> dict[str, object]:
    """What tells the server's model from another; its file's name where a build says nothing better.

    Raises RunFailed if the server can't be asked.
    """
    models = http.get_json(address, "/v1/models")
    data = models.get("data") if isinstance(models, Mapping) else None
    meta = data[0].get("meta") if isinstance(data, list) and data and isinstance(data[0], Mapping) else None
    if isinstance(meta, Mapping) and (facts := {name: meta[name] for name in _MODEL_FACTS if name in meta}):
        return facts
    props = http.get_json(address, "/props")
    path = props.get("model_path") if isinstance(props, Mapping) else None
    return {"file": Path(path).name} if isinstance(path, str) else {}
