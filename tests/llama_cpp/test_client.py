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
from velosweep.llama_cpp import client
from velosweep.llama_cpp.client import LOADING, HttpClient, ServerAddress, check_status
from velosweep.llama_cpp.completion import NOT_SENT, Completion, complete, parse_events

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
def serving(answer: Callable[[socket.socket], None]) -> Iterator[HttpClient]:
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
        yield HttpClient(ServerAddress(port=listener.getsockname()[1]))
    finally:
        thread.join(5)
        listener.close()


def completion(*pieces: bytes, timeout_s: float = 5.0) -> Completion:
    """Ask a server that sends these pieces and closes."""

    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    with serving(answer) as http:
        return complete(http, {"prompt": "x"}, timeout_s=timeout_s)


@pytest.mark.parametrize(("host", "named"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_a_server_is_named_with_its_port_as_proxies_want_it(host: str, named: str) -> None:
    asked: list[bytes] = []
    try:
        listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:
        pytest.skip(f"{host} is not an address of this machine")
    with listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        answered = HttpClient(ServerAddress(host=host, port=port)).get_json("/props")
        thread.join(200)

    assert answered == {}
    assert f"Host: {named}:{port}\r\n".encode() in asked[0]


def test_tokens_text_and_timings_of_a_stream_are_read() -> None:
    done = completion(HEAD, event(content="a", tokens=[97]), event(content="b", tokens=[98]), FINAL, END)

    assert (done.tokens, done.text, done.number("predicted_n")) == ((97, 98), "ab", 2.0)


def test_the_first_token_is_timed_when_it_comes_and_the_last_when_that_does() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        time.sleep(0.1)
        connection.sendall(event(content="a", tokens=[97]))
        time.sleep(0.5)
        connection.sendall(FINAL)
        time.sleep(0.1)  # what comes after the last token is not the model's time
        connection.sendall(END)

    with serving(answer) as http:
        done = complete(http, {"prompt": "x"}, timeout_s=5.0)
    # bounds that hold on any machine: sleeping is never shorter than asked
    assert 100 <= done.time_to_first_token_ms <= done.total_time_ms - 50  # our own wake-ups may come late, too


def test_a_first_token_that_is_held_back_is_timed_by_llama_cpps_own_clock_and_keeps_its_place() -> None:
    final = {"stop": True, "tokens_predicted": 7, "tokens": [], "timings": {"predicted_n": 7, "predicted_ms": 150.0}}

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        time.sleep(0.2)  # 50 ms until the first token, which two others must follow before there is a character
        pieces = [event(content="\u4f60", tokens=[160], tokens_predicted=count) for count in (3, 6)]
        connection.sendall(b"".join([*pieces, event(**final), END]))  # at once: we may be woken late for the next

    with serving(answer) as http:
        done = complete(http, {"prompt": "x"}, timeout_s=5.0)

    assert done.time_to_first_token_ms == pytest.approx(done.total_time_ms - 150.0)
    assert done.tokens == (NOT_SENT, NOT_SENT, 160, NOT_SENT, NOT_SENT, 160, NOT_SENT)


def _first_token_of(*stages: tuple[float, bytes], predicted_ms: float) -> Completion:
    """The answer of a server that sends each piece so many seconds after the one before it, and the end at last."""
    final = {"stop": True, "tokens": [], "timings": {"predicted_n": 2, "predicted_ms": predicted_ms}}

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for number, (pause_s, piece) in enumerate(stages, start=1):
            time.sleep(pause_s)
            connection.sendall(piece + (event(**final) + END if number == len(stages) else b""))

    with serving(answer) as http:
        return complete(http, {"prompt": "x"}, timeout_s=5.0)


@pytest.mark.parametrize(
    "late",
    [event(content="a", tokens=[97]) + event(content="b", tokens=[98]), event(content="\u4f60")],
    ids=["a proxy collects the stream", "a build of 2024, which sends no ids, holds part of a character back"],
)
def test_a_first_token_that_comes_late_is_timed_by_llama_cpps_own_clock(late: bytes) -> None:
    done = _first_token_of((0.2, late), predicted_ms=150.0)

    assert done.time_to_first_token_ms == pytest.approx(done.total_time_ms - 150.0)


@pytest.mark.parametrize(
    "early", [event(content="", tokens=[]), event(prompt_progress={"total": 9, "processed": 1}, content="")]
)
def test_an_event_without_a_token_is_no_first_token(early: bytes) -> None:
    done = _first_token_of((0.0, early), (0.2, event(content="a", tokens=[97])), predicted_ms=1.0)

    assert done.time_to_first_token_ms == pytest.approx(done.total_time_ms - 1.0)
    assert done.time_to_first_token_ms >= 199


@pytest.mark.parametrize("claimed", [{"predicted_n": 10**12}, {"predicted_n": -1}, {"predicted_ms": 10**400}])
def test_absurd_times_of_tokens_are_left_out(claimed: dict[str, int]) -> None:
    steps = [{"predicted_n": 1, "predicted_ms": 0.0} | claimed, {"predicted_n": 2, "predicted_ms": 5.0}]
    told = b"".join([HEAD, *(event(content="a", timings=step) for step in steps), FINAL, END])

    with serving(lambda connection: connection.sendall(told)) as http:
        done = complete(http, {"prompt": "x", "timings_per_token": True}, timeout_s=5)

    assert done.steps == ((2, 5.0),)


def test_an_absurd_count_of_tokens_fills_no_memory() -> None:
    first = event(content="a", tokens=[97], tokens_predicted=1 << 60)

    assert completion(HEAD, first, FINAL, END).tokens == (97,)


def test_a_keep_alive_comment_is_no_first_token() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b": ping\n\n"))
        time.sleep(0.2)
        connection.sendall(event(content="a", tokens=[97]) + FINAL + END)

    with serving(answer) as http:
        assert complete(http, {"prompt": "x"}, timeout_s=5.0).time_to_first_token_ms >= 100


