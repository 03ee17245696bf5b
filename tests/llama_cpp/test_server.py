"""llama-server of each generation as an engine: what it is told, asked, and not believed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.llama_cpp import standin
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.errors import LaunchFailed, RunFailed
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.llama_cpp.server import ServerEngine, ServerSession
from velosweep.measuring.sample_rows import invalid_reason

GENERATIONS = sorted(standin.GENERATIONS)
# what the stand-in's 32 tokens with n_draft 4 come to, whatever tells it
HONEST = {"draft_tokens": 32, "accepted_tokens": 23}


def engine_of(tmp_path: Path, generation: str, **traits: object) -> ServerEngine:
    """The engine on a stand-in."""
    folder = standin.write(tmp_path / "llama", generation, **traits)
    return ServerEngine(str(folder / "build" / "bin" / "llama-server"))


def launched(engine: ServerEngine, server: ServerConfig, tmp_path: Path) -> ServerSession:
    """A session that is ready."""
    session = engine.launch(server, lane=CPU, log_path=tmp_path / f"{server.label}.log")
    try:
        session.wait_ready(60)
    except LaunchFailed:
        session.close()
        raise
    return session


@pytest.mark.parametrize("generation", GENERATIONS)
def test_both_modes_are_measured_on_each_generation(generation: str, tmp_path: Path, model: str) -> None:
    engine = engine_of(tmp_path, generation)
    plain, drafting = vanilla(model), speculative(4, main_model=model, draft_model=model)
    for server in (plain, drafting):
        session = launched(engine, server, tmp_path)
        try:
            run = session.generate(request(), timeout_s=60)
        finally:
            session.close()

        assert invalid_reason(run, server, request()) is None
        assert (run.predicted_tokens, run.prompt_tokens) == (32, 12)
        assert len(run.text) == 32
        assert len(run.tokens) == (32 if standin.GENERATIONS[generation]["tokens"] else 0)
        assert not session.alive


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_repeated_prompt_is_measured_as_if_it_came_first(generation: str, tmp_path: Path, model: str) -> None:
    server = speculative(4, main_model=model, draft_model=model)
    session = launched(engine_of(tmp_path, generation), server, tmp_path)
    try:
        runs = [session.generate(request(), timeout_s=60) for _ in range(3)]
    finally:
        session.close()

    assert len({(run.draft_tokens, run.accepted_tokens, run.prompt_tokens) for run in runs}) == 1
    if standin.GENERATIONS[generation]["draft_n"]:
        assert runs[0].draft_tokens != runs[0].accepted_tokens


def test_acceptance_by_position_and_rounds_come_from_the_counters(tmp_path: Path, model: str) -> None:
    session = launched(engine_of(tmp_path, "2026-10"), speculative(4, main_model=model, draft_model=model), tmp_path)
    try:
        runs = [session.generate(request(), timeout_s=60) for _ in range(2)]
    finally:
        session.close()

    for run in runs:
        assert run.accepted_per_position is not None
        assert sum(run.accepted_per_position) == run.accepted_tokens
        assert run.rounds is not None
        assert run.draft_tokens == 4 * run.rounds


def test_an_unfit_draft_is_refused_although_the_server_is_up(tmp_path: Path, model: str) -> None:
    engine = engine_of(tmp_path, "2026-10", unfit=True)

    with pytest.raises(LaunchFailed, match=r"does not speculate: the draft model's vocabulary does not fit.*log: "):
        launched(engine, speculative(main_model=model, draft_model=model), tmp_path)


def test_a_server_that_speculates_by_itself_is_no_vanilla_arm(tmp_path: Path, model: str) -> None:
    engine = engine_of(tmp_path, "2026-10", speculates_anyway=True)

    with pytest.raises(LaunchFailed, match="speculates, although it should be vanilla"):
        launched(engine, vanilla(model), tmp_path)


def test_a_missing_model_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match=r"/gone\.gguf can't be opened.*ls -lh"):
        launched(engine_of(tmp_path, "2026-10"), vanilla("/gone.gguf"), tmp_path)


def test_an_argument_that_the_build_does_not_know_is_named(tmp_path: Path, model: str) -> None:
    with pytest.raises(LaunchFailed, match=r"--draft-max-max \(log: .*vanilla\.log\); remove it from engine\.args"):
        launched(engine_of(tmp_path, "2026-10"), vanilla(model, args=("--draft-max-max", "3")), tmp_path)


def test_a_server_that_never_listens_is_given_up(tmp_path: Path, model: str) -> None:
    engine = engine_of(tmp_path, "2026-10")
    program = tmp_path / "llama/build/bin/llama-server"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    session = engine.launch(vanilla(model), lane=CPU, log_path=tmp_path / "log")

    with pytest.raises(LaunchFailed, match=r"not ready after 0\.3 s"):
        session.wait_ready(0.3)
    assert not session.alive


def test_a_death_during_a_run_is_told_with_its_cause(tmp_path: Path, model: str) -> None:
    session = launched(engine_of(tmp_path, "2026-10"), vanilla(model), tmp_path)
    assert session.pid is not None
    os.kill(session.pid, signal.SIGKILL)

    with pytest.raises(RunFailed, match="died during the run: it was killed by SIGKILL, most likely"):
        session.generate(request(), timeout_s=60)
    session.close()


def test_the_api_key_is_neither_on_the_command_line_nor_in_the_log(tmp_path: Path, model: str) -> None:
    import psutil

    session = launched(engine_of(tmp_path, "2026-10"), vanilla(model), tmp_path)
    try:
        assert session.pid is not None
        command = " ".join(psutil.Process(session.pid).cmdline())
        session.generate(request(), timeout_s=60)
    finally:
        session.close()

    assert session._api_key not in command + (tmp_path / "vanilla.log").read_text()


def test_memory_is_that_of_the_server(tmp_path: Path, model: str) -> None:
    session = launched(engine_of(tmp_path, "2026-10"), vanilla(model), tmp_path)
    try:
        assert (session.memory_bytes() or 0) > 1 << 20
    finally:
        session.close()
    assert session.memory_bytes() is None


def test_a_chat_prompt_goes_through_the_servers_template(tmp_path: Path, model: str) -> None:
    session = launched(engine_of(tmp_path, "2026-10"), vanilla(model), tmp_path)
    try:
        plain = session.generate(request("Hi"), timeout_s=60)
        chat = session.generate(request("Hi", chat=True), timeout_s=60)
    finally:
        session.close()

    assert plain.text != chat.text


@pytest.mark.parametrize(
    ("how", "crashed"), [("kill -SEGV $$", True), ("exit 139", True), ("kill -KILL $$", False), ("exit 1", False)]
)
def test_a_load_that_a_signal_ended_may_be_tried_again_also_where_a_script_tells_of_it(
    tmp_path: Path, model: str, how: str, crashed: bool
) -> None:
    real = standin.write(tmp_path / "llama", "2026-10") / "build/bin/llama-server"
    wrapper = tmp_path / "llama-server"
    wrapper.write_text(f'#!/bin/sh\ncase $1 in --help|--version) exec {real} "$@";; esac\n{how}\n')
    wrapper.chmod(0o755)

    with pytest.raises(LaunchFailed, match="did not start") as failed:
        launched(ServerEngine(str(wrapper)), vanilla(model), tmp_path)
    assert failed.value.crashed is crashed


@pytest.mark.parametrize("silent", [False, True])
def test_the_server_that_a_script_starts_is_what_is_watched(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    from velosweep.llama_cpp import server

    monkeypatch.setattr(server, "_SILENCE_S", 0.0)
    real = standin.write(tmp_path / "llama", "2026-10", silent=silent) / "build/bin/llama-server"
    wrapper = tmp_path / "llama-server"
    wrapper.write_text(f'#!/bin/sh\n{real} "$@"\necho ended\n')
    wrapper.chmod(0o755)
    session = launched(ServerEngine(str(wrapper)), vanilla(model), tmp_path)
    try:
        watched, script = psutil.Process(session.pid), session._child.pid

        assert watched.ppid() == script != watched.pid
        assert session.memory_bytes() == pytest.approx(watched.memory_info().rss, rel=0.5)
        assert session.memory_bytes() > 2 * psutil.Process(script).memory_info().rss
    finally:
        session.close()


def test_a_silenced_log_hides_no_server(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from velosweep.llama_cpp import server

    monkeypatch.setattr(server, "_SILENCE_S", 0.0)
    session = launched(engine_of(tmp_path, "2026-10", silent=True), vanilla(model), tmp_path)
    try:
        assert "listening" not in (tmp_path / "vanilla.log").read_text()
        assert session.generate(request(), timeout_s=60).predicted_tokens == 32
    finally:
        session.close()
