"""`velosweep report DIR`: the console summary and report.html again, or the results for use elsewhere."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from velosweep.errors import ConfigError, ExitStatus, StorageError
from velosweep.files import write_bytes, write_text
from velosweep.results.derived_files import Derived, analyse
from velosweep.results.loading import sweeps_below
from velosweep.results.paths import SweepPaths
from velosweep.units import plural

_FORMATS = ("md", "csv", "json")
_MOST_LISTED = 20


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status. Raises StorageError where DIR is no sweep, and ConfigError."""
    arguments = _parser().parse_args(argv)
    _check_formats(arguments.format or ())
    _refuse_beside_format(arguments)
    root = arguments.directory.expanduser().absolute()
    if not _has_results(root) and (found := sweeps_below(root)):
        _refuse_for_many(arguments, found)
        return _list(found, root)
    derived = analyse(root)
    if arguments.format:
        sys.stdout.write(_exported(derived, arguments.format[0], show_paths=arguments.paths))
        return int(ExitStatus.OK)
    _show(derived, root, show_paths=arguments.paths, verbosity=arguments.verbosity)
    if arguments.plots:
        _write_plots(derived, root)
    if arguments.mlflow is not None:
        _log(derived, root, uri=arguments.mlflow or None)
    return int(ExitStatus.OK)


def _check_formats(formats: Sequence[str]) -> None:
    if len(formats) > 1:
        raise ConfigError(f"--format is given twice, as {' and as '.join(formats)}", remedy="give it once")
    for form in formats:
        if form not in _FORMATS:
            remedy = "choose md, csv or json; without --format it is the screen's text, and report.html is written"
            raise ConfigError(f"There is no format {form!r}", remedy=remedy)


def _refuse_beside_format(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for what --format, which writes nothing, would leave undone."""
    if arguments.format and (unmet := _writing(arguments)):
        raise ConfigError(f"--format only prints, and {unmet[0]} writes", remedy="run velosweep report once with each")


def _writing(arguments: argparse.Namespace) -> list[str]:
    """The flags given that write more than the page."""
    wanted = {"--plots": arguments.plots, "--mlflow": arguments.mlflow is not None}
    return [flag for flag, asked in wanted.items() if asked]


def _has_results(folder: Path) -> bool:
    paths = SweepPaths(folder)
    return any(path.exists() for path in (paths.record, paths.journal, paths.samples))


def _refuse_for_many(arguments: argparse.Namespace, found: Sequence[Path]) -> None:
    """Raise ConfigError for what is made of one sweep, and would be left undone for a folder of them."""
    if unmet := [*(["--format"] if arguments.format else []), *_writing(arguments)]:
        raise ConfigError(
            f"{arguments.directory} holds {plural(len(found), 'sweep')}, and {unmet[0]} is for one",
            remedy=f"name one of them, such as {shlex.quote(str(found[-1]))}; velosweep.load_results reads all at once",
        )


def _list(found: Sequence[Path], folder: Path) -> int:
    """Each sweep's answer in one line; the exit status."""
    from velosweep.reporting.console import make_console, say
    from velosweep.reporting.recommendation import recommend

    console = make_console()
    say(console, f"{folder} holds {plural(len(found), 'sweep')}:")
    for root in found[-_MOST_LISTED:]:
        try:
            derived = analyse(root)
            told = "; ".join(answer.headline for answer in recommend(derived.comparisons, derived.record))
        except StorageError as error:
            told = error.message
        say(console, f"{root.relative_to(folder)}: {told or 'nothing was measured'}", indent=2)
    if len(found) > _MOST_LISTED:
        say(console, f"(the last {_MOST_LISTED})", indent=2)
    say(console, f"One of them: velosweep report {shlex.quote(str(found[-1]))}", whole=True)
    return int(ExitStatus.OK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep report", description="Show a sweep's results again and write its report.html again."
    )
    parser.add_argument("directory", type=Path, help="the sweep's folder")
    parser.add_argument(
        "--format",
        metavar="{md,csv,json}",
        action="append",
        help="print the results in this form and write nothing (without it: the screen's text, and report.html)",
    )
    parser.add_argument("--paths", action="store_true", help="keep home directories; else they are shortened to ~")
    parser.add_argument("--plots", action="store_true", help="report.png and report.svg too (extra: plots)")
    parser.add_argument(
        "--mlflow",
        nargs="?",
        const="",
        metavar="URI",
        help="log each job as a run to MLflow (extra: mlflow); without URI where MLFLOW_TRACKING_URI says",
    )
    told = parser.add_mutually_exclusive_group()
    told.add_argument("-q", "--quiet", dest="verbosity", action="store_const", const=-1, default=0, help="answer only")
    told.add_argument("-v", "--verbose", dest="verbosity", action="store_const", const=1, help="every remark")
    return parser


def _exported(derived: Derived, form: str, *, show_paths: bool) -> str:
    from velosweep.reporting.export import export

    return export(derived.comparisons, derived.record, form, show_paths=show_paths)


def _show(derived: Derived, root: Path, *, show_paths: bool, verbosity: int) -> None:
    from velosweep.reporting.console import make_console, say
    from velosweep.reporting.html import render_report
    from velosweep.reporting.terminal_report import print_results

    console = make_console()
    for damage in derived.damaged:
        say(console, f"⚠️ {damage}")
    report = SweepPaths(root).report
    write_text(report, render_report(derived.comparisons, derived.record, derived.samples, show_paths=show_paths))
    print_results(
        derived.comparisons,
        derived.record,
        derived.samples,
        saved_to=str(report),
        console=console,
        verbosity=verbosity,
    )


def _write_plots(derived: Derived, root: Path) -> None:
    from velosweep.reporting.image_export import main_plots

    for form, content in main_plots(derived.comparisons, derived.record).items():
        write_bytes(SweepPaths(root).report.with_suffix(f".{form}"), content)


def _log(derived: Derived, root: Path, *, uri: str | None) -> None:
    from velosweep.reporting.console import make_console, say
    from velosweep.reporting.mlflow_export import log_to_mlflow

    paths = SweepPaths(root)
    artefacts = {job.id: [paths.job(job).summary, paths.job(job).samples, paths.report] for job in derived.record.jobs}
    try:
        ids = log_to_mlflow(derived.comparisons, derived.record, artefacts=artefacts, tracking_uri=uri)
    except Exception as error:
        # MLflow's own errors share no base with ours, and it may be missing when they are to be named.
        if not type(error).__module__.startswith("mlflow"):
            raise
        raise StorageError(f"MLflow refused: {error}", remedy="check --mlflow URI or MLFLOW_TRACKING_URI") from error
    say(make_console(), f"Logged to MLflow: {plural(len(ids), 'run')} in experiment velosweep")
