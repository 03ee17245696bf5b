"""Velosweep as a Hydra application: Hydra's flags and grammar, our search path, errors and exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from velosweep.config.refusals import GROUPS, KEYS, nearest
from velosweep.errors import ConfigError, ExitStatus
from velosweep.sweeping import search_path
from velosweep.sweeping.task import JobTask

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    return Hydra.create_main_hydra2("velosweep", search_path.build(args.config_dir, args.config_path))


def _measure(hydra: Hydra, args: argparse.Namespace, command: Sequence[str]) -> int:
    """Run one job or a sweep, as -m or the configuration's hydra.mode has it."""
    from hydra.types import RunMode

    task = JobTask(command)
    overrides = list(args.overrides)
    mode = RunMode.MULTIRUN if args.multirun else hydra.get_mode(config_name=args.config_name, overrides=overrides)
    mode = mode or RunMode.RUN
    overrides.append(f"hydra.mode={mode.name}")
    if mode == RunMode.RUN:
        hydra.run(config_name=args.config_name, task_function=task, overrides=overrides)
        if task.single_error is not None:
            raise task.single_error
    else:
        _multirun(hydra, args.config_name, task, overrides)
    return int(task.outcome.exit_status) if task.outcome else int(ExitStatus.OK)


def _multirun(hydra: Hydra, config_name: str, task: JobTask, overrides: list[str]) -> None:
    """A sweeper that isn't ours throws after the first failed job; what was measured counts all the same."""
    from velosweep.sweeping.task import JobError

    try:
        hydra.multirun(config_name=config_name, task_function=task, overrides=overrides)
    except JobError as error:
        if task.outcome is None:
            raise
        sys.stderr.write(f"velosweep: {error.message}\n")


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration of one job with these overrides, without running anything. Raises as `run` does."""
    args, _ = _parse(list(overrides), ())
    from hydra import version
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    version.setbase(VERSION_BASE)
    hydra = _start(args)
    try:
        return hydra.compose_config(
            config_name=args.config_name,
            overrides=list(args.overrides),
            run_mode=RunMode.RUN,
            with_log_configuration=False,
        )
    finally:
        GlobalHydra.instance().clear()
