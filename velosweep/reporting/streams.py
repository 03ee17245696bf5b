"""A screen that may go away: `velosweep … | head`, a terminal that is closed. A night of measuring outlives it."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_GONE = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a terminal that was closed


def outlive_readers() -> None:
    """From now on what nobody can read any more is dropped; that stdout's reader went is said once, on stderr.

    Here and not where something is printed: rich ends the process at a broken pipe, logging prints a traceback,
    and Python itself complains when it flushes at exit. Streams that are no files of this process are left alone.
    """
    sys.stdout = _outliving(sys.stdout, _say_gone)
    sys.stderr = _outliving(sys.stderr, lambda reason: None)


def _say_gone(reason: str) -> None:
    sys.stderr.write(f"velosweep: nobody reads the screen any more ({reason}); the sweep goes on without it\n")


def _outliving(stream: TextIO, on_gone: Callable[[str], None]) -> TextIO:
    raw = getattr(getattr(stream, "buffer", None), "raw", getattr(stream, "buffer", None))
    if not isinstance(stream, io.TextIOWrapper) or type(raw) is not io.FileIO:
        return stream
    file = _Outliving(raw.fileno(), on_gone)
    with suppress(OSError):  # what is lost here is noticed again at the next line
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Outliving(io.FileIO):
    """A file descriptor that leads nowhere once its reader is gone."""

    def __init__(self, descriptor: int, on_gone: Callable[[str], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._on_gone = on_gone

    def write(self, data: Buffer, /) -> int:
        """Bytes written, or dropped. Raises OSError for what isn't a reader that went, such as a full disk."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # servers that inherited it may go on too
            os.close(nowhere)
            self._on_gone(error.strerror or "it was closed")
            return memoryview(data).nbytes
