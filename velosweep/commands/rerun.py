"""`velosweep rerun DIR`: the same experiment in a new folder, compared with the old results."""

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from velosweep.commands.compare import print_reproduction
from velosweep.commands.resume import saved_sweep
from velosweep.commands.sweep_folder import add_sweep_folder, add_verbosity
from velosweep.config.command_words import read_words
from velosweep.config.load import copy_saved
from velosweep.errors import ConfigError, StorageError
from velosweep.hydra_app.refused_folders import undone_if_refused
from velosweep.reporting.console import ignore_closed_output
from velosweep.sweep import run_sweep


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status of the new sweep."""
    parser = argparse.ArgumentParser(prog="velosweep rerun", description="Repeat a sweep and compare.")
    add_sweep_folder(parser)
    parser.add_argument("overrides", nargs="*", help="key=value, set for every job")
    parser.add_argument("--out", type=Path, help="the new folder; by default outputs/<date>/<time>")
    add_verbosity(parser)
    arguments = parser.parse_args(argv)
    overrides = read_words(arguments.overrides)
    if any(override.lstrip("+~").startswith("hydra") for override in overrides):
        raise ConfigError("rerun takes none of Hydra's own keys", remedy="name the new folder with --out")
    if overrides:  # a key that the sweep varies can't have one value: all jobs would be the same one
        lines = dict.fromkeys(line for job in saved_sweep(arguments.directory).jobs for line in job.overrides)
        given = [line.lstrip("+").partition("=")[::2] for line in lines]
        for key in (override.partition("=")[0].lstrip("+") for override in overrides):
            values = [value for other, value in given if other == key]
            if len(values) > 1:
                raise ConfigError(
                    f"This sweep varies {key} ({', '.join(values[:8])}{', …' if len(values) > 8 else ''})",
                    remedy=f"leave {key}= out; for other values of it measure a new sweep: velosweep -m {key}=…",
                )
    old = saved_sweep(arguments.directory, overrides=overrides, verbosity=arguments.verbosity)
    new = Path("outputs") / datetime.now().astimezone().strftime("%Y-%m-%d/%H-%M-%S")  # as Hydra would name it
    root = (arguments.out or new).absolute()
    if root.exists() and any(root.iterdir()):
        raise StorageError(f"{root} is not empty", remedy="name a new folder with --out")
    measures = not old.settings.dry_run
    ignore_closed_output()
    command = ("velosweep", "rerun", *argv)
    with undone_if_refused(root):
        for job in old.jobs if measures else ():  # so that the new sweep can be resumed and rerun, too
            copy_saved(old.root / job.directory, root / job.directory, overrides)
        outcome = run_sweep(old.jobs, root=root, single=old.record.single, command=command, settings=old.settings)
    if measures:
        print_reproduction(old.root, root)
    return outcome.exit_status
