"""Files that are whole or not there: written beside, then moved."""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from velosweep.errors import StorageError

_ELSEWHERE = (
    "for a new sweep set hydra.run.dir (with -m hydra.sweep.dir) to a folder of yours, for an old one use a copy of it"
)
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EFBIG: "raise the file size limit (`ulimit -f`)",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"you may not write there; {_ELSEWHERE}",
    errno.EPERM: f"you may not write there; {_ELSEWHERE}",
    errno.EEXIST: "a file stands where a folder is needed; move it away",
    errno.ENOTDIR: "a file stands where a folder is needed; move it away",
    errno.ENXIO: "nobody reads from it; name a file",
    errno.EIO: "the disk reports an error; check it before you trust the folder",
}


def user_cache() -> Path:
    """The user's cache folder of velosweep. Raises StorageError where there is no home folder to hold one."""
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("velosweep", appauthor=False))
    except (RuntimeError, KeyError) as error:  # no HOME, and a user id without an entry
        raise StorageError(
            "There is no home folder to keep a cache in", remedy="set HOME or XDG_CACHE_HOME to a folder of yours"
        ) from error


def storage_error(path: Path, error: OSError, *, doing: str = "write") -> StorageError:
    """`error` in words, with what to do about it."""
    code = error.errno or 0
    reason = os.strerror(code) if code else str(error)
    unreadable = doing == "read" and code in (errno.EACCES, errno.EPERM)
    remedy = "change its permissions, or use a copy that you may read" if unreadable else _REMEDIES.get(code)
    return StorageError(f"Can't {doing} {path}: {reason}", remedy=remedy)


@contextmanager
def as_storage_error(path: Path, *, doing: str = "write") -> Iterator[None]:
    """Turn the operating system's refusals inside into StorageError."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, doing=doing) from error


def make_folder(path: Path) -> None:
    """Create `path` and its parents with the user's umask. Raises StorageError."""
    if os.path.isdir(path):  # noqa: PTH112 (a third of the time, and there is one a job)
        return
    with as_storage_error(path, doing="create the folder"):
        path.mkdir(parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make names in `path` durable, where the system can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders; renames there are durable by its own rules
        return
    try:
        # Some network file systems refuse to sync a folder: the file itself is safe, only its name is at risk.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to; when the block ends well it becomes `path`, else nothing changes.

    `durable`: fsync file and folder before returning. Without it a power cut may cost the file, never
    truncate it under its name; for files that can be derived again.
    A device or a pipe, such as /dev/stdout, is written to and stays what it is. Raises StorageError.
    """
    if _is_device(path):
        with _into_device(path) as beside:
            yield beside
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with as_storage_error(path):
            yield beside
            if durable:
                with beside.open("rb+") as file:
                    os.fsync(file.fileno())
            os.replace(beside, path)  # noqa: PTH105 (Path.replace makes a path that nobody uses)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def _is_device(path: Path) -> bool:
    """Whether `path` is, or leads to, a device, a pipe or a socket."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


@contextmanager
def _into_device(path: Path) -> Iterator[Path]:
    """A path to write to, whose content then goes to the device; a pipe that nobody reads is not waited for."""
    with tempfile.TemporaryDirectory(prefix="velosweep-") as folder, as_storage_error(path):
        yield Path(folder, "content")
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            write_all(handle, Path(folder, "content").read_bytes())
        finally:
            os.close(handle)


def write_bytes(path: Path, content: bytes | memoryview, *, durable: bool = True) -> None:
    """Put `content` at `path`, whole or not at all. Raises StorageError.

    Without `durable` (see `replacing`) a file with this content is left alone: creating one costs more than reading.
    """
    if not durable and _holds(path, content):
        return
    with replacing(path, durable=durable) as beside:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
        try:
            write_all(handle, content)
        finally:
            os.close(handle)


def _holds(path: Path, content: bytes | memoryview) -> bool:
    """Whether a regular file is there with this content."""
    try:
        if not stat.S_ISREG((there := path.lstat()).st_mode) or there.st_size != len(content):
            return False
        return path.read_bytes() == bytes(content)
    except OSError:  # what is wrong with it shows when it is replaced
        return False


def write_text(path: Path, content: str, *, durable: bool = True) -> None:
    """Put `content` at `path` as UTF-8, whole or not at all. Raises StorageError."""
    write_bytes(path, content.encode("utf-8"), durable=durable)


def read_bytes(path: Path) -> bytes:
    """What is in a file. Raises StorageError."""
    with as_storage_error(path, doing="read"):
        return path.read_bytes()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_all(handle: int, content: bytes | memoryview) -> None:
    """Write everything; one system call unless the system takes less. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
