"""Every exception of velosweep, its exit status and its remedy.

Exit statuses are part of the data contract: 0 all jobs measured, 1 some jobs failed, 2 refused before
anything ran, 3 nothing could be measured, 130 interrupted and resumable.
"""

import shlex
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path


def install_extra(extra: str) -> str:
    """The command that adds one of our extras to this Python, from the checkout if it runs from one.

    A plain `pip install velosweep[…]` would look on a package index, and perhaps with another Python's pip.
    """
    checkout = Path(__file__).resolve().parents[1]
    here = (checkout / "pyproject.toml").is_file()
    source = (
        f"-e {shlex.quote(f'{checkout}[{extra}]')}" if here else f"'velosweep-….whl[{extra}]' (the wheel it came as)"
    )
    return f"{shlex.quote(sys.executable)} -m pip install {source}"


class ExitStatus(IntEnum):
    """What the process returns to the shell."""

    OK = 0
    SOME_FAILED = 1
    REFUSED = 2
    NOTHING_MEASURED = 3
    INTERRUPTED = 130


class VelosweepError(Exception):
    """Base of all our errors: what happened, with which value; and what to do about it.

    `causes`: the errors that it joins, where it joins some (see `combine_errors`).
    """

    exit_status = ExitStatus.REFUSED

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.causes: tuple[VelosweepError, ...] = ()

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


_MOST_SHOWN = 5


def combine_errors(problems: Sequence[VelosweepError]) -> VelosweepError:
    """One error that lists all `problems` (at least one), each once, of the first one's class."""
    each = {str(cause): cause for problem in problems for cause in problem.causes or (problem,)}
    if len(each) == 1:
        return problems[0]
    lines = list(each)[:_MOST_SHOWN]
    if len(each) > _MOST_SHOWN:
        lines.append(f"and {len(each) - _MOST_SHOWN} more")
    joined = type(problems[0])(f"{len(each)} things are wrong:" + "".join(f"\n  - {line}" for line in lines))
    joined.causes = tuple(each.values())
    return joined


class ConfigError(VelosweepError):
    """A configuration that can't be run: unknown key, value out of range, empty grid."""


class ModelFileError(VelosweepError):
    """A model file that is missing, unreadable, no GGUF or cut short."""


class NotALanguageModelError(ModelFileError):
    """A sound GGUF file that holds something else: an adapter, a projector, a vocabulary, a later part of a model."""


class PairError(VelosweepError):
    """A draft model that doesn't fit its main model; `why` says it in a clause."""

    def __init__(self, message: str, *, remedy: str | None = None, why: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.why = why or message


class ProgramError(VelosweepError):
    """llama.cpp's program is missing or can't do what a job asks."""


class PromptError(VelosweepError):
    """A prompt set that can't be read or is empty."""


class StorageError(VelosweepError):
    """A results folder that can't be read, written or trusted."""


class SchemaError(StorageError):
    """A file of a newer schema than this program knows."""


class BusyError(VelosweepError):
    """The device or the sweep folder is in use by another sweep."""


class MismatchError(VelosweepError):
    """Two things that should be alike are not: a resumed environment, or two sweeps to compare."""


class LaunchFailed(VelosweepError):
    """A server did not come up. Recorded in the jobs that need it; the others go on.

    `crashed`: a signal ended it, so that another try may succeed; what llama.cpp refuses once it refuses again.
    """

    exit_status = ExitStatus.SOME_FAILED

    def __init__(self, message: str, *, remedy: str | None = None, crashed: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.crashed = crashed


class RunFailed(VelosweepError):
    """One run failed: recorded as a sample with status `failed`; never ends a sweep."""

    exit_status = ExitStatus.SOME_FAILED


class RequestRefused(RunFailed):
    """The server can't or won't answer this request, now or later; it may answer others."""


class RunTimeout(RunFailed):
    """One run did not end in its time: recorded as a sample with status `timeout`."""


class Interrupted(VelosweepError):
    """The person (or the system) asked us to stop; everything measured is on disk."""

    exit_status = ExitStatus.INTERRUPTED


class SweepBroken(VelosweepError):
    """A sweep that could not go on, such as on a full disk; what was measured before is on disk."""

    exit_status = ExitStatus.SOME_FAILED


class OutputFailed(VelosweepError):
    """What a command printed could not be written, such as to a full disk."""

    exit_status = ExitStatus.SOME_FAILED


class NothingMeasured(VelosweepError):
    """Every job failed."""

    exit_status = ExitStatus.NOTHING_MEASURED
