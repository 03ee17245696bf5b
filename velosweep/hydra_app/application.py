"""Velosweep as a Hydra application: Hydra's flags and grammar, our search path, errors and exit status."""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.config.command_words import read_words
from velosweep.config.composing import PRIMARY, register_kinds, start_hydra
from velosweep.config.flags import ALIASES, run_command
from velosweep.config.schema import nearest
from velosweep.errors import ConfigError, ExitStatus
from velosweep.hydra_app.refused_folders import undone_if_refused
from velosweep.hydra_app.task import JobError, JobTask
from velosweep.llama_cpp.embedded import ask_devices_early
from velosweep.llama_cpp.selection import probably_embedded
from velosweep.reporting.console import ignore_closed_output
from velosweep.results.paths import is_sweep

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.types import RunMode


def run(
    arguments: Sequence[str],
    *,
    commands: Sequence[str] = (),
    typed: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> int:
    """Run the command line `arguments`; returns the exit status. Raises our errors and Hydra's.

    `typed`: the command line for the record, where `arguments` were made of another one. `changes`: fields of
    RunSettings, instead of what the configuration says.
    """
    args, parser = _parse(arguments, commands)
    from hydra.core.global_hydra import GlobalHydra

    shows = args.hydra_help or args.cfg or args.shell_completion or args.info
    if not shows and "dry_run=true" not in args.overrides:  # dry_run may also be set in a file, which is not looked at
        ignore_closed_output()
        if probably_embedded(args.overrides, os.environ):
            ask_devices_early()
    register_kinds(args.overrides)
    hydra = start_hydra(args.config_dir, args.config_path)
    try:
        if args.hydra_help:
            hydra.hydra_help(config_name=args.config_name, args_parser=parser, args=args)
        elif args.cfg:
            hydra.show_cfg(
                config_name=args.config_name,
                overrides=args.overrides,
                cfg_type=args.cfg,
                package=args.package,
                resolve=args.resolve,
            )
        elif args.shell_completion:
            words = os.environ.get("COMP_LINE", "").split()[1:]
            queried = bool(words) and any(word.startswith("query=") for word in args.overrides)
            if queried and words[0] in commands:  # what follows a command of ours are file names
                return int(ExitStatus.OK)
            if queried and len(words) == 1:
                sys.stdout.write("".join(f"{name}\n" for name in commands if name.startswith(words[0])))
            hydra.shell_completion(config_name=args.config_name, overrides=args.overrides)
        elif args.info:
            hydra.show_info(args.info, config_name=args.config_name, overrides=args.overrides)
        else:
            return _measure(hydra, args, JobTask(typed or ["velosweep", *arguments], changes))
    finally:
        GlobalHydra.instance().clear()
    return int(ExitStatus.OK)


# The commands' flags for how much is said.
_DISPLAY = {word: f"{key}=true" for word, key in ALIASES.items() if key.startswith("display.")}


class _Parser(argparse.ArgumentParser):
    """Raises ConfigError instead of printing the usage and exiting."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConfigError(f"The command line can't be read: {message}", remedy="see `velosweep --help`")


def _parse(arguments: Sequence[str], commands: Sequence[str]) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    from hydra._internal.utils import get_args_parser

    if (meant := run_command(arguments)) is not None:
        raise ConfigError("Flags such as llama-server's are for `velosweep run`", remedy=f"write: {meant}")
    parser = get_args_parser()
    parser.__class__ = _Parser
    parser.prog = "velosweep"
    args, unknown = parser.parse_known_intermixed_args([_DISPLAY.get(word, word) for word in arguments])
    if unknown:
        raise _unknown_flag(unknown[0])
    args.config_name = args.config_name or PRIMARY
    if not args.shell_completion:
        args.overrides = read_words(args.overrides, commands, multirun=args.multirun)
    doing = [flag for flag in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(args, flag)]
    if len(doing) > 1:
        raise ConfigError(f"--{doing[0]} and --{doing[1]} exclude each other", remedy="give one of them")
    if (args.resolve or args.package is not None) and not args.cfg:
        flag = "--resolve" if args.resolve else "--package"
        raise ConfigError(f"{flag} is for --cfg", remedy="for instance: velosweep --cfg job --resolve")
    if args.experimental_rerun:
        raise ConfigError("--experimental-rerun reads a pickle", remedy="use: velosweep rerun DIR")
    return args, parser


def _unknown_flag(flag: str) -> ConfigError:
    """The error for a flag that Hydra does not have; the remedy names the key that was probably meant."""
    guess = nearest(flag.lstrip("-").partition("=")[0])
    remedy = f"settings are written key=value: {guess}=VALUE" if guess else "settings are written key=value"
    return ConfigError(f"There is no option {flag!r}", remedy=f"{remedy}; velosweep --help lists all")


def _measure(hydra: "Hydra", args: argparse.Namespace, task: JobTask) -> int:
    """Run one job, or a sweep where -m or hydra.mode asks for one; returns the exit status."""
    from hydra.types import RunMode

    overrides = list(args.overrides)
    mode, folder = (RunMode.MULTIRUN, Path()) if args.multirun else _mode(hydra, args.config_name, overrides)
    overrides.append(f"hydra.mode={mode.name}")
    if mode == RunMode.RUN:
        with undone_if_refused(folder):
            hydra.run(config_name=args.config_name, task_function=task, overrides=overrides)
            if task.single_error is not None:
                raise task.single_error
    else:
        try:
            hydra.multirun(config_name=args.config_name, task_function=task, overrides=overrides)
        except JobError as error:  # other sweepers raise the first failed job's error
            if task.outcome is None:
                raise
            sys.stderr.write(f"velosweep: {error.message}\n")
    return int(task.outcome.exit_status) if task.outcome else int(ExitStatus.OK)


def _mode(hydra: "Hydra", config_name: str, overrides: list[str]) -> "tuple[RunMode, Path]":
    """The configured hydra.mode, so that an experiment file that sets MULTIRUN is a sweep without -m; and the folder of
    a single job.

    Raises ConfigError where a search is asked for and the mode is a single job, MismatchError for a folder of a sweep.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    cfg = hydra.compose_config(
        config_name=config_name,
        overrides=overrides,
        run_mode=RunMode.MULTIRUN,
        with_log_configuration=False,
        validate_sweep_overrides=False,
    )
    mode: RunMode = cfg.hydra.mode or RunMode.RUN
    if mode == RunMode.RUN and cfg.hydra.runtime.choices.get("hydra/sweeper") == "tune":
        raise ConfigError(
            "hydra/sweeper=tune searches over several values, and this is one job",
            remedy=f"add -m: {shlex.join(['velosweep', '-m', *overrides])}",
        )
    HydraConfig.instance().set_config(cfg)  # to which hydra.run.dir may refer
    folder = Path(str(cfg.hydra.run.dir)).absolute()
    if mode == RunMode.RUN and any(map(is_sweep, folder.parents)):
        from velosweep.results.sweep_record import refuse_job_folder

        refuse_job_folder(folder)
    return mode, folder
