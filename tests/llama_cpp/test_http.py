"""The one HTTP client: what it measures, and what it makes of everything that can come back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.errors import RunFailed, RunTimeout
from velosweep.llama_cpp import client as http

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**fields: object) -> bytes:
    """One server-sent event."""
    return chunk(b"data: " + json.dumps(fields).encode() + b"\n\n")


FINAL = event(content="", stop=True, truncated=False, timings={"prompt_n": 3, "predicted_n": 2, "predicted_ms": 5.0})
END = b"0\r\n\r\n"


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[http.Address]:
    """A server that reads one request and then does `answer`."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield http.Address(port=listener.getsockname()[1])
    finally:
        thread.join(5)
        listener.close()


def completion(*pieces: bytes, timeout_s: float = 5.0) -> http.Completion:
    """Ask a server that sends these pieces and closes."""

    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    with serving(answer) as address:
        return http.complete(address, {"prompt": "x"}, timeout_s=timeout_s)


def test_tokens_text_and_timings_of_a_stream_are_read() -> None:
    done = completion(HEAD, event(content="a", tokens=[97]), event(content="b", tokens=[98]), FINAL, END)

    assert (done.tokens, done.text, done.number("predicted_n")) == ((97, 98), "ab", 2.0)


def test_the_first_token_is_timed_when_it_comes_and_the_last_when_that_does() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        time.sleep(0.1)
        connection.sendall(event(content="a", tokens=[97]))
        time.sleep(0.1)
        connection.sendall(FINAL)
        time.sleep(0.1)  # what comes after the last token is not the model's time
        connection.sendall(END)

    with serving(answer) as address:
        done = http.complete(address, {"prompt": "x"}, timeout_s=5.0)
    # bounds that hold on any machine: sleeping is never shorter than asked
    assert 100 <= done.time_to_first_token_ms <= done.total_time_ms - 50  # our own wake-ups may come late, too


def test_a_keep_alive_comment_is_no_first_token() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b": ping\n\n"))
        time.sleep(0.1)
        connection.sendall(event(content="a", tokens=[97]) + FINAL + END)

    with serving(answer) as address:
        assert http.complete(address, {"prompt": "x"}, timeout_s=5.0).time_to_first_token_ms >= 100


def test_between_the_first_event_and_the_last_the_client_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []

    def counted(pieces: Sequence[tuple[float, bytes]], *rest: object) -> http.Reply:
        woken.append(len(pieces))
        return parse(pieces, *rest)  # type: ignore[arg-type]

    parse = http._parse
    monkeypatch.setattr(http, "_parse", counted)

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEAD)
        for _ in range(200):
            connection.sendall(event(content="a", tokens=[97], padding=" " * 60))
            time.sleep(0.001)
        connection.sendall(FINAL + END)

    with serving(answer) as address:
        done = http.complete(address, {"prompt": "x"}, timeout_s=20.0)
    assert len(done.tokens) == 200
    assert woken[0] < 100


def test_few_bytes_are_not_waited_for_beyond_the_deadline() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + event(content="a", tokens=[97]))
        time.sleep(0.2)
        connection.sendall(event(content="b", tokens=[98]))
        connection.settimeout(5)
        connection.recv(1)  # until the client gives up

    came = len(HEAD + event(content="a", tokens=[97]) + event(content="b", tokens=[98]))
    with serving(answer) as address, pytest.raises(RunTimeout, match=f"{came} bytes came"):
        http.complete(address, {"prompt": "x"}, timeout_s=1.0)


def test_a_last_event_that_is_short_is_seen_soon_where_the_server_keeps_the_connection_open() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + event(content="a", tokens=[97]))
        time.sleep(0.05)
        connection.sendall(FINAL + END)
        connection.settimeout(20)
        connection.recv(1)

    with serving(answer) as address:
        done = http.complete(address, {"prompt": "x"}, timeout_s=20.0)
    assert done.tokens == (97,)
    assert done.total_time_ms < 10_000  # not only when the time is up


def test_a_server_that_keeps_the_connection_open_is_not_waited_for() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + event(content="a") + FINAL + END)
        connection.settimeout(5)
        connection.recv(1)  # until the client closes

    with serving(answer) as address:
        assert http.complete(address, {"prompt": "x"}, timeout_s=4.0).text == "a"


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((bytes(range(256)),), "no HTTP"),
        ((), "without an answer"),
        ((HEAD,), "cut short"),
        ((HEAD, event(content="a")), "cut short"),
        ((HEAD, event(content="a"), END), "without a final one"),
        ((HEAD, chunk(b'data: {"content":"a","st'), END), "isn't JSON"),
        ((HEAD, chunk(b"data: [1]\n\n"), END), "isn't a JSON object"),
        ((HEAD, event(error={"message": "the slot is on fire"}), END), "the slot is on fire"),
        ((HEAD, chunk(b'error: {"code":500,"message":"out of luck"}\n\n'), END), "out of luck"),
        (
            (b'HTTP/1.1 500 X\r\nContent-Length: 30\r\n\r\n{"error":{"message":"no luck"}}',),
            "status 500: no luck|cut short|status 500",
        ),
        ((b"HTTP/1.1 503 X\r\nContent-Length: 5\r\n\r\nplain",), "status 503: 'plain'"),
    ],
)
def test_whatever_else_comes_back_fails_the_run_with_a_sentence(pieces: tuple[bytes, ...], message: str) -> None:
    with pytest.raises(RunFailed, match=message):
        completion(*pieces)


def test_a_prompt_longer_than_the_context_is_explained() -> None:
    body = json.dumps({"error": {"message": "request (700 tokens) exceeds the available context size (512 tokens)"}})
    answer = b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode())

    with pytest.raises(RunFailed, match=r"700 tokens.*raise engine\.context"):
        completion(answer)


def test_a_hang_ends_in_time_as_a_timeout() -> None:
    released = threading.Event()

    def answer(_: socket.socket) -> None:
        released.wait(5)

    with serving(answer) as address:
        with pytest.raises(RunTimeout, match=r"within 0\.2 s \(0 bytes came\)"):
            http.complete(address, {"prompt": "x"}, timeout_s=0.2)
        released.set()


def test_a_trickle_does_not_extend_the_deadline() -> None:
    stop = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        while not stop.wait(0.02):
            try:
                connection.sendall(event(content="a"))
            except OSError:
                return

    with serving(answer) as address:
        with pytest.raises(RunTimeout):
            http.complete(address, {"prompt": "x"}, timeout_s=0.3)
        stop.set()


def test_nobody_there_is_a_failed_run_and_no_health() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = http.Address(port=unused.getsockname()[1])

        assert not http.health(address)
        with pytest.raises(RunFailed, match="broke during POST /completion"):
            http.complete(address, {"prompt": "x"}, timeout_s=1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "12", None, True])
def test_a_timing_that_is_no_number_fails_the_run(value: object) -> None:
    done = completion(HEAD, event(content="a"), event(stop=True, timings={"predicted_ms": value}), END)

    with pytest.raises(RunFailed, match="no usable predicted_ms"):
        done.number("predicted_ms")


def test_the_api_key_is_in_no_representation() -> None:
    assert "secret" not in repr(http.Address(port=1, api_key="secret")) + str(http.Address(port=1, api_key="secret"))


@given(st.binary(max_size=400))
def test_no_bytes_break_the_client(data: bytes) -> None:
    with suppress(RunFailed):
        http.check_status(http._parse([(0.0, data)], 0.0, "x"), "x")
    with suppress(RunFailed):
        http.parse_events(b"data: {" + data)
