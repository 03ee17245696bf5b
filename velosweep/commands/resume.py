"""`velosweep resume DIR`: finish an interrupted sweep; what was measured stays."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from velosweep.commands.saved_sweep import saved_sweep
from velosweep.reporting.console import outlive_readers
from velosweep.sweep import run_sweep


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="velosweep resume", description="Finish an interrupted sweep.")
    parser.add_argument("directory", type=Path, help="the sweep's folder")
    parser.add_argument("--force", action="store_true", help="go on though models, program or machine have changed")
    parser.add_argument("-q", "--quiet", action="store_true", help="results only")
    parser.add_argument("-v", "--verbose", action="store_true", help="also what servers are started with")
    arguments = parser.parse_args(argv)
    saved = saved_sweep(arguments.directory)
    verbosity = -1 if arguments.quiet else 1 if arguments.verbose else saved.settings.verbosity
    outlive_readers()
    outcome = run_sweep(
        saved.jobs,
        root=saved.root,
        single=saved.record.single,
        command=saved.record.command,
        settings=replace(
            saved.settings,
            dry_run=False,
            force=arguments.force,
            verbosity=verbosity,
            tuner=saved.record.tuner,
        ),
    )
    return int(outcome.exit_status)
