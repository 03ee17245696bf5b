"""The one HTTP client of every engine: health, props, slots, metrics and the measured completion.

The measured path does nothing between the request and its last byte but receive and note the time; everything
is parsed afterwards.
"""

from __future__ import annotations

import http.client
import io
import json
import math
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from velosweep.errors import RunFailed, RunTimeout

_RECEIVE_BYTES = 1 << 18
# llama-server's events are 120 to 150 bytes a token, its last one 1,700 and more: that wakes us at once. A peer with
# shorter ones that does not close either is looked after so often.
_EVENTS_BYTES = 1024
_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a server listens: a host and port, or a Unix socket's path; `prefix` as in http://host/prefix."""

    host: str = "127.0.0.1"
    port: int = 0
    unix: str | None = None
    prefix: str = ""
    api_key: str | None = field(default=None, repr=False)

    def connect(self, timeout_s: float) -> socket.socket:
        """A connected socket. Raises OSError."""
        if self.unix is not None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout_s)
            connection.connect(self.unix)
            return connection
        connection = socket.create_connection((self.host, self.port), timeout=timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def __str__(self) -> str:
        return self.unix or f"http://{self.host}:{self.port}{self.prefix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A whole answer; the times are perf_counter's.

    `first_event_at`, `last_event_at`: when the first and the last `data:` of a stream came (None if it has none;
    a server's keep-alive comments are no events).
    """

    status: int
    body: bytes
    sent_at: float
    first_event_at: float | None
    last_event_at: float | None

    def json(self) -> object:
        """The body as JSON. Raises RunFailed if it isn't."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise RunFailed(f"The server answered with something that isn't JSON: {_shown(self.body)}") from None


def fetch(
    address: Address, method: str, path: str, payload: Mapping[str, object] | None = None, *, timeout_s: float
) -> Reply:
    """One request over one connection.

    Raises RunTimeout if the whole answer isn't there in `timeout_s`, RunFailed if the connection fails or what
    comes back is no HTTP.
    """
    request = _request_bytes(address, method, path, payload)
    deadline = time.perf_counter() + timeout_s
    pieces: list[tuple[float, bytes]] = []
    try:
        with address.connect(timeout_s) as connection:
            sent_at = time.perf_counter()
            connection.sendall(request)
            _receive(connection, deadline, pieces)
    except TimeoutError:
        came = sum(len(data) for _, data in pieces)
        raise RunTimeout(f"No complete answer to {method} {path} within {timeout_s:g} s ({came} bytes came)") from None
    except OSError as error:
        raise RunFailed(f"The connection to {address} broke during {method} {path}: {error}") from None
    return _parse(pieces, sent_at, f"{method} {path}")


def _request_bytes(address: Address, method: str, path: str, payload: Mapping[str, object] | None) -> bytes:
    body = b"" if payload is None else json.dumps(payload).encode()
    lines = [
        f"{method} {address.prefix}{path} HTTP/1.1",
        f"Host: {address.host}",
        "Accept: */*",
        # The server then ends the stream by closing, and no idle connection holds one of its threads.
        "Connection: close",
    ]
    if address.api_key:
        lines.append(f"Authorization: Bearer {address.api_key}")
    if payload is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _receive(connection: socket.socket, deadline: float, pieces: list[tuple[float, bytes]]) -> None:
    """Collect until the peer closes, or the last chunk is there although it does not.

    Between the first event and the last no time is wanted, and a waking for each token was most of what a run cost the
    driver: then the system wakes us for several events, for the last one, which is long, and for the end.
    """
    now = time.perf_counter
    begun = False
    while True:
        left = deadline - now()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(min(left, _LOOK_S) if begun else left)
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except TimeoutError:
            if (few := _few_bytes(connection)) is None:
                continue
            data = few
        if not data:
            return
        pieces.append((now(), data))
        # A chunked body's last chunk; JSON has its line ends escaped, so no token can look like it.
        if data.endswith(b"0\r\n\r\n") and b"".join(d for _, d in pieces[-2:]).endswith(b"\r\n0\r\n\r\n"):
            return
        if not begun and b"data:" in b"".join(d for _, d in pieces[-2:]):
            begun = True
            with suppress(OSError):  # a system that has it not wakes us as before
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _EVENTS_BYTES)


def _few_bytes(connection: socket.socket) -> bytes | None:
    """What is there although it is not enough to be woken for; None for nothing."""
    connection.settimeout(0)
    try:
        return connection.recv(_RECEIVE_BYTES)
    except BlockingIOError:
        return None


class _Recorded(io.BytesIO):
    """Lets http.client read recorded bytes as if from a socket."""

    def makefile(self, *_: object, **__: object) -> _Recorded:
        return self


def _parse(pieces: Sequence[tuple[float, bytes]], sent_at: float, what: str) -> Reply:
    raw = b"".join(data for _, data in pieces)
    if not raw:
        raise RunFailed(f"The server closed the connection without an answer to {what}")
    response = http.client.HTTPResponse(_Recorded(raw))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ValueError, OverflowError) as error:  # OverflowError: an absurd length
        raise RunFailed(f"The answer to {what} is cut short or no HTTP ({error!r}): {_shown(raw[-200:])}") from None
    return Reply(
        status=response.status,
        body=body,
        sent_at=sent_at,
        first_event_at=_arrival(pieces, raw.find(b"data:", raw.find(b"\r\n\r\n"))),
        last_event_at=_arrival(pieces, raw.rfind(b"data:")),
    )


