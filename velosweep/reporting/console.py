"""Printing for people: a rich console, plain where there is no terminal, that prints control sequences as text; and
output streams that may be closed while a sweep runs (`velosweep … | head`)."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TextIO

from velosweep.errors import OutputFailed
from velosweep.reporting.escaping import clip, replace_with_look_alikes, terminal_text

if TYPE_CHECKING:
    from rich.console import Console
    from typing_extensions import Buffer

# RunSettings.verbosity; silent: the live display and failures, where a command of ours tells the results.
SILENT, QUIET, NORMAL, VERBOSE = -2, -1, 0, 1
NARROWEST, USUAL_WIDTH = 20, 80  # of a terminal, in columns
PLAIN_WIDTH = 100  # without a terminal nobody wraps; plots and tables still need a width


def make_console(file: IO[str] | None = None, *, stderr: bool = False) -> "Console":
    """A console on `file` (default stdout): colour, bold and dim where there is a terminal and no NO_COLOR."""
    from rich.console import Console

    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(file=file, stderr=stderr, highlight=False, markup=False, emoji=False, color_system=colours)
    if console.width < NARROWEST:  # COLUMNS=0, as some shells and CI export it
        console.width = USUAL_WIDTH
    return console


def width_of(console: "Console") -> int:
    """Columns to lay tables and plots out for."""
    return int(console.width) if console.is_terminal else PLAIN_WIDTH


def say(console: "Console", text: str = "", *, style: str | None = None, indent: int = 0, whole: bool = False) -> None:
    """Print one line, wrapped at words (continuations indented) on a terminal and left whole elsewhere.

    `whole`: leave the wrapping to the terminal, so that a command copied from it is one line.
    """
    from rich.padding import Padding
    from rich.text import Text

    body = terminal_text(text)
    with _output_errors():
        if whole or not console.is_terminal:
            console.print(Text(" " * indent + body, style=style or ""), soft_wrap=True)
        else:
            console.print(Padding(Text(body, style=style or "", overflow="fold"), (0, 0, 0, indent)))


def say_lines(console: "Console", lines: Iterable[str]) -> None:
    """Print lines that are already laid out: cut at the terminal's edge instead of wrapped."""
    from rich.text import Text

    for line in lines:
        body = terminal_text(line)
        with _output_errors():
            console.print(Text(clip(body, width_of(console)) if console.is_terminal else body), soft_wrap=True)


@contextmanager
def _output_errors() -> Iterator[None]:
    """Turn a full disk under the output into OutputFailed: around Hydra such an error is taken for one of its files."""
    try:
        yield
    except OSError as error:
        if (failed := output_failed(error)) is None:
            raise
        raise failed from error


def output_failed(error: OSError) -> OutputFailed | None:
    """What to say of output that can't be written, such as to a full disk; None for other errors."""
    if error.errno not in _FULL or error.filename is not None:
        return None
    return OutputFailed(f"The output can't be written: {error.strerror}")


def height(console: "Console", text: str, *, whole: bool) -> int:
    """How many lines of the screen `say` takes for this text."""
    from rich.cells import cell_len
    from rich.text import Text

    if not console.is_terminal:
        return 1
    width = int(console.width)
    return max(-(-cell_len(text) // width), 1) if whole else len(Text(text).wrap(console, width))


def near(path: Path) -> str:
    """The path as it is typed here: without the current folder, where it lies in that."""
    with suppress(OSError, ValueError):  # the current folder may be gone
        return str(path.relative_to(Path.cwd()))
    return str(path)


def shown_on_stderr() -> bool:
    """Whether who reads stderr has read what was printed: on a terminal, and where `2>&1` makes the two one."""
    with suppress(OSError, ValueError):  # an output that is no file
        return sys.stdout.isatty() or os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    return False


def tell_on_stderr(why: str | None, further: str = "") -> None:
    """Why the exit status is not 0, for who reads stderr alone: the results on stdout say it, too."""
    if why is not None and not shown_on_stderr():
        sys.stderr.write(f"velosweep: {terminal_text(why)}{further}\n")


_LOOK_ALIKES = "velosweep-look-alikes"


def repair_output() -> None:
    """Make stdout and stderr fit to be written to, whatever their encoding, and where they were closed.

    A closed descriptor leads to the null device from now on: the next file opened would else take its place, and get
    whatever is printed.
    """
    codecs.register_error(_LOOK_ALIKES, replace_with_look_alikes)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_LOOK_ALIKES)


_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # a disk, a file's size, a quota
_CLOSED = (errno.EPIPE, errno.EIO, *_FULL)  # also a pipe without a reader, a terminal that was closed


def ignore_closed_output() -> None:
    """From now on, output that nobody can read any more is dropped; the loss of stdout is reported once, on stderr.

    Here and not where something is printed: rich ends the process at a broken pipe, logging prints a traceback,
    and Python itself complains when it flushes at exit. Streams that are no files of this process are left alone.
    """

    def report_closed(reason: str) -> None:
        sys.stderr.write(f"velosweep: the screen can't be written any more ({reason}); the sweep goes on without it\n")

    sys.stdout = _outliving(sys.stdout, report_closed)
    sys.stderr = _outliving(sys.stderr, lambda reason: None)


def _outliving(stream: TextIO, on_closed: Callable[[str], None]) -> TextIO:
    raw = getattr(getattr(stream, "buffer", None), "raw", getattr(stream, "buffer", None))
    if not isinstance(stream, io.TextIOWrapper) or type(raw) is not io.FileIO:
        return stream
    file = _OutlivingFile(raw.fileno(), on_closed)
    with suppress(OSError):  # a loss here shows again at the next line
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _OutlivingFile(io.FileIO):
    """A file descriptor that leads to the null device once its reader is gone."""

    def __init__(self, descriptor: int, on_closed: Callable[[str], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._on_closed = on_closed

    def write(self, data: "Buffer", /) -> int:
        """Bytes written, or dropped. Raises OSError for other causes."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # servers that inherited it may go on too
            os.close(null)
            self._on_closed(error.strerror or "it was closed")
            return memoryview(data).nbytes
