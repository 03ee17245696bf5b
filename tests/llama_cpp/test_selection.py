"""Which llama.cpp runs, and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.llama_cpp import standin
from velosweep.config.settings import EngineSettings
from velosweep.errors import ProgramError
from velosweep.llama_cpp.selection import ChosenEngine, choose_engine, probably_embedded, server_command_name


def choose(kind: str, path: str | None, environ: dict[str, str]) -> ChosenEngine:
    """The engine of these keys."""
    return choose_engine(EngineSettings(kind=kind, program=path), environ)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A llama.cpp of one's own."""
    return standin.write(tmp_path / "llama.cpp", "2026-10")


def test_the_path_of_the_configuration_comes_first(llama: Path) -> None:
    found = choose("auto", str(llama), {"LLAMA_CPP_PATH": "/elsewhere", "PATH": ""})

    assert ("server", str((llama / "build/bin/llama-server").resolve())) == (found.engine.name, found.program)
    assert found.engine.build.startswith("0.5.0-dev")
    assert found.reason == f"llama_cpp.path={llama}"


def test_then_the_variable_then_path_then_the_embedded(llama: Path) -> None:
    by_variable = choose("auto", None, {"LLAMA_CPP_PATH": str(llama), "PATH": ""})
    on_path = choose("auto", None, {"PATH": str(llama / "build/bin")})
    embedded = choose("auto", None, {"PATH": ""})

    assert by_variable.reason == f"$LLAMA_CPP_PATH={llama}"
    assert (on_path.engine.name, on_path.reason) == ("server", "llama-server is on PATH")
    assert (embedded.engine.name, embedded.program) == ("embedded", None)
    assert embedded.engine.build.startswith("xllamacpp ")


def test_a_broken_program_is_told_by_where_it_was_found(tmp_path: Path) -> None:
    program = tmp_path.resolve() / "build/bin/llama-server"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n", encoding="utf-8")
    program.chmod(0o755)

    with pytest.raises(ProgramError) as on_path:
        choose("server", None, {"PATH": str(program.parent)})
    with pytest.raises(ProgramError, match=r"does not answer --help.*check llama_cpp\.path"):
        choose("auto", str(tmp_path), {"PATH": ""})
    with pytest.raises(
        ProgramError, match=r"^\$LLAMA_CPP_PATH=.*does not answer --help.*that environment variable names"
    ):
        choose("auto", None, {"LLAMA_CPP_PATH": str(tmp_path), "PATH": ""})

    assert on_path.value.message.startswith(f"The llama-server that was found on PATH, {program}, does not work: ")
    assert on_path.value.message.endswith(
        "it does not answer --help as llama.cpp does (exit status 127): no such library"
    )
    assert on_path.value.remedy is not None
    assert on_path.value.remedy.startswith("mend it or take it off PATH; or set llama_cpp.path")


