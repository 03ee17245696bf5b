"""What commands about a sweep's folder share: the folder, as it was named or `last`, and how much is said."""

import argparse
import difflib
from pathlib import Path

from velosweep.config.keys import expanded
from velosweep.errors import StorageError
from velosweep.results.loading import sweeps_by_age

LAST = "last"


def add_sweep_folder(parser: argparse.ArgumentParser, *, default: bool = False) -> None:
    """The argument `directory`. `default`: without it, it is `last`."""
    how = {"nargs": "?", "default": LAST} if default else {}
    parser.add_argument(
        "directory",
        type=sweep_folder,
        metavar="DIR",
        help="the sweep's folder, or `last`" + (" (the default)" if default else ""),
        **how,  # type: ignore[arg-type]
    )


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """-q and -v, as the argument `verbosity`: -1, 1, or None where neither is given."""
    level = parser.add_mutually_exclusive_group()
    level.add_argument("-q", "--quiet", dest="verbosity", action="store_const", const=-1, help="results only")
    level.add_argument("-v", "--verbose", dest="verbosity", action="store_const", const=1, help="every remark, too")


def sweep_folder(text: str) -> Path:
    """The absolute path of the folder; `last` is the latest sweep unless a folder of this name is there.

    Raises StorageError for what is neither and near to `last`, or where no sweep is found.
    """
    path = expanded(text)
    if text != LAST and not path.exists() and (difflib.get_close_matches(text, [LAST]) or text == "latest"):
        raise StorageError(f"No results at {path}: no such folder", remedy=f"did you mean {LAST}, the latest sweep?")
    return latest_sweeps(1)[0] if text == LAST and not path.is_dir() else path.absolute()


def latest_sweeps(count: int) -> list[Path]:
    """The `count` sweeps below outputs/ and the current folder that were measured last, earlier ones first.

    Raises StorageError where there are fewer.
    """
    here = Path.cwd()
    found = sweeps_by_age(here)
    if len(found) < count:
        there = f"only {found[0]}" if found else "none"
        raise StorageError(
            f"`{LAST}` means the latest sweep in {here / 'outputs'}, and there is {there}",
            remedy="change to the folder where you measured, or name the sweep's folder",
        )
    return found[-count:]
