"""`velosweep compare OLD NEW`: two sweeps side by side, and which changes are real."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from velosweep.commands.sweep_folder import LAST, latest_sweeps, sweep_folder
from velosweep.errors import ConfigError, ExitStatus, MismatchError
from velosweep.files import write_text
from velosweep.reporting.console import make_console, say
from velosweep.reporting.posted_rows import own_rows, read_rows, rows_table
from velosweep.reporting.sweep_comparison import SweepComparison, print_comparison, render_comparison
from velosweep.reporting.table import print_table
from velosweep.results.derived_files import analyse
from velosweep.results.paths import COMPARISON, SweepPaths
from velosweep.statistics.sweep_changes import compare_sweeps, environment_differences
from velosweep.units import plural


def main(argv: Sequence[str]) -> int:
    """Run the command: 1 where `--fail-below` finds a job that really got slower, 3 with nothing to compare, else 0.

    Raises MismatchError for sweeps of other engines, machines or models, unless `--anyway`.
    """
    arguments = _parser().parse_args(argv)
    if arguments.fail_below is not None and not 0 < arguments.fail_below <= 1:
        raise ConfigError(f"--fail-below is {arguments.fail_below}", remedy="give a ratio up to 1, such as 0.97")
    if rows := [Path(name) for name in (arguments.old, arguments.new) if name and Path(name).is_file()]:
        return _beside_posted(
            rows, [name for name in (arguments.old, arguments.new) if name and Path(name) not in rows]
        )
    if arguments.old is None:
        old, new = latest_sweeps(2)
    else:
        old, new = sweep_folder(arguments.old), sweep_folder(arguments.new or LAST)
    if old.resolve() == new.resolve():
        raise ConfigError(
            f"{arguments.old} and {arguments.new or LAST} are one sweep",
            remedy="name two; without names velosweep compare takes the two latest",
        )
    compared = _compared(old, new, per_prompt=arguments.prompts)
    if compared.differences and not arguments.anyway:
        raise MismatchError(
            "the sweeps can't be compared: " + "; ".join(compared.differences),
            remedy="compare sweeps of one machine, engine and model files, or accept the difference with --anyway",
        )
    console = make_console()
    print_comparison(compared, console)
    if arguments.html is not None:
        page = Path(arguments.html) if arguments.html else SweepPaths(new).comparison
        write_text(page, render_comparison(compared))
        say(console, f"Page: {page}")
    slower = compared.changes.below(arguments.fail_below) if arguments.fail_below is not None else ()
    if slower:
        named = ", ".join(map(compared.label, slower))
        say(
            make_console(stderr=True), f"Slower than {arguments.fail_below}: {plural(len(slower), 'setting')} ({named})"
        )
        return int(ExitStatus.SOME_FAILED)
    return int(
        ExitStatus.OK if any(change.ratio for change in compared.changes.changes) else ExitStatus.NOTHING_MEASURED
    )


def print_reproduction(old: Path, new: Path) -> None:
    """Print what a rerun ends with: differences of the environment, and which results were reproduced."""
    print_comparison(_compared(old, new), make_console())


_SHOWN = ("from", "device", "model", "draft", "kind", "n_draft", "vanilla tok/s", "tok/s", "speedup", "95 % interval")


def _beside_posted(files: Sequence[Path], sweeps: Sequence[str]) -> int:
    """Print one's own sweep (`sweeps`, else the latest) beside rows that others posted, the largest speedup first."""
    derived = analyse(sweep_folder(sweeps[0] if sweeps else LAST))
    rows = [{**row, "from": "this sweep"} for row in own_rows(derived.comparisons, derived.record)]
    rows += [{**row, "from": file.name} for file in files for row in read_rows(file)]
    console = make_console()
    table = rows_table(sorted(rows, key=_posted_speedup, reverse=True), _SHOWN, "Own and posted results")
    print_table(table, console)
    say(console, "Posted rows are of other machines, builds and prompts: they say what others saw, not what to expect.")
    return int(ExitStatus.OK)


def _posted_speedup(row: Mapping[str, str]) -> float:
    found = re.match(r"\d+(\.\d+)?", row.get("speedup", ""))
    return float(found[0]) if found else 0.0


def _compared(old: Path, new: Path, *, per_prompt: bool = False) -> SweepComparison:
    before, after = analyse(old, speeds=True), analyse(new, speeds=True)
    return SweepComparison(
        old=str(old),
        new=str(new),
        changes=compare_sweeps(before.comparisons, after.comparisons, per_prompt=per_prompt),
        differences=environment_differences(before.record, after.record),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep compare",
        description="Compare two sweeps: the ratio new / old of each job with its 95 % interval, and "
        "which changes are real after correction for the number of jobs. Exits with 3 where there is nothing to "
        "compare.",
    )
    parser.add_argument(
        "old", nargs="?", help="the sweep to compare with (default: the latest but one), or a file of posted rows"
    )
    parser.add_argument("new", nargs="?", help="the sweep in question (default: the latest)")
    parser.add_argument(
        "--fail-below",
        type=float,
        metavar="RATIO",
        help="exit with 1 where a job really changed and its ratio is below RATIO, e.g. 0.97",
    )
    parser.add_argument(
        "--html", nargs="?", const="", metavar="FILE", help=f"write a page too (default: NEW/{COMPARISON})"
    )
    parser.add_argument("--prompts", action="store_true", help="each prompt too, not only whole jobs")
    parser.add_argument("--anyway", action="store_true", help="even if engine, machine or models differ")
    return parser
