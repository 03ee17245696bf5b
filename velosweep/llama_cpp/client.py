"""The one HTTP client of every engine.

Between a measured request and its last byte it only receives and notes the time; everything is parsed afterwards.
Sockets are read by hand for SO_RCVLOWAT: waking up for each token was most of what a run cost the driver's cores.
"""

import concurrent.futures
import errno
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace

from velosweep.errors import RequestRefused, RunFailed, RunTimeout

LOADING = "it is still loading its model"

_CONNECT_S = 5.0
_BAD_REQUEST = (400, 413, 422)
_RECEIVE_BYTES = 1 << 18
_MOST_BYTES = 1 << 28  # of an answer: a million tokens and more; what never ends must not take all memory
# llama-server's events are 120 to 150 bytes a token; its last one has 1,700 and more and so wakes us at once. Shorter
# last events, of a server that does not close the connection either, are looked for this often.
_EVENTS_BYTES = 1024
_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAddress:
    """Where a server listens: a host and port, or a Unix socket's path; `prefix` as in http://host/prefix."""

    host: str = "127.0.0.1"
    port: int = 0
    unix: str | None = None
    prefix: str = ""
    api_key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.unix or f"http://{self.authority}{self.prefix}"

    @property
    def authority(self) -> str:
        """Host and port as a URL has them and the header `Host`, e.g. `[::1]:8080`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpResponse:
    """A whole response; the times are perf_counter's."""

    status: int
    body: bytes
    sent_at: float
    first_event_at: float | None  # when the first `data:` of a stream came; a keep-alive comment is no event
    last_event_at: float | None

    def json(self) -> object:
        """The body as JSON. Raises RunFailed if it isn't."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise RunFailed(f"The server answered with something that isn't JSON: {shown(self.body)}") from None


class HttpClient:
    """Asks one server, over a new connection for each request. Safe to use from any thread."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self.aborted = False
        self.unreachable = False  # the last request found no way to its host

    def abort(self) -> None:
        """End the requests under way and refuse further ones; they raise RunFailed."""
        with self._lock:
            self.aborted = True
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def request(
        self,
        method: str,
        path: str,
        payload: Mapping[str, object] | None = None,
        *,
        timeout_s: float,
        events_bytes: int = _EVENTS_BYTES,
    ) -> HttpResponse:
        """One request and its whole response, whatever its status. `events_bytes`: of a stream, that wake us.

        Raises RunTimeout if the response isn't complete within `timeout_s`, RunFailed if the connection fails, what
        comes back is no HTTP, or `abort` is called.
        """
        message = _request_bytes(self.address, method, path, payload)
        deadline = time.perf_counter() + timeout_s
        pieces: list[tuple[float, bytes]] = []
        try:
            with _connect(self.address, min(timeout_s, _CONNECT_S)) as connection:
                with self._lock:
                    if self.aborted:
                        raise OSError("the request was given up")
                    self._connections.add(connection)
                try:
                    sent_at = time.perf_counter()
                    connection.sendall(message)
                    _receive(connection, deadline, pieces, events_bytes)
                finally:
                    with self._lock:
                        self._connections.discard(connection)
        except TimeoutError:
            came = sum(len(data) for _, data in pieces)
            raise RunTimeout(
                f"No complete answer to {method} {path} within {timeout_s:g} s ({came} bytes came)"
            ) from None
        except OSError as error:
            self.unreachable = error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
            cause = error.strerror or str(error)
            raise RunFailed(f"The connection to {self.address} broke during {method} {path}: {cause}") from None
        if self.aborted:
            raise RunFailed(f"{method} {path} was given up")
        return _parse(pieces, sent_at, f"{method} {path}")

    def get_json(self, path: str, *, timeout_s: float = 10.0) -> object:
        """A JSON resource, None where the build has none (404, 501) or has it switched off (403). Raises RunFailed."""
        response = self.request("GET", path, timeout_s=timeout_s)
        if response.status in (403, 404, 501):
            return None
        check_status(response, f"GET {path}")
        return response.json()

    def health_problem(self) -> str | None:
        """Why the server can't be asked yet (LOADING, or a clause such as "Connection refused"); None if it can."""
        try:
            status = self.request("GET", "/health", timeout_s=2.0).status
        except RunFailed as error:
            return error.message.rpartition("during GET /health: ")[2]
        if status == 200:
            return None
        return LOADING if status == 503 else f"it answers GET {self.address.prefix}/health with status {status}"


