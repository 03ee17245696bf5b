"""Servers that somebody else runs: measured if they fit, refused if not, never ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.llama_cpp import standin
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.errors import LaunchFailed, ProgramError
from velosweep.llama_cpp import process
from velosweep.llama_cpp.attached import AttachedEngine, parse_url
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring.validity import judge

Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path, model: str) -> Iterator[Serve]:
    """Start a stand-in server as a person would; gives its URL."""
    children: list[process.Child] = []

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
        assert process.wait_for(lambda: "listening on" in process.tail(log), time.perf_counter() + 20)
        address = process.tail(log).partition("http://")[2].split()[0]
        return f"http://:{api_key}@{address}" if api_key else f"http://{address}"

    yield start
    for child in children:
        child.kill()


def ready(engine: AttachedEngine, server: ServerConfig, tmp_path: Path):  # type: ignore[no-untyped-def]
    """A session that is ready."""
    session = engine.launch(server, lane=CPU, log_path=tmp_path / "log")
    session.wait_ready(5)
    return session


@pytest.mark.parametrize("generation", sorted(standin.GENERATIONS))
def test_running_servers_of_each_generation_are_measured(generation: str, serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=serve(generation), speculative_url=serve(generation, 4))

    assert standin.GENERATIONS[generation]["build"] in engine.build
    for server in (vanilla(""), speculative(4)):
        session = ready(engine, server, tmp_path)
        runs = [session.generate(request(), timeout_s=5) for _ in range(2)]
        session.close()

        assert [judge(run, server, request()) for run in runs] == [None, None]
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

    with pytest.raises(LaunchFailed, match="speculates, although the arm is vanilla"):
        ready(engine, vanilla(""), tmp_path)


def test_another_n_draft_than_the_jobs_is_refused(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=None, speculative_url=serve("2026-10", 4))

    with pytest.raises(LaunchFailed, match=r"drafts 4 tokens a round, not n_draft=8"):
        ready(engine, speculative(8), tmp_path)


def test_old_builds_are_given_n_draft_with_each_request(serve: Serve, tmp_path: Path) -> None:
    engine = AttachedEngine(vanilla_url=None, speculative_url=serve("2025-08", 8))
    run = ready(engine, speculative(2), tmp_path).generate(request(), timeout_s=5)

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

    with pytest.raises(LaunchFailed, match=r"No llama-server answers at http://127\.0\.0\.1:9 \(engine\.vanilla_url\)"):
        session.wait_ready(0.2)
    assert engine.build == "unknown"


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


@pytest.mark.parametrize("url", ["https://:secret@host:1", "http://", "http://host:notaport", "ftp://host"])
def test_what_is_no_address_is_refused_without_its_key(url: str) -> None:
    with pytest.raises(ProgramError, match="is no address of a llama-server") as refused:
        parse_url(url)
    assert "secret" not in str(refused.value)
