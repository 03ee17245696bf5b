"""`velosweep report DIR`: the console summary and report.html again, or the results for use elsewhere."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from velosweep.commands.sweep_folder import add_sweep_folder, add_verbosity
from velosweep.errors import ConfigError, ExitStatus, StorageError
from velosweep.results.derived_files import SweepResults, analyse
from velosweep.results.loading import sweeps_below
from velosweep.results.paths import SweepPaths
from velosweep.units import plural

_MOST_LISTED = 20


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status. Raises StorageError where DIR is no sweep, and ConfigError."""
    arguments = _parser().parse_args(argv)
    formats = arguments.format or []
    asked = {"--plots": arguments.plots, "--mlflow": arguments.mlflow is not None}
    writing = [flag for flag in asked if asked[flag]]
    _check_formats(formats, writing)
    root = arguments.directory
    paths = SweepPaths(root)
    has_results = any(path.exists() for path in (paths.record, paths.journal, paths.samples))
    if not has_results and (found := sweeps_below(root)):
        if for_one := [*(["--format"] if formats else []), *writing]:
            raise ConfigError(
                f"{arguments.directory} holds {plural(len(found), 'sweep')}, and {for_one[0]} is for one",
                remedy=f"name one of them, such as {shlex.quote(str(found[-1]))}; "
                "velosweep.load_results reads all at once",
            )
        _list(found, root)
    elif formats:
        from velosweep.reporting.export import export

        derived = analyse(root)
        rows, record, samples = derived.comparisons, derived.record, derived.samples
        sys.stdout.write(export(rows, record, formats[0], samples=samples, show_paths=arguments.paths))
    else:
        _show(analyse(root), arguments)
    return int(ExitStatus.OK)


def _check_formats(formats: Sequence[str], writing: Sequence[str]) -> None:
    """Raise ConfigError for an unknown format, and for flags that have no effect with --format."""
    from velosweep.reporting.export import FORMATS

    if len(formats) > 1:
        raise ConfigError(f"--format is given twice, as {' and as '.join(formats)}", remedy="give it once")
    if formats and formats[0] not in FORMATS:
        *others, last = FORMATS
        choices = f"choose {', '.join(others)} or {last}"
        remedy = f"{choices}; without --format it is the screen's text, and report.html is written"
        raise ConfigError(f"There is no format {formats[0]!r}", remedy=remedy)
    if formats and writing:
        raise ConfigError(
            f"--format only prints, and {writing[0]} writes", remedy="run velosweep report once with each"
        )


def _list(found: Sequence[Path], folder: Path) -> None:
    """Print each sweep's answer in one line."""
    from velosweep.reporting.console import make_console, say
    from velosweep.reporting.recommendation import recommend

    console = make_console()
    say(console, f"{folder} holds {plural(len(found), 'sweep')}:")
    for root in found[-_MOST_LISTED:]:
        try:
            derived = analyse(root)
            answer = "; ".join(answer.headline for answer in recommend(derived.comparisons, derived.record))
        except StorageError as error:
            answer = error.message
        say(console, f"{root.relative_to(folder)}: {answer or 'nothing was measured'}", indent=2)
    if len(found) > _MOST_LISTED:
        say(console, f"(the last {_MOST_LISTED})", indent=2)
    say(console, f"One of them: velosweep report {shlex.quote(str(found[-1]))}", whole=True)


def _show(derived: SweepResults, arguments: argparse.Namespace) -> None:
    """Print the results and write what the flags ask for. Raises StorageError for what MLflow refuses."""
    from velosweep.reporting.collation import write_plots, write_report
    from velosweep.reporting.console import make_console, say
    from velosweep.reporting.mlflow_export import log_to_mlflow
    from velosweep.reporting.terminal_report import print_results

    console = make_console()
    for damage in derived.damaged:
        say(console, f"⚠️ {damage}")
    try:
        write_report(derived, show_paths=arguments.paths)
    except StorageError as error:  # what is there can be shown all the same
        say(console, f"⚠️ report.html is not written anew: {error}")
    print_results(derived, console=console, verbosity=arguments.verbosity or 0, ended=False)
    if arguments.plots:
        write_plots(derived)
    if arguments.mlflow is None:
        return
    paths, uri = SweepPaths(derived.root), arguments.mlflow or None
    artefacts = {job.id: [paths.job(job).summary, paths.job(job).samples, paths.report] for job in derived.record.jobs}
    try:
        logged = log_to_mlflow(derived.comparisons, derived.record, artefacts=artefacts, tracking_uri=uri)
    except ImportError as error:  # `mlflow-skinny` comes without what its databases need
        raise StorageError(
            f"MLflow needs the package {error.name} for this store", remedy="install it, or name another: --mlflow URI"
        ) from error
    except Exception as error:
        # MLflow may not be installed, so its exception classes can't be named here.
        if not type(error).__module__.startswith("mlflow"):
            raise
        raise StorageError(f"MLflow refused: {error}", remedy="check --mlflow URI or MLFLOW_TRACKING_URI") from error
    say(console, f"Logged to MLflow: {plural(len(logged), 'run')} in experiment velosweep")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep report", description="Show a sweep's results again and write its report.html again."
    )
    add_sweep_folder(parser, default=True)
    parser.add_argument(
        "--format",
        metavar="FORM",
        action="append",
        help="print only, no files: the results as md, csv or json; the best one as a row to post; the answer as a "
        "command, a llama-server preset or a llama-swap entry (without it: the screen's text, and report.html)",
    )
    parser.add_argument(
        "--paths", action="store_true", help="keep home directories and, in report.html, the host's name"
    )
    parser.add_argument("--plots", action="store_true", help="report.png and report.svg too (extra: plots)")
    parser.add_argument(
        "--mlflow",
        nargs="?",
        const="",
        metavar="URI",
        help="log each job as a run to MLflow (extra: mlflow); without URI: at MLFLOW_TRACKING_URI",
    )
    add_verbosity(parser)
    return parser
