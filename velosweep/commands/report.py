"""`velosweep report DIR`: the console summary and report.html again, or the results for pasting elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from velosweep.errors import ExitStatus
from velosweep.pipeline import Derived, analyse
from velosweep.storage.atomic import write_text
from velosweep.storage.paths import SweepPaths


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status. Raises StorageError where DIR is no sweep."""
    arguments = _parser().parse_args(argv)
    derived = analyse(arguments.directory)
    if arguments.format:
        sys.stdout.write(_exported(derived, arguments.format, show_paths=arguments.paths))
        return int(ExitStatus.OK)
    _show(derived, arguments.directory, show_paths=arguments.paths, verbosity=arguments.verbosity)
    return int(ExitStatus.OK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep report", description="Show a sweep's results again and write its report.html again."
    )
    parser.add_argument("directory", type=Path, help="the sweep's folder")
    parser.add_argument(
        "--format", choices=("md", "csv", "json"), help="print the results in this form and write nothing"
    )
    parser.add_argument("--paths", action="store_true", help="keep home directories; else they are shortened to ~")
    told = parser.add_mutually_exclusive_group()
    told.add_argument("-q", "--quiet", dest="verbosity", action="store_const", const=-1, default=0, help="answer only")
    told.add_argument("-v", "--verbose", dest="verbosity", action="store_const", const=1, help="every remark")
    return parser


def _exported(derived: Derived, form: str, *, show_paths: bool) -> str:
    from velosweep.reporting.answer import answers
    from velosweep.reporting.export import export

    answered = answers(derived.comparisons, derived.record)
    return export(derived.comparisons, answered, form, show_paths=show_paths)


def _show(derived: Derived, root: Path, *, show_paths: bool, verbosity: int) -> None:
    from velosweep.reporting.console import make_console, print_outcome, say
    from velosweep.reporting.html import render_report

    console = make_console()
    for damage in derived.damaged:
        say(console, f"⚠️ {damage}")
    report = SweepPaths(root).report
    write_text(report, render_report(derived.comparisons, derived.record, derived.samples, show_paths=show_paths))
    print_outcome(
        derived.comparisons,
        derived.record,
        derived.samples,
        saved_to=str(report),
        console=console,
        verbosity=verbosity,
    )