def test_between_the_first_event_and_the_last_the_client_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []

    def counted(pieces: Sequence[tuple[float, bytes]], *rest: object) -> client.HttpResponse:
        woken.append(len(pieces))
        return parse(pieces, *rest)  # type: ignore[arg-type]

    parse = client._parse
    monkeypatch.setattr(client, "_parse", counted)

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEAD)
        for _ in range(200):
            connection.sendall(event(content="a", tokens=[97], padding=" " * 60))
            time.sleep(0.001)
        connection.sendall(FINAL + END)

    with serving(answer) as http:
        done = complete(http, {"prompt": "x"}, timeout_s=20.0)
    assert len(done.tokens) == 200
    assert woken[0] < 100


def test_few_bytes_are_not_waited_for_beyond_the_deadline() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + event(content="a", tokens=[97]))
        time.sleep(0.05)
        connection.sendall(event(content="b", tokens=[98]))
        connection.settimeout(5)
        connection.recv(1)  # until the client gives up

    came = len(HEAD + event(content="a", tokens=[97]) + event(content="b", tokens=[98]))
    with serving(answer) as http, pytest.raises(RunTimeout, match=f"{came} bytes came"):
        complete(http, {"prompt": "x"}, timeout_s=1.0)


def test_a_last_event_that_is_short_is_seen_soon_where_the_server_keeps_the_connection_open() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + event(content="a", tokens=[97]))
        time.sleep(0.05)
        connection.sendall(FINAL + END)
        connection.settimeout(20)
        connection.recv(1)

    with serving(answer) as http:
        done = complete(http, {"prompt": "x"}, timeout_s=20.0)
    assert done.tokens == (97,)
    assert done.total_time_ms < 10_000  # not only when the time is up


