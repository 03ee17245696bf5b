"""llama.cpp's programs as an engine, a process a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.llama_cpp import standin
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.config.settings import Speculation
from velosweep.errors import LaunchFailed, ProgramError, RunFailed, RunTimeout
from velosweep.llama_cpp.arguments import check_speculation
from velosweep.llama_cpp.binaries import BinariesEngine, BinariesSession
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.llama_cpp.selection import find_programs
from velosweep.llama_cpp.server_command import command_arguments
from velosweep.measuring.sample_rows import invalid_reason


def engine_of(tmp_path: Path, generation: str, **traits: object) -> BinariesEngine:
    """The engine on stand-ins."""
    folder = find_programs(str(standin.write(tmp_path / "llama", generation, **traits)))
    assert folder is not None
    return BinariesEngine(str(folder))


def launched(engine: BinariesEngine, server: ServerConfig, tmp_path: Path) -> BinariesSession:
    """A session that is ready."""
    session = engine.launch(server, lane=CPU, log_path=tmp_path / "log")
    session.wait_ready(20)
    return session


@pytest.mark.parametrize("generation", sorted(standin.GENERATIONS))
def test_both_modes_are_measured_by_the_programs_own_account(generation: str, tmp_path: Path, model: str) -> None:
    engine = engine_of(tmp_path, generation)
    plain = launched(engine, vanilla(model), tmp_path).generate(request(), timeout_s=10)
    server = speculative(4, main_model=model, draft_model=model)
    drafting = launched(engine, server, tmp_path).generate(request(), timeout_s=10)

    assert invalid_reason(plain, vanilla(model), request()) is None
    assert invalid_reason(drafting, server, request()) is None
    assert (plain.predicted_tokens - 1) / plain.predicted_ms * 1000 == pytest.approx(250.0)
    assert drafting.predicted_tokens == 35
    # the stand-in's 35 tokens take 8 rounds of 5 ms, and the figure is its own
    assert (drafting.predicted_tokens - 1) / drafting.predicted_ms * 1000 == pytest.approx(35 / 0.040, rel=1e-3)
    assert (len(plain.text), drafting.text) == (32, "")


def test_what_can_be_asked_for_is_what_the_speculative_program_knows(tmp_path: Path) -> None:
    known = engine_of(tmp_path, "2026-10").capabilities_for(Speculation())

    check_speculation(Speculation(), known)
    with pytest.raises(ProgramError, match=r"llama-speculative-simple .* can't speculate with draft-of-next-month"):
        check_speculation(Speculation(kinds=("draft-of-next-month",)), known)


def test_the_command_that_people_are_shown_is_in_the_words_of_the_measured_build(tmp_path: Path) -> None:
    known = engine_of(tmp_path, "2024-12").capabilities_for(Speculation())
    shown = command_arguments(speculative(4), lane=CPU, capabilities=known)

    assert " ".join(shown).startswith("-m /m.gguf -md /d.gguf -t 1 --draft-max 4 ")


def test_a_draft_that_does_not_fit_fails_the_launch(tmp_path: Path, model: str) -> None:
    engine = engine_of(tmp_path, "2026-10", unfit=True)

    with pytest.raises(LaunchFailed, match="vocabulary does not fit"):
        launched(engine, speculative(main_model=model, draft_model=model), tmp_path)


def test_a_missing_model_fails_the_launch(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match=r"gone\.gguf can't be opened"):
        launched(engine_of(tmp_path, "2026-10"), vanilla("/gone.gguf"), tmp_path)


def test_a_program_that_says_nothing_of_its_times_fails_the_run(tmp_path: Path, model: str) -> None:
    session = launched(engine_of(tmp_path, "2026-10", prefix="something_else: "), vanilla(model), tmp_path)

    with pytest.raises(RunFailed, match=r"printed no 'eval time'.*engine=server"):
        session.generate(request(), timeout_s=5)


def test_a_program_that_does_not_end_is_stopped(tmp_path: Path, model: str) -> None:
    engine = engine_of(tmp_path, "2026-10")
    (tmp_path / "llama/build/bin/llama-completion").write_text("#!/bin/sh\nexec sleep 60\n")
    session = engine.launch(vanilla(model), lane=CPU, log_path=tmp_path / "log")

    with pytest.raises(RunTimeout, match=r"llama-completion did not end within 0\.3 s"):
        session.generate(request(), timeout_s=0.3)
    assert session.pid is None
    assert session.alive
    session.close()
    assert not session.alive


def test_the_program_is_told_everything_as_the_server_is(tmp_path: Path, model: str) -> None:
    session = engine_of(tmp_path, "2026-10").launch(
        speculative(6, main_model=model, draft_model=model), lane=CPU, log_path=tmp_path / "log"
    )

    assert {"--spec-draft-n-max", "--spec-draft-n-min", "--spec-draft-p-min", "--spec-type", "--ctx-size"} <= set(
        session.arguments
    )


def test_a_folder_without_speculative_program_is_no_llama_cpp_for_this_engine(tmp_path: Path) -> None:
    folder = standin.write(tmp_path / "llama", "2026-10")
    for program in (folder / "build/bin").glob("llama-speculative*"):
        program.unlink()

    assert find_programs(str(folder)) is None
    with pytest.raises(ProgramError, match=r"None of llama-speculative-simple.*build .*examples"):
        BinariesEngine(str(folder / "build/bin"))


def test_chat_prompts_are_refused(tmp_path: Path, model: str) -> None:
    session = launched(engine_of(tmp_path, "2026-10"), vanilla(model), tmp_path)

    with pytest.raises(RunFailed, match="chat template"):
        session.generate(request(chat=True), timeout_s=5)
