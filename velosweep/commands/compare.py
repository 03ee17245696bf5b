"""`velosweep compare OLD NEW`: two sweeps side by side, and which changes are real."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from velosweep.errors import ConfigError, ExitStatus, MismatchError
from velosweep.files import write_text
from velosweep.reporting.comparison import ChangeRow, ComparisonShown, RatioShown, print_comparison, render_comparison
from velosweep.reporting.screen import make_console, say
from velosweep.reporting.wording import job_labels, listed
from velosweep.results.derived_files import analyse
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.statistics.intervals import Interval
from velosweep.statistics.sweep_changes import (
    Change,
    EnvironmentDifference,
    SweepChanges,
    compare_sweeps,
    environment_differences,
)
from velosweep.units import plural

PAGE = "comparison.html"


def main(argv: Sequence[str]) -> int:
    """Run the command: 1 where `--fail-below` finds a job that really got slower, 3 with nothing to compare, else 0.

    Raises MismatchError for sweeps of other engines, machines or models, unless `--anyway`.
    """
    arguments = _parser().parse_args(argv)
    if arguments.fail_below is not None and not 0 < arguments.fail_below <= 1:
        raise ConfigError(f"--fail-below is {arguments.fail_below}", remedy="name a ratio of 1 at most, such as 0.97")
    if _root(arguments.old).resolve() == _root(arguments.new).resolve():
        raise ConfigError(f"{arguments.old} and {arguments.new} are one sweep", remedy="name two")
    old, new = analyse(_root(arguments.old)), analyse(_root(arguments.new))
    unlike = environment_differences(old.record, new.record)
    if unlike and not arguments.anyway:
        raise MismatchError(
            "the sweeps can't be held against each other: " + "; ".join(_said(one) for one in unlike),
            remedy="compare sweeps of one machine, engine and model files, or accept the difference with --anyway",
        )
    changes = compare_sweeps(old.comparisons, new.comparisons, per_prompt=arguments.prompts)
    shown = _shown(changes, unlike, old=str(arguments.old), new=str(arguments.new))
    console = make_console()
    print_comparison(shown, console)
    if arguments.html is not None:
        page = Path(arguments.html) if arguments.html else _root(arguments.new) / PAGE
        write_text(page, render_comparison(shown))
        say(console, f"Page: {page}")
    slower = changes.below(arguments.fail_below) if arguments.fail_below is not None else ()
    if slower:
        labels = _labels(changes)
        named = ", ".join(labels[change.new.job_id] for change in slower)
        say(make_console(stderr=True), f"Slower than {arguments.fail_below}: {plural(len(slower), 'job')} ({named})")
        return int(ExitStatus.SOME_FAILED)
    return int(ExitStatus.OK if any(row.ratio for row in shown.rows) else ExitStatus.NOTHING_MEASURED)


def print_reproduction(old: Path, new: Path) -> None:
    """What a rerun shows at its end: what differs in the environment, and which results came out again."""
    before, after = analyse(old), analyse(new)
    changes = compare_sweeps(before.comparisons, after.comparisons)
    shown = _shown(changes, environment_differences(before.record, after.record), old=str(old), new=str(new))
    print_comparison(shown, make_console())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep compare",
        description="Hold two sweeps against each other: the ratio new / old of each job with its 95 % interval, and "
        "which changes are real after correction for the number of jobs. Exits with 3 where there is nothing to "
        "compare.",
    )
    parser.add_argument("old", type=Path, help="the sweep to compare with")
    parser.add_argument("new", type=Path, help="the sweep in question")
    parser.add_argument(
        "--fail-below",
        type=float,
        metavar="RATIO",
        help="exit with 1 where a job really changed and its ratio is below RATIO, e.g. 0.97",
    )
    parser.add_argument("--html", nargs="?", const="", metavar="FILE", help=f"write a page too (default: NEW/{PAGE})")
    parser.add_argument("--prompts", action="store_true", help="each prompt too, not only whole jobs")
    parser.add_argument("--anyway", action="store_true", help="though engine, machine or model files differ")
    return parser


def _root(directory: Path) -> Path:
    return directory.expanduser().absolute()


def _said(unlike: EnvironmentDifference) -> str:
    return f"{unlike.what} was {unlike.old or 'unknown'}, is {unlike.new or 'unknown'}"


def _shown(changes: SweepChanges, unlike: Sequence[EnvironmentDifference], *, old: str, new: str) -> ComparisonShown:
    labels = _labels(changes)
    before = job_labels([*(change.old for change in changes.changes), *changes.only_old])
    return ComparisonShown(
        old=old,
        new=new,
        rows=tuple(_row(change, _label(change.new, labels)) for change in changes.changes),
        unlike=tuple((one.what, one.old, one.new) for one in unlike),
        only_old=tuple(_label(row, before) for row in changes.only_old),
        only_new=tuple(_label(row, labels) for row in changes.only_new),
        apart=_apart(changes.only_old, changes.only_new) if not changes.changes else (),
    )


def _apart(old: Sequence[Comparison], new: Sequence[Comparison]) -> tuple[tuple[str, str, str], ...]:
    """The settings by which jobs are matched that have no value in common, as (what, old, new)."""
    parts: tuple[tuple[str, Callable[[Comparison], str]], ...] = (
        ("main model", lambda row: Path(row.main_model).name),
        ("draft model", lambda row: Path(row.draft_model or "none").name),
        ("speculation", lambda row: row.speculation),
        ("n_draft", lambda row: str(row.n_draft)),
        ("n_predict", lambda row: str(row.n_predict)),
        ("prompts", lambda row: row.prompt_set),
    )
    found = []
    for what, value_of in parts:
        before, after = (list(dict.fromkeys(map(value_of, rows))) for rows in (old, new))
        if before and after and not set(before) & set(after):
            found.append((what, listed(before), listed(after)))
    return tuple(found)


def _labels(changes: SweepChanges) -> dict[str, str]:
    return job_labels([*(change.new for change in changes.changes), *changes.only_new])


def _label(row: Comparison, labels: Mapping[str, str]) -> str:
    return labels[row.job_id] if row.prompt_id is None else f"{labels[row.job_id]} · {row.prompt_id}"


def _row(change: Change, label: str) -> ChangeRow:
    return ChangeRow(
        label=label,
        old_speed=_speed(change.old.speculative or change.old.vanilla),
        new_speed=_speed(change.new.speculative or change.new.vanilla),
        ratio=_ratio(change.ratio),
        vanilla_ratio=_ratio(change.vanilla_ratio),
        speedup_ratio=_ratio(change.speedup_ratio),
        old_speedup=change.old.speedup_gm,
        new_speedup=change.new.speedup_gm,
        real=change.real,
        reproduced=change.reproduced,
    )


def _speed(mode: ModeStatistics | None) -> float | None:
    return None if mode is None else mode.tokens_per_second.mean


def _ratio(interval: Interval | None) -> RatioShown | None:
    return None if interval is None else RatioShown(value=interval.ratio, low=interval.low, high=interval.high)