def test_a_server_that_keeps_the_connection_open_is_not_waited_for() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + event(content="a") + FINAL + END)
        connection.settimeout(5)
        connection.recv(1)  # until the client closes

    with serving(answer) as http:
        assert complete(http, {"prompt": "x"}, timeout_s=4.0).text == "a"


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
        ((HEAD, event(error={"message": "the slot is on fire"}), END), "the slot is on fire$"),
        ((HEAD, event(error={"message": "Context size has been exceeded."}), END), "larger --ctx-size, or lower conc"),
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

    with serving(answer) as http:
        with pytest.raises(RunTimeout, match=r"within 0\.2 s \(0 bytes came\)"):
            complete(http, {"prompt": "x"}, timeout_s=0.2)
        released.set()


def test_an_answer_without_end_takes_no_memory_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_BYTES", 1 << 20)

    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(HEAD)
            while True:
                connection.sendall(chunk(b"x" * 65_536))

    with serving(answer) as http, pytest.raises(RunFailed, match=r"broke during GET /props: more than 1 MiB came"):
        http.get_json("/props", timeout_s=60.0)


def test_a_trickle_does_not_extend_the_deadline() -> None:
    stop = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        while not stop.wait(0.02):
            try:
                connection.sendall(event(content="a"))
            except OSError:
                return

    with serving(answer) as http:
        with pytest.raises(RunTimeout):
            complete(http, {"prompt": "x"}, timeout_s=0.3)
        stop.set()


def test_nobody_there_is_a_failed_run_and_no_health() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        http = HttpClient(ServerAddress(port=unused.getsockname()[1]))

        assert http.health_problem() == "Connection refused"
        with pytest.raises(RunFailed, match="broke during POST /completion"):
            complete(http, {"prompt": "x"}, timeout_s=1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "12", None, True])
def test_a_timing_that_is_no_number_fails_the_run(value: object) -> None:
    done = completion(HEAD, event(content="a"), event(stop=True, timings={"predicted_ms": value}), END)

    with pytest.raises(RunFailed, match="no usable predicted_ms"):
        done.number("predicted_ms")


def test_the_api_key_is_in_no_representation() -> None:
    address = ServerAddress(port=1, api_key="secret")

    assert "secret" not in repr(address) + str(address)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_client(data: bytes) -> None:
    with suppress(RunFailed):
        check_status(client._parse([(0.0, data)], 0.0, "x"), "x")
    with suppress(RunFailed):
        parse_events(b"data: {" + data)


@pytest.mark.parametrize(
    ("status", "problem"), [(200, None), (503, LOADING), (404, "it answers GET /health with status 404")]
)
def test_health_says_what_is_wrong(status: int, problem: str | None) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)

    with serving(answer) as http:
        assert http.health_problem() == problem


def test_a_name_that_does_not_resolve_is_said_and_none_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the name no-such-host.invalid can't be resolved" in str(
        HttpClient(ServerAddress(host="no-such-host.invalid", port=80)).health_problem()
    )
    released = threading.Event()
    monkeypatch.setattr(client, "_CONNECT_S", 0.1)
    monkeypatch.setattr(socket, "create_connection", lambda *_: released.wait(60))
    began = time.perf_counter()

    assert HttpClient(ServerAddress(host="slow", port=80)).health_problem() == "slow could not be reached within 0.1 s"
    assert time.perf_counter() - began < 30
    released.set()


def test_every_address_of_a_name_is_tried() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n")

    with serving(answer) as http:
        assert HttpClient(ServerAddress(host="localhost", port=http.address.port)).health_problem() is None


def test_a_request_under_way_is_given_up_from_another_thread() -> None:
    released = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + event(content="a", tokens=[97]))
        http.abort()
        released.wait(10)

    with serving(answer) as http:
        with pytest.raises(RunFailed, match="POST /completion was given up"):
            complete(http, {"prompt": "x"}, timeout_s=30.0)
        with pytest.raises(RunFailed, match="given up"):  # and none is begun any more
            complete(http, {"prompt": "x"}, timeout_s=30.0)
        released.set()
