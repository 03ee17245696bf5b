"""Servers that somebody else runs: measured if they fit, refused if not, never ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from tests.forked import Forked
from tests.llama_cpp import standin
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from tests.machine.fake_pynvml import FakeGpu, FakePynvml
from tests.planning.jobs import job
from velosweep.cli import main
from velosweep.config.settings import EngineSettings, ModelPair, RunSettings, Speculation, SyntheticShape
from velosweep.errors import LaunchFailed, ProgramError
from velosweep.llama_cpp import process
from velosweep.llama_cpp.attached import AttachedEngine, parse_url
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.llama_cpp.server_client import rules_for
from velosweep.machine.nvml import NvmlDriver
from velosweep.measuring.opening import differences
from velosweep.measuring.prepare import prepare
from velosweep.measuring.sample_rows import invalid_reason
from velosweep.values import Device

Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path, model: str) -> Iterator[Serve]:
    """Start a stand-in server as a person would; gives its URL."""
    children: list[process.ChildProcess] = []

    def start(generation: str, n_draft: int = 0, *, api_key: str | None = None, **traits: object) -> str:
        number = len(children)
        folder = standin.write(tmp_path / f"llama{number}", generation, **traits)
        argv = [str(folder / "build/bin/llama-server"), "--model", model, "--port", "0"]
        if n_draft:
            new = generation >= "2026-06"
            argv += ["--model-draft", model, "--spec-draft-n-max" if new else "--draft-max", str(n_draft)]
            argv += ["--spec-type", "draft-simple"] if new else []
        log = tmp_path / f"log{number}"
        children.append(process.start(argv, stderr=log, environment={"LLAMA_API_KEY": api_key}))
        assert process.wait_for(lambda: "listening on" in process.tail(log), time.perf_counter() + 60)
        address = process.tail(log).partition("http://")[2].split()[0]
        return f"http://:{api_key}@{address}" if api_key else f"http://{address}"

    yield start
    for child in children:
        child.stop(grace_s=0)


def ready(engine: AttachedEngine, server: ServerConfig, tmp_path: Path):  # type: ignore[no-untyped-def]
    """A session that is ready."""
    session = engine.launch(server, lane=CPU, log_path=tmp_path / "log")
    session.wait_ready(60)
    return session


@pytest.mark.parametrize("generation", sorted(standin.GENERATIONS))
def test_running_servers_of_each_generation_are_measured(generation: str, serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=serve(generation), speculative_url=serve(generation, 4))

    assert standin.GENERATIONS[generation]["build"] in engine.build
    for server in (vanilla(""), speculative(4)):
        session = ready(engine, server, tmp_path)
        runs = [session.generate(request(), timeout_s=60) for _ in range(2)]
        session.close()

        assert [invalid_reason(run, server, request()) for run in runs] == [None, None]
        assert len({(run.draft_tokens, run.accepted_tokens) for run in runs}) == 1


def test_the_server_lives_on(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=serve("2026-10"), speculative_url=None)
    ready(engine, vanilla(""), tmp_path).close()

    assert ready(engine, vanilla(""), tmp_path).alive


def test_different_models_are_refused(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=serve("2026-10"), speculative_url=serve("2026-10", 4, n_params=2000))

    with pytest.raises(LaunchFailed, match=r"different models \(n_params 2000 and 1000\)"):
        ready(engine, speculative(4), tmp_path)


def test_a_server_that_does_not_speculate_is_no_speculative_arm(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=None, speculative_url=serve("2026-10"))

    with pytest.raises(LaunchFailed, match=r"engine\.speculative_url .*does not speculate"):
        ready(engine, speculative(4), tmp_path)


def test_a_server_that_speculates_is_no_vanilla_arm(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=serve("2026-10", 4), speculative_url=None)

    with pytest.raises(LaunchFailed, match="speculates, although it should be vanilla"):
        ready(engine, vanilla(""), tmp_path)


def test_another_n_draft_than_the_jobs_is_refused(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=None, speculative_url=serve("2026-10", 4))

    with pytest.raises(LaunchFailed, match=r"drafts 4 tokens at a time, not n_draft=8; set n_draft=4,"):
        ready(engine, speculative(8), tmp_path)


def test_the_work_of_a_server_on_this_machine_is_no_other_programs(serve: Serve, tmp_path: Path) -> None:
    url = serve("2026-10")
    session = ready(AttachedEngine(vanilla_url=url, speculative_url=None), vanilla(), tmp_path)

    assert session.pid in {child.pid for child in psutil.Process().children(recursive=True)}


def test_the_model_is_what_the_server_says_and_no_default(serve: Serve) -> None:
    urls = {"vanilla_url": serve("2026-10"), "speculative_url": serve("2026-10", 4)}
    default = ModelPair(name="synthetic", main_model="", synthetic=SyntheticShape())
    own = ModelPair(name="mine", main_model="/mine.gguf")
    engine = EngineSettings(kind="attached", **urls)
    prepared = prepare([job(num=i, engine=engine, model_pair=p) for i, p in enumerate((default, own))], RunSettings())

    assert [one.model_pair for one in prepared.jobs] == [ModelPair(name="m", main_model="m.gguf"), own]
    assert AttachedEngine(vanilla_url="http://127.0.0.1:9", speculative_url=None).served_model() is None


def test_what_an_attached_server_runs_on_is_not_claimed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's processor, nor that llama.cpp has no GPU support where there are GPUs."""
    driver = NvmlDriver(FakePynvml(FakeGpu("GPU-a", "H100")))
    monkeypatch.setattr("velosweep.measuring.prepare.open_nvml", lambda: driver)
    engine = EngineSettings(kind="attached", vanilla_url=serve("2026-10"))
    found = prepare([job(engine=engine, speculation=Speculation(kinds=()))], RunSettings())
    before = replace(found.environment, devices=(Device(kind="cpu", name="of an older version"),))

    assert [lane.label for lane in found.lanes] == ["attached server"]
    assert found.reasons == ("engine=attached",)
    assert differences(before, found.environment) == []


