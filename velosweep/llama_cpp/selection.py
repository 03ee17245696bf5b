"""Which llama.cpp runs: the one asked for, else the person's own, else the embedded one; and why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velosweep.config.settings import ENGINES, EngineSettings
from velosweep.errors import ProgramError
from velosweep.isolation import without_current_folder
from velosweep.llama_cpp.engine import Engine

HOW_TO_BUILD = (
    "build it with `cmake -B build && cmake --build build --config Release -j` in llama.cpp's folder and set "
    "llama_cpp.path to that folder, or leave llama_cpp.path out to use the embedded llama.cpp"
)
_VARIABLE = "$LLAMA_CPP_PATH"
_OTHER_VARIABLE = (
    "that environment variable names llama.cpp's folder, built with `cmake -B build && cmake --build build --config "
    "Release -j`: set it anew, or unset it to use the llama-server on PATH, else the embedded llama.cpp"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The engine that `auto` (or a name) came to. `program` as in EngineSettings; `reason` one clause for people."""

    kind: str
    program: str | None
    build: str
    reason: str


def resolve_engine(settings_kind: str, llama_cpp_path: str | None, environ: Mapping[str, str]) -> Selection:
    """The contract's order: `llama_cpp.path`, else $LLAMA_CPP_PATH, else llama-server on PATH, else embedded.

    Raises ProgramError if what was asked for by name or by path isn't there or doesn't run.
    """
    if settings_kind not in ENGINES:
        raise ProgramError(f"There is no engine {settings_kind!r}", remedy=f"choose one of {', '.join(ENGINES)}")
    if settings_kind == "attached":
        return Selection(kind="attached", program=None, build="as the servers say", reason="engine=attached")
    if settings_kind == "embedded":
        return _embedded("engine=embedded")
    path, source = _given_path(llama_cpp_path, environ)
    if settings_kind == "binaries":
        return _binaries(path, source, environ)
    if path is not None:
        program = find_program("llama-server", path)
        if program is None:
            raise _not_found("llama-server", path, source)
        return _server_of_variable(program, path) if source == _VARIABLE else _server(program, f"{source}={path}")
    on_path = _on_path("llama-server", environ)
    if on_path is not None:
        try:
            return _found_on_path(on_path)
        except ProgramError as error:
            if settings_kind == "server":
                raise
            return _embedded(_one_line(error.message.replace("The llama-server that was found", "the llama-server", 1)))
    if settings_kind == "server":
        raise ProgramError("engine=server, but there is no llama-server on PATH", remedy=HOW_TO_BUILD)
    return _embedded("no llama_cpp.path, no $LLAMA_CPP_PATH and no llama-server on PATH")


