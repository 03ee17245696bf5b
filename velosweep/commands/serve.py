"""`velosweep serve DIR`: start the llama-server that a sweep's answer names."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from velosweep.commands.command import answer_arguments
from velosweep.commands.sweep_folder import add_sweep_folder
from velosweep.config.keys import expanded
from velosweep.errors import ConfigError, ProgramError
from velosweep.isolation import program_environment
from velosweep.llama_cpp.arguments import absolute_paths
from velosweep.reporting.printed_command import WHERE_TO_GET_IT


def main(argv: Sequence[str]) -> int:
    """Replace this process by the server. Raises ProgramError where there is no llama-server."""
    parser = argparse.ArgumentParser(
        prog="velosweep serve",
        description="Start llama-server with the setting that a sweep found to be the fastest.",
        epilog="What follows -- goes to llama-server as is, e.g. velosweep serve last -- --port 8080",
    )
    add_sweep_folder(parser, default=True)
    parser.add_argument("--llama-server", metavar="PATH", help="use this program instead")
    own, separator, further = list(argv), "--" in argv, []
    if separator:
        own, further = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments, unknown = parser.parse_known_args(own)
    if unknown:
        place = own.index(unknown[0])
        raise ConfigError(
            f"velosweep serve has no {unknown[0]}",
            remedy="llama-server's flags go after --: "
            + shlex.join(["velosweep", "serve", *own[:place], "--", *own[place:], *further]),
        )
    command = [*answer_arguments(arguments.directory), *map(absolute_paths, further)]
    program = _program(arguments.llama_server or command[0], asked=arguments.llama_server is not None)
    sys.stderr.write(f"{shlex.join([program, *command[1:]])}\n")
    sys.stderr.flush()
    os.chdir(Path(program).parent)  # it would load libraries from the current one
    os.execve(program, [program, *command[1:]], program_environment(os.environ))  # noqa: S606 (the person asked for it)


def _program(name: str, *, asked: bool) -> str:
    from velosweep.llama_cpp.capabilities import find_program
    from velosweep.llama_cpp.selection import find_on_path

    found = find_on_path(name, os.environ) or find_program(expanded(name), "llama-server")
    if not found:
        if asked:
            raise ConfigError(f"There is no llama-server at {name}", remedy="give the program, or a llama.cpp folder")
        raise ProgramError(
            f"There is no {name} here; the sweep may have used the llama.cpp that comes with velosweep",
            remedy=f"name a llama-server of yours: velosweep serve --llama-server PATH ({WHERE_TO_GET_IT})",
        )
    return str(found)
