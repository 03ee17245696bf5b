"""`velosweep collate DIR`: rebuild every derived file of a sweep from its recorded samples."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from velosweep.commands.sweep_folder import add_sweep_folder
from velosweep.errors import ExitStatus, StorageError
from velosweep.reporting.collation import collate
from velosweep.reporting.console import make_console, say
from velosweep.results.journal import sweep_lock
from velosweep.results.paths import SweepPaths
from velosweep.units import plural


def main(argv: Sequence[str]) -> int:
    """Run the command: 0 where all was readable, 1 where samples were damaged (the rest is collated)."""
    parser = argparse.ArgumentParser(
        prog="velosweep collate",
        description="Rebuild every derived file of a sweep from its recorded samples, to the same bytes.",
    )
    add_sweep_folder(parser, default=True)
    root: Path = parser.parse_args(argv).directory
    if not root.is_dir():
        raise StorageError(f"No folder {root}", remedy="name the folder of a sweep")
    with sweep_lock(SweepPaths(root).lock):
        derived = collate(root)
    errors = make_console(stderr=True)
    for damage in derived.damaged:
        say(errors, f"Lost: {damage}")
    jobs = sum(row.prompt_id is None for row in derived.comparisons)
    say(make_console(), f"{plural(derived.sample_count, 'sample')} of {plural(jobs, 'job')} collated in {root}")
    return int(ExitStatus.SOME_FAILED if derived.damaged else ExitStatus.OK)
