"""Which llama.cpp runs: the one asked for, else the person's own, else the embedded one; and why."""

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velosweep.config.keys import expanded
from velosweep.config.settings import ENGINES, EngineSettings
from velosweep.errors import ProgramError
from velosweep.isolation import without_current_folder
from velosweep.llama_cpp.attached import AttachedEngine
from velosweep.llama_cpp.binaries import SPECULATIVE_PROGRAMS, VANILLA_PROGRAMS, BinariesEngine
from velosweep.llama_cpp.capabilities import find_in, find_program, program_folders
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Engine
from velosweep.llama_cpp.server import ServerEngine

_BUILD = "`cmake -B build && cmake --build build --config Release -j`"
HOW_TO_BUILD = (
    f"build it with {_BUILD} in llama.cpp's folder and set llama_cpp.path to that folder, or leave llama_cpp.path out "
    "to use the embedded llama.cpp"
)
_VARIABLE = "$LLAMA_CPP_PATH"
_OTHER_VARIABLE = (
    f"that environment variable names llama.cpp's folder, built with {_BUILD}: set it anew, or unset it to use the "
    "llama-server on PATH, else the embedded llama.cpp"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenEngine:
    """The engine that settings came to, its program or folder of programs if it has one, and why, in a clause."""

    engine: Engine
    program: str | None = None
    reason: str


def choose_engine(settings: EngineSettings, environ: Mapping[str, str]) -> ChosenEngine:
    """The contract's order: `llama_cpp.path`, else $LLAMA_CPP_PATH, else llama-server on PATH, else embedded.

    Raises ProgramError if what was asked for by name or by path isn't there or doesn't run.
    """
    kind, llama_cpp_path = settings.kind, settings.program
    if kind not in ENGINES:
        raise ProgramError(f"There is no engine {kind!r}", remedy=f"choose one of {', '.join(ENGINES)}")
    if kind == "attached":
        attached = AttachedEngine(vanilla_url=settings.vanilla_url, speculative_url=settings.speculative_url)
        return ChosenEngine(engine=attached, reason="engine=attached")
    if kind == "embedded":
        return ChosenEngine(engine=EmbeddedEngine(), reason="engine=embedded")
    variable = environ.get("LLAMA_CPP_PATH") or None
    path, source = variable, _VARIABLE  # the shipped configuration sets llama_cpp.path to it
    if llama_cpp_path and not (variable and Path(llama_cpp_path) == expanded(variable)):
        path, source = llama_cpp_path, "llama_cpp.path"
    if kind == "binaries":
        return _binaries(path, source, environ)
    if path is not None:
        return _server_at(path, source)
    on_path = find_on_path("llama-server", environ)
    if on_path is None:
        if kind == "server":
            raise ProgramError("engine=server, but there is no llama-server on PATH", remedy=HOW_TO_BUILD)
        reason = "no llama_cpp.path, no $LLAMA_CPP_PATH and no llama-server on PATH"
        return ChosenEngine(engine=EmbeddedEngine(), reason=reason)
    try:
        return ChosenEngine(engine=ServerEngine(on_path), program=on_path, reason="llama-server is on PATH")
    except ProgramError as error:
        why = " ".join(error.message.replace(f"{on_path} ", "it ", 1).split())
        if kind != "server":  # nobody named this program
            reason = f"the llama-server on PATH, {on_path}, does not work: {why[:300]}"
            return ChosenEngine(engine=EmbeddedEngine(), reason=reason)
        raise ProgramError(
            f"The llama-server that was found on PATH, {on_path}, does not work: {why}",
            remedy="mend it or take it off PATH; or set llama_cpp.path to another llama.cpp, or choose engine=embedded",
        ) from error


def server_command_name(engine: EngineSettings, environ: Mapping[str, str]) -> str:
    """What starts the llama-server of a resolved engine at a prompt: its path, unless PATH has it or there is none."""
    program = engine.program if engine.kind == "server" else None
    if engine.kind == "binaries" and (beside := find_in(Path(engine.program or ""), "llama-server")):
        program = str(beside)
    return "llama-server" if program in (None, find_on_path("llama-server", environ)) else program


def probably_embedded(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a command line says nothing that could choose another llama.cpp than the embedded one.

    A guess before any configuration is read, for work that may turn out to be useless.
    """
    elsewhere = ("engine=", "engine.kind", "llama_cpp", "experiment")
    return (
        not any(word.lstrip("+~").startswith(elsewhere) for word in words)
        and not environ.get("LLAMA_CPP_PATH")
        and find_on_path("llama-server", environ) is None
    ) or "engine=embedded" in words


def find_on_path(program: str, environ: Mapping[str, str]) -> str | None:
    """Absolute path of the program by the name under which PATH has it; what lies in the current folder is not it."""
    found = shutil.which(program, path=without_current_folder(environ.get("PATH", os.defpath)))
    return None if found is None else str(Path(found).absolute())


def _server_at(path: str, source: str) -> ChosenEngine:
    given = expanded(path)
    itself = given.is_file() and os.access(given, os.X_OK)
    program = given.absolute() if itself else find_program(given, "llama-server")
    if program is None:
        raise _not_found("llama-server", path, source)
    try:
        return ChosenEngine(engine=ServerEngine(str(program)), program=str(program), reason=f"{source}={path}")
    except ProgramError as error:
        if source != _VARIABLE:
            raise
        raise ProgramError(f"{_VARIABLE}={path}: {error.message}", remedy=_OTHER_VARIABLE) from error


def _binaries(path: str | None, source: str, environ: Mapping[str, str]) -> ChosenEngine:
    if path is None:
        on_path = find_on_path("llama-speculative-simple", environ) or find_on_path("llama-speculative", environ)
        if on_path is None:
            raise ProgramError("engine=binaries, but there is no llama-speculative on PATH", remedy=HOW_TO_BUILD)
        path, source = str(Path(on_path).parent), "PATH"
    folder = find_programs(path)
    if folder is None:
        raise _not_found("llama-speculative", path, source)
    return ChosenEngine(engine=BinariesEngine(str(folder)), program=str(folder), reason=f"{source}={path}")


def find_programs(path: str) -> Path | None:
    """The folder of a llama.cpp at `path` that holds a speculative and a vanilla program; None if there is none."""
    base = expanded(path)
    for folder in program_folders(base.parent if base.is_file() else base):
        if find_in(folder, *VANILLA_PROGRAMS) and find_in(folder, *SPECULATIVE_PROGRAMS):
            return folder.absolute()
    return None


def _not_found(program: str, path: str, source: str) -> ProgramError:
    given = expanded(path)
    remedy = _OTHER_VARIABLE if source == _VARIABLE else HOW_TO_BUILD
    if not given.exists():
        return ProgramError(f"{source}={path} does not exist", remedy=remedy)
    files = [given, *(folder / program for folder in program_folders(given))]
    for file in (file for file in files if file.is_file() and not os.access(file, os.X_OK)):
        return ProgramError(f"{file} is not executable", remedy=f"make it so: chmod +x {shlex.quote(str(file))}")
    looked = ", ".join(str(folder) for folder in program_folders(given)[:3])
    return ProgramError(f"No {program} for {source}={path} (looked in {looked})", remedy=remedy)