def test_more_streams_than_a_server_has_slots_are_refused_before_anything_runs(serve: Serve) -> None:
    engine = EngineSettings(kind="attached", vanilla_url=serve("2026-10"), speculative_url=serve("2026-10", 4))

    with pytest.raises(ProgramError, match=r"(?s)vanilla_url http.*1 slot, too few for concurrency=4.*speculative_url"):
        prepare([job(engine=engine), job(num=1, engine=engine, concurrency=4)], RunSettings())


def test_another_way_to_draft_than_the_jobs_is_refused(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=None, speculative_url=serve("2026-10", 4))

    with pytest.raises(LaunchFailed, match=r"speculates with draft, not with ngram-mod; set speculation=draft$"):
        ready(engine, speculative(4, speculation=Speculation(kinds=("ngram-mod",))), tmp_path)


def test_what_a_server_calls_its_kinds_is_a_word_where_a_command_to_paste_has_it() -> None:
    final = {"generation_settings": {"speculative.types": "draft-simple,$(touch trap),x';ls,none"}}

    assert rules_for(final).kinds == ("draft-simple",)


def test_old_builds_are_given_n_draft_with_each_request(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=None, speculative_url=serve("2025-08", 8))
    run = ready(engine, speculative(2), tmp_path).generate(request(), timeout_s=60)

    assert run.draft_tokens is not None
    assert run.draft_tokens % 2 == 0
    assert run.draft_tokens < 32


def test_a_wrong_api_key_is_told(serve: Serve, tmp_path: Path) -> None:
    url = serve("2026-10", api_key="right")
    ready(AttachedEngine(vanilla_url=url, speculative_url=None), vanilla(""), tmp_path)

    with pytest.raises(LaunchFailed, match=r"Invalid API Key.*set LLAMA_API_KEY"):
        ready(AttachedEngine(vanilla_url=url.replace("right", "wrong"), speculative_url=None), vanilla(""), tmp_path)