def _arrival(pieces: Sequence[tuple[float, bytes]], offset: int) -> float | None:
    """When the byte at `offset` came; None for offset -1."""
    received = 0
    for moment, data in pieces:
        received += len(data)
        if 0 <= offset < received:
            return moment
    return None


def _shown(data: bytes) -> str:
    text = data.decode(errors="replace")
    return repr(text if len(text) <= 200 else text[:200] + "…")


def check_status(reply: Reply, what: str) -> None:
    """Raise RunFailed with the server's own message unless the status is 200."""
    if reply.status == 200:
        return
    message = _shown(reply.body)
    try:
        error = json.loads(reply.body)["error"]
        message = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # not in llama-server's form: what came is shown as it is
    remedy = None
    if "exceed" in message and "context" in message:
        remedy = "shorten the prompt or raise engine.context"
    elif reply.status == 401:
        remedy = "set LLAMA_API_KEY to the server's API key"
    raise RunFailed(f"The server answered {what} with status {reply.status}: {message}", remedy=remedy)


# ---------------------------------------------------------------- small questions


def health(address: Address, *, timeout_s: float = 2.0) -> bool:
    """Whether /health says 200; False while it loads or does not listen yet."""
    try:
        return fetch(address, "GET", "/health", timeout_s=timeout_s).status == 200
    except RunFailed:
        return False


def get_json(address: Address, path: str, *, timeout_s: float = 10.0) -> object:
    """A JSON resource, None where the build has none (404, 501) or has it switched off. Raises RunFailed."""
    reply = fetch(address, "GET", path, timeout_s=timeout_s)
    if reply.status in (403, 404, 501):
        return None
    check_status(reply, f"GET {path}")
    return reply.json()


# ---------------------------------------------------------------- the measured request


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One finished /completion: the final event, all tokens, and the client's times."""

    final: Mapping[str, object]
    tokens: tuple[int, ...]
    text: str
    time_to_first_token_ms: float
    total_time_ms: float

    @property
    def timings(self) -> Mapping[str, object]:
        """llama.cpp's own times and counts."""
        timings = self.final.get("timings")
        return timings if isinstance(timings, Mapping) else {}

    def number(self, name: str) -> float:
        """A finite number of `timings`. Raises RunFailed naming the field."""
        value = self.timings.get(name)
        try:
            if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
                return float(value)
        except OverflowError:  # an integer beyond every float
            value = "a number beyond all bounds"
        raise RunFailed(f"The server's timings have no usable {name}: {value!r:.200}")

    def count(self, name: str) -> int | None:
        """A non-negative count of `timings`, None where the build has it not."""
        return int(self.number(name)) if self.timings.get(name) is not None else None


def complete(address: Address, payload: Mapping[str, object], *, timeout_s: float) -> Completion:
    """POST /completion as a stream and measure it.

    Raises RunTimeout, or RunFailed for an error status, a broken stream or one without a final event.
    """
    what = "POST /completion"
    reply = fetch(address, "POST", "/completion", {**payload, "stream": True}, timeout_s=timeout_s)
    check_status(reply, what)
    events = parse_events(reply.body)
    errors = [event["error"] for event in events if "error" in event]
    if errors:
        error = errors[0]
        raise RunFailed(f"The server gave up: {error.get('message', error) if isinstance(error, dict) else error}")
    final = next((event for event in reversed(events) if event.get("stop") is True), None)
    if final is None:
        raise RunFailed(f"The stream ended after {len(events)} events without a final one; the server may have died")
    tokens = tuple(token for event in events for token in _sequence(event.get("tokens")) if isinstance(token, int))
    text = "".join(content for event in events if isinstance(content := event.get("content"), str))
    if reply.first_event_at is None or reply.last_event_at is None:
        raise RunFailed(f"The answer to {what} is no event stream: {_shown(reply.body)}")
    return Completion(
        final=final,
        tokens=tokens,
        text=text,
        time_to_first_token_ms=(reply.first_event_at - reply.sent_at) * 1000,
        total_time_ms=(reply.last_event_at - reply.sent_at) * 1000,
    )


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def parse_events(body: bytes) -> list[dict[str, object]]:
    """Server-sent events whose data are JSON objects. Raises RunFailed at the first that isn't."""
    events = []
    for line in body.splitlines():
        if line.startswith(b"error:"):
            line = b"data: {" + b'"error":' + line[6:] + b"}"
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data in (b"", b"[DONE]"):
            continue
        try:
            event = _loaded(data)
        except (ValueError, RecursionError):
            raise RunFailed(f"The stream has an event that isn't JSON: {_shown(data)}") from None
        if not isinstance(event, dict):
            raise RunFailed(f"The stream has an event that isn't a JSON object: {_shown(data)}")
        events.append(event)
    return events


def _loaded(data: bytes) -> object:
    """One event's JSON. There is one a token: orjson reads those of a run in a third of Python's time."""
    import orjson

    try:
        return orjson.loads(data)
    except ValueError:  # Python's own takes NaN, too: then the figure is told that is none
        return json.loads(data)