def surely_embedded(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a command line says nothing that could choose another llama.cpp than the embedded one.

    A guess before any configuration is read, good for work that may turn out to be for nothing.
    """
    elsewhere = ("engine=", "engine.kind", "llama_cpp", "experiment")
    return (
        not any(word.lstrip("+~").startswith(elsewhere) for word in words)
        and not environ.get("LLAMA_CPP_PATH")
        and _on_path("llama-server", environ) is None
    ) or "engine=embedded" in words


def _on_path(program: str, environ: Mapping[str, str]) -> str | None:
    """Absolute path of the program by the name under which PATH has it; what lies in the current folder is not it."""
    found = shutil.which(program, path=without_current_folder(environ.get("PATH", os.defpath)))
    return None if found is None else str(Path(found).absolute())


def _one_line(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 300 else line[:300] + "…"


def _given_path(llama_cpp_path: str | None, environ: Mapping[str, str]) -> tuple[str | None, str]:
    variable = environ.get("LLAMA_CPP_PATH") or None
    if llama_cpp_path and not (variable and Path(llama_cpp_path) == Path(variable).expanduser()):
        return llama_cpp_path, "llama_cpp.path"
    return variable, _VARIABLE  # the shipped configuration sets llama_cpp.path to it


def _embedded(reason: str) -> Selection:
    from velosweep.llama_cpp.embedded import embedded_build

    return Selection(kind="embedded", program=None, build=embedded_build(), reason=reason)


def _server(program: str, reason: str) -> Selection:
    from velosweep.llama_cpp.capabilities import of_program

    return Selection(kind="server", program=program, build=of_program(program).build, reason=reason)


def _server_of_variable(program: str, path: str) -> Selection:
    try:
        return _server(program, f"{_VARIABLE}={path}")
    except ProgramError as error:
        raise ProgramError(f"{_VARIABLE}={path}: {error.message}", remedy=_OTHER_VARIABLE) from error


def _found_on_path(on_path: str) -> Selection:
    """Nobody named this program: where it doesn't work, it is said where it was found."""
    try:
        return _server(on_path, "llama-server is on PATH")
    except ProgramError as error:
        why = error.message.replace(f"{on_path} ", "it ", 1)
        raise ProgramError(
            f"The llama-server that was found on PATH, {on_path}, does not work: {why}",
            remedy="mend it or take it off PATH; or set llama_cpp.path to another llama.cpp, or choose engine=embedded",
        ) from error


def _binaries(path: str | None, source: str, environ: Mapping[str, str]) -> Selection:
    from velosweep.llama_cpp.binaries import BinariesEngine, find_programs

    if path is None:
        on_path = _on_path("llama-speculative-simple", environ) or _on_path("llama-speculative", environ)
        if on_path is None:
            raise ProgramError("engine=binaries, but there is no llama-speculative on PATH", remedy=HOW_TO_BUILD)
        path, source = str(Path(on_path).parent), "PATH"
    folder = find_programs(path)
    if folder is None:
        raise _not_found("llama-speculative", path, source)
    return Selection(
        kind="binaries", program=str(folder), build=BinariesEngine(str(folder)).build, reason=f"{source}={path}"
    )


def program_folders(path: str) -> tuple[Path, ...]:
    """Where programs of a llama.cpp at `path` may lie, in the contract's order."""
    base = Path(path).expanduser()
    return (base / "build" / "bin", base / "bin", base, base / "build" / "bin" / "Release")


def find_program(name: str, path: str) -> str | None:
    """Absolute path of the program `name` of the llama.cpp at `path` (a folder, or the program itself)."""
    given = Path(path).expanduser()
    if given.is_file() and os.access(given, os.X_OK):
        return str(given.absolute()) if given.stem.startswith(name) or name == "llama-server" else None
    for folder in program_folders(path):
        for candidate in (folder / name, folder / f"{name}.exe"):
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return str(candidate.absolute())
    return None


def _not_found(program: str, path: str, source: str) -> ProgramError:
    looked = ", ".join(str(folder) for folder in program_folders(path)[:3])
    remedy = _OTHER_VARIABLE if source == _VARIABLE else HOW_TO_BUILD
    if not Path(path).expanduser().exists():
        return ProgramError(f"{source}={path} does not exist", remedy=remedy)
    return ProgramError(f"No {program} for {source}={path} (looked in {looked})", remedy=remedy)


def open_engine(settings: EngineSettings) -> Engine:
    """The engine of resolved settings. Raises ProgramError."""
    if settings.kind == "server":
        from velosweep.llama_cpp.server import ServerEngine

        if settings.program is None:
            raise ProgramError("engine=server without a program", remedy=HOW_TO_BUILD)
        return ServerEngine(settings.program)
    if settings.kind == "embedded":
        from velosweep.llama_cpp.embedded import EmbeddedEngine

        return EmbeddedEngine()
    if settings.kind == "binaries":
        from velosweep.llama_cpp.binaries import BinariesEngine

        if settings.program is None:
            raise ProgramError("engine=binaries without a folder of programs", remedy=HOW_TO_BUILD)
        return BinariesEngine(settings.program)
    if settings.kind == "attached":
        from velosweep.llama_cpp.attached import AttachedEngine

        return AttachedEngine(vanilla_url=settings.vanilla_url, speculative_url=settings.speculative_url)
    raise ProgramError(f"The engine {settings.kind!r} can't be opened; it must be resolved first")
