"""What one llama.cpp program can do, found by asking it: `--help` and `--version`, never by its build number."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from velosweep.errors import ProgramError
from velosweep.llama_cpp import process
from velosweep.llama_cpp.setting_table import SETTINGS


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """The flags of one program (`flags`: every spelling -> what follows it, "" for a switch) and its version."""

    program: str
    build: str
    flags: Mapping[str, str]
    spec_types: tuple[str, ...] = ()

    def name(self, setting: str) -> str | None:
        """What this program calls a setting of the table; None if it has no such flag."""
        return next((flag for flag in SETTINGS[setting].flags if flag in self.flags), None)


_FLAG = r"-{1,2}[A-Za-z][A-Za-z0-9_-]*"
_ENTRY_START = re.compile(rf"^(?=(?:  )?{_FLAG})", re.MULTILINE)
# Spellings, then one space and the value's placeholder; two or more spaces lead to the description.
_ENTRY = re.compile(
    rf"\s*({_FLAG}(?:,[ ]*{_FLAG})*),?(?=[ \n]|$)(?:[ ](?=\S)(\S+(?:[ ]\S+)*?)(?=[ ]{{2,}}|$))?", re.MULTILINE
)


def parse_help(text: str) -> dict[str, str]:
    """`--help` to {flag: what follows it}. Flags that are listed only to say that they were removed are left out.

    An entry starts in column 0 with a dash (up to two spaces before it in builds of 2023) and goes on in indented
    lines. `-t,    --threads N      number of …` -> {"-t": "N", "--threads": "N"}.
    """
    flags: dict[str, str] = {}
    removed: set[str] = set()
    for text_of_entry in _ENTRY_START.split(text):
        entry = _ENTRY.match(text_of_entry)
        if entry is None:
            continue
        names = re.split(r", *", entry.group(1))
        if "has been removed" in text_of_entry:
            removed.update(names)
        else:
            flags.update(dict.fromkeys(names, entry.group(2) or ""))
    return {name: value for name, value in flags.items() if name not in removed}


def program_folders(llama_cpp: Path) -> tuple[Path, ...]:
    """Where the programs of a llama.cpp may lie, in the contract's order."""
    return (llama_cpp / "build" / "bin", llama_cpp / "bin", llama_cpp, llama_cpp / "build" / "bin" / "Release")


def find_in(folder: Path, *names: str) -> Path | None:
    """The first of these programs that the folder has, by that name: a link is not followed."""
    for name in names:
        for candidate in (folder / name, folder / f"{name}.exe"):
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return candidate.absolute()
    return None


_ASKING = threading.Lock()


def of_program(program: str) -> Capabilities:
    """Ask `program`, once in this process.

    Raises ProgramError if it can't be run or doesn't answer as llama.cpp does.
    """
    with _ASKING:
        return _asked(str(Path(program).absolute()))


@functools.cache
def _asked(program: str) -> Capabilities:
    answer = _answer(program, "--help")
    flags = parse_help(answer.stdout) or parse_help(answer.stderr)
    if "--model" not in flags:
        last = (answer.stderr.strip() or answer.stdout.strip()).splitlines()[-1:] or ["it printed nothing"]
        ended = process.describe_exit(answer.exit_code)
        raise ProgramError(
            f"{program} does not answer --help as llama.cpp does ({ended}): {last[0]}",
            remedy="check llama_cpp.path, or the libraries that the program needs",
        )
    version = _answer(program, "--version")
    return Capabilities(
        program=program,
        build=parse_version(f"{version.stderr}\n{version.stdout}"),
        flags=flags,
        spec_types=parse_spec_types(flags),
    )


def parse_spec_types(flags: Mapping[str, str]) -> tuple[str, ...]:
    """The kinds that --spec-type takes: `[none|ngram-mod]` or `none,draft-simple,…`; empty without that flag."""
    named = flags.get("--spec-type", "").strip("[]{}")
    return tuple(kind for kind in re.split(r"[,|]", named) if re.fullmatch(r"[a-z0-9-]+", kind))


def _answer(program: str, question: str) -> process.ProgramOutput:
    """Raises ProgramError if the program can't be run."""
    try:
        answer = process.ask([program, question])
        failure = re.match(r"exec: .*: (.+)$", answer.stderr)
        if failure is None:
            return answer
        cause = failure.group(1)
    except OSError as error:
        cause = error.strerror or str(error)
    raise ProgramError(f"{program} can't be run: {cause}", remedy="check that it is built for this machine")


def parse_version(text: str) -> str:
    """`version: 4191 (0bbd2262)` -> `4191 (0bbd2262)`; "unknown" if it says none."""
    match = re.search(r"^version: *(.+?)\s*$", text, re.MULTILINE)
    return match.group(1) if match else "unknown"