def check_status(response: HttpResponse, what: str) -> None:
    """Raise RunFailed with the server's own message unless the status is 200; RequestRefused for a bad request."""
    if response.status == 200:
        return
    message = shown(response.body)
    with suppress(ValueError, KeyError, TypeError, RecursionError):  # not in llama-server's form: shown as it came
        error = json.loads(response.body)["error"]
        message = str(error["message"] if isinstance(error, dict) else error)
    remedy = None
    if "exceed" in message and "context" in message:
        remedy = "shorten the prompt or raise engine.context"
    elif response.status == 401:
        remedy = "set LLAMA_API_KEY to the server's API key"
    kind = RequestRefused if response.status in _BAD_REQUEST else RunFailed
    raise kind(f"The server answered {what} with status {response.status}: {message}", remedy=remedy)


def shown(data: bytes) -> str:
    """The beginning of what came, fit to stand in a sentence."""
    text = data.decode(errors="replace")
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _connect(address: ServerAddress, timeout_s: float) -> socket.socket:
    if address.unix is not None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(address.unix)
        except OSError:
            connection.close()
            raise
        return connection
    try:
        socket.getaddrinfo(address.host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        connection = _connect_by_name(address, timeout_s)
    else:
        connection = socket.create_connection((address.host, address.port), timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _connect_by_name(address: ServerAddress, timeout_s: float) -> socket.socket:
    """Resolving a name has no timeout and ignores signals, so it is done in a thread that can be left behind."""
    connected: concurrent.futures.Future[socket.socket] = concurrent.futures.Future()

    def connect() -> None:
        try:
            connected.set_result(socket.create_connection((address.host, address.port), timeout_s))
        except (OSError, UnicodeError) as error:
            connected.set_exception(error)

    threading.Thread(target=connect, daemon=True, name="velosweep-resolver").start()
    try:
        return connected.result(timeout_s)
    except concurrent.futures.TimeoutError:
        raise OSError(f"{address.host} could not be reached within {timeout_s:g} s") from None
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"the name {address.host} can't be resolved ({getattr(error, 'strerror', error)})") from None


def _request_bytes(address: ServerAddress, method: str, path: str, payload: Mapping[str, object] | None) -> bytes:
    body = b"" if payload is None else json.dumps(payload).encode()
    lines = [
        f"{method} {address.prefix}{path} HTTP/1.1",
        f"Host: {address.authority}",
        "Accept: */*",
        # The server then ends the stream by closing, and no idle connection holds one of its threads.
        "Connection: close",
    ]
    if address.api_key:
        lines.append(f"Authorization: Bearer {address.api_key}")
    if payload is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _receive(connection: socket.socket, deadline: float, pieces: list[tuple[float, bytes]], events_bytes: int) -> None:
    """Collect (time, data) until the server closes, or the last chunk is there although it does not close.

    No time is wanted between the first event and the last. From the first on, the system wakes us only for several
    events, for the last one, which is long, and for the end.
    """
    now = time.perf_counter
    streaming, received = False, 0
    while True:
        left = deadline - now()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(min(left, _LOOK_S) if streaming else left)
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except TimeoutError:
            connection.settimeout(0)
            try:
                data = connection.recv(_RECEIVE_BYTES)  # fewer bytes than it takes to wake us
            except BlockingIOError:
                continue
        if not data:
            return
        pieces.append((now(), data))
        received += len(data)
        if received > _MOST_BYTES:
            raise OSError(f"more than {_MOST_BYTES >> 20} MiB came")
        latest = b"".join(data for _, data in pieces[-2:])
        # A chunked body's last chunk; JSON has its line ends escaped, so no token can look like it.
        if latest.endswith(b"\r\n0\r\n\r\n"):
            return
        if not streaming and b"data:" in latest:
            streaming = True
            with suppress(OSError):  # a system without it wakes us for each event
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, events_bytes)


def _parse(pieces: Sequence[tuple[float, bytes]], sent_at: float, what: str) -> HttpResponse:
    raw = b"".join(data for _, data in pieces)
    if not raw:
        raise RunFailed(f"The server closed the connection without an answer to {what}")
    received = SimpleNamespace(makefile=lambda _: io.BytesIO(raw))  # all that http.client asks of a socket
    response = http.client.HTTPResponse(received)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ValueError, OverflowError) as error:  # OverflowError: an absurd length
        raise RunFailed(f"The answer to {what} is cut short or no HTTP ({error!r}): {shown(raw[-200:])}") from None
    return HttpResponse(
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