def test_a_broken_program_on_path_leaves_the_embedded_one_and_a_line(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n", encoding="utf-8")
    program.chmod(0o755)
    found = choose("auto", None, {"PATH": str(tmp_path)})

    assert found.engine.name == "embedded"
    assert found.reason == (
        f"the llama-server on PATH, {program}, does not work: it does not answer --help as llama.cpp does "
        "(exit status 127): no such library"
    )


def test_a_program_is_run_by_the_name_it_was_given(llama: Path, tmp_path: Path) -> None:
    real = llama / "build/bin/llama-server"
    real.rename(llama / "build/bin/server-2026-10")
    (llama / "build/bin/dispatch").write_text(
        f'#!/bin/sh\n[ "${{0##*/}}" = llama-server ] || {{ echo "I am not called $0" >&2; exit 1; }}\n'
        f'exec {llama}/build/bin/server-2026-10 "$@"\n',
        encoding="utf-8",
    )
    (llama / "build/bin/dispatch").chmod(0o755)
    real.symlink_to("dispatch")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/llama-server").symlink_to(real)

    for found in (
        choose("auto", None, {"PATH": str(tmp_path / "bin")}),
        choose("auto", str(llama), {"PATH": ""}),
        choose("auto", str(real), {"PATH": ""}),
    ):
        assert (found.engine.name, Path(found.program or "").name) == ("server", "llama-server")
        assert found.engine.build.startswith("0.5.0-dev")


def test_a_program_in_the_current_folder_is_not_on_path(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(llama / "build/bin")

    for path in ("", ".", f"{os.pathsep}/nowhere"):
        assert choose("auto", None, {"PATH": path}).engine.name == "embedded"


@pytest.mark.parametrize("inner", ["build/bin", "bin", "."])
def test_each_usual_folder_is_looked_into(inner: str, llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other" / inner
    folder.parent.mkdir(parents=True, exist_ok=True)
    (llama / "build/bin").rename(folder)

    assert choose("auto", str(tmp_path / "other"), {"PATH": ""}).engine.name == "server"


def test_the_program_itself_may_be_named(llama: Path) -> None:
    program = llama / "build/bin/llama-server"

    assert choose("server", str(program), {"PATH": ""}).program == str(program.resolve())


def test_a_path_without_server_is_refused_with_how_to_build(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(ProgramError, match=r"No llama-server for llama_cpp\.path=.*build/bin.*cmake --build"):
        choose("auto", str(tmp_path / "empty"), {"PATH": ""})
    with pytest.raises(ProgramError, match=r"\$LLAMA_CPP_PATH=/no/where does not exist.*unset it"):
        choose("auto", None, {"PATH": "", "LLAMA_CPP_PATH": "/no/where"})
    with pytest.raises(ProgramError, match=r"\$LLAMA_CPP_PATH=/no/where/ does not exist; that environment variable"):
        choose("auto", "/no/where", {"PATH": "", "LLAMA_CPP_PATH": "/no/where/"})


def test_a_named_engine_that_is_not_there_is_refused() -> None:
    with pytest.raises(ProgramError, match="no llama-server on PATH"):
        choose("server", None, {"PATH": ""})
    with pytest.raises(ProgramError, match="no llama-speculative on PATH"):
        choose("binaries", None, {"PATH": ""})
    with pytest.raises(ProgramError, match="no engine 'sever'; choose one of auto, embedded"):
        choose("sever", None, {"PATH": ""})


def test_binaries_are_found_by_path_and_on_path(llama: Path) -> None:
    by_path = choose("binaries", str(llama), {"PATH": ""})
    on_path = choose("binaries", None, {"PATH": str(llama / "build/bin")})

    assert (llama / "build/bin").resolve() == Path(by_path.program or "") == Path(on_path.program or "")


def test_the_measured_builds_own_server_is_named_unless_path_has_it(llama: Path) -> None:
    folder = (llama / "build/bin").resolve()
    program = str(folder / "llama-server")
    engines = [
        EngineSettings(kind="server", program=program),
        EngineSettings(kind="binaries", program=str(folder)),
        EngineSettings(kind="embedded"),
    ]

    assert [server_command_name(one, {"PATH": ""}) for one in engines] == [program, program, "llama-server"]
    assert {server_command_name(one, {"PATH": str(folder)}) for one in engines} == {"llama-server"}


def test_what_was_chosen_is_chosen_again(llama: Path) -> None:
    for kind, path in (("server", str(llama)), ("binaries", str(llama)), ("embedded", None)):
        found = choose(kind, path, {"PATH": ""})
        again = choose(found.engine.name, found.program, {"PATH": ""})

        assert (kind, found.program) == (again.engine.name, again.program)
    attached = choose_engine(EngineSettings(kind="attached", vanilla_url="http://127.0.0.1:9"), {})
    assert (attached.engine.name, attached.program) == ("attached", None)


@pytest.mark.parametrize(
    ("words", "environ", "sure"),
    [
        (["n_draft=4,8", "engine.threads=2"], {"PATH": ""}, True),
        (["engine=embedded"], {"PATH": "", "LLAMA_CPP_PATH": "/somewhere"}, True),
        (["engine=server"], {"PATH": ""}, False),
        (["llama_cpp.path=/somewhere"], {"PATH": ""}, False),
        (["+experiment=mine"], {"PATH": ""}, False),
        ([], {"PATH": "", "LLAMA_CPP_PATH": "/somewhere"}, False),
    ],
)
def test_what_could_choose_another_llama_cpp_is_seen_before_any_configuration(
    words: list[str], environ: dict[str, str], sure: bool
) -> None:
    assert probably_embedded(words, environ) is sure


def test_a_llama_server_on_path_is_no_sure_embedded(llama: Path) -> None:
    assert not probably_embedded([], {"PATH": str(llama / "build/bin")})