def test_the_api_key_may_come_from_the_environment(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serve("2026-10", api_key="right").replace(":right@", "")
    monkeypatch.setenv("LLAMA_API_KEY", "right")

    ready(AttachedEngine(vanilla_url=url, speculative_url=None), vanilla(""), tmp_path)


def test_nobody_there_is_told_with_the_key_to_correct(tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url="http://127.0.0.1:9", speculative_url=None)
    session = engine.launch(vanilla(""), lane=CPU, log_path=tmp_path / "log")

    with pytest.raises(
        LaunchFailed,
        match=r"No llama-server answers at http://127\.0\.0\.1:9 \(engine\.vanilla_url\): Connection refused",
    ):
        session.wait_ready(0.2)
    assert engine.build == "unknown"


class _Silent(BaseHTTPRequestHandler):
    """Answers /health and /props with the server's status, and nothing else."""

    def do_GET(self) -> None:
        if not self.path.endswith(("/health", "/props")):
            self.do_POST()
        page = self.server.page  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
        self.server.asked.release()  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        self.server.asked.release(100)  # type: ignore[attr-defined]
        time.sleep(60)

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@contextmanager
def silent_server(status: int, page: bytes = b"{}") -> Iterator[ThreadingHTTPServer]:
    """A server that is there and says nothing."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    server.page = page  # type: ignore[attr-defined]
    server.status, server.asked, server.daemon_threads = status, threading.Semaphore(0), True  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.socket.close()


def velosweep(vanilla_url: str, speculative_url: str, tmp_path: Path) -> Forked:
    """A run against somebody's servers, in a process of its own."""
    words = ("iterations=1", "engine=attached", f"engine.vanilla_url={vanilla_url}")
    words += (f"engine.speculative_url={speculative_url}", f"output={tmp_path / 'results'}")
    return Forked(words, cwd=tmp_path, env=os.environ, out=tmp_path / "said", err=tmp_path / "said")


@pytest.mark.parametrize(
    "causes",
    [
        {
            "http://127.0.0.1:9": "Connection refused",
            "http://no-such-host.invalid:8080": "the name no-such-host.invalid can't be resolved",
        },
        {
            "unix:///no/such/socket": "No such file or directory",
            "http://127.0.0.1:{port}/wrong/path": "it answers GET /wrong/path/health with status 500",
        },
    ],
    ids=["no server", "no llama-server"],
)
def test_what_can_not_be_reached_is_refused_with_url_and_cause(causes: dict[str, str], tmp_path: Path) -> None:
    with silent_server(500) as server:
        urls = [url.format(port=server.server_port) for url in causes]
        run = velosweep(*urls, tmp_path)
        status = run.wait(60)

    output = (tmp_path / "said").read_text("utf-8")
    assert status == 2
    for key, url, cause in zip(("engine.vanilla_url", "engine.speculative_url"), urls, causes.values(), strict=True):
        assert f"No llama-server answers at {url.removeprefix('unix://')} ({key}): {cause}" in output


def test_any_other_web_server_is_refused_before_anything_runs() -> None:
    with silent_server(200, b"<html>Welcome</html>") as server:
        url = f"http://127.0.0.1:{server.server_port}"
        cause = rf"No llama-server answers at {url} \(engine\.vanilla_url\): .*isn't JSON: '<html>Welcome</html>'"

        with pytest.raises(ProgramError, match=rf"{cause}; correct engine\.vanilla_url"):
            AttachedEngine(vanilla_url=url, speculative_url=None).check_reachable(streams=1)


def test_a_wrong_api_key_is_refused_before_anything_runs(serve: Serve) -> None:
    url = serve("2026-10", api_key="right").replace("right", "wrong")

    with pytest.raises(ProgramError, match=r"Invalid API Key; set LLAMA_API_KEY"):
        AttachedEngine(vanilla_url=url, speculative_url=None).check_reachable(streams=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("status", [503, 200], ids=["still loading", "ready but silent"])
def test_every_wait_for_a_server_ends_on_a_signal(status: int, number: signal.Signals, tmp_path: Path) -> None:
    with silent_server(status) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        run = velosweep(url, url, tmp_path)
        for _ in range(12):  # some for /health and /props before anything runs, then the lane's own
            assert server.asked.acquire(timeout=60)  # type: ignore[attr-defined]
        assert run.poll() is None
        run.send_signal(number)
        status = run.wait(60)

    output = (tmp_path / "said").read_text("utf-8")
    assert status == 130, output
    assert "Go on with: velosweep resume" in output


def test_a_mode_without_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"set engine\.speculative_url"):
        AttachedEngine(vanilla_url="http://x:1", speculative_url=None).launch(
            speculative(), lane=CPU, log_path=tmp_path / "log"
        )


def test_urls_are_read_in_every_form() -> None:
    with_key = parse_url("http://:se%20cret@host:99/llama/")

    assert (with_key.host, with_key.port, with_key.prefix, with_key.api_key) == ("host", 99, "/llama", "se cret")
    assert (parse_url("host:99").port, parse_url("http://host").port) == (99, 8080)
    assert parse_url("unix:///run/llama.sock").unix == "/run/llama.sock"
    assert str(parse_url("[::1]:99/llama")) == "http://[::1]:99/llama"


@pytest.mark.parametrize(
    "url", ["https://:secret@host:1", "http://", "http://host:notaport", "ftp://host", "http://[::1"]
)
def test_what_is_no_address_is_refused_without_its_key(url: str) -> None:
    with pytest.raises(ProgramError, match="is not a llama-server address") as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)


def test_doctor_claims_nothing_of_somebody_elses_server(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve("2026-10", api_key="secret")

    assert main(["doctor", "engine=attached", f"engine.vanilla_url={url}", "speculation=none"]) == 0

    said = capsys.readouterr().out
    assert url.partition("@")[2] in said
    assert "secret" not in said
    assert "Python package xllamacpp (" not in said
    assert "loaded server" not in said
