"""Hydra writes a sweep's configuration before its jobs are checked: what of it is undone where they are refused."""

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from velosweep.config.hydra_errors import translate
from velosweep.errors import ExitStatus
from velosweep.files import storage_error

_HYDRAS_FILES = ("multirun.yaml", "config.yaml", "hydra.yaml", "overrides.yaml")


@contextmanager
def undone_if_refused(root: Path) -> Iterator[None]:
    """Leave the sweep's folder `root` as it was where what is run inside is refused, or has no room there, in words.

    A single job's own configuration stays in any case: that of a resumed job is the same but for how it is run.
    """
    there = _content(root) if root.is_dir() else None
    own = {file: file.read_bytes() for file in root.glob(".hydra/*.yaml")}
    earlier = {file: file.read_bytes() for file in root.glob("multirun.yaml")}
    try:
        with _files_named(root):
            yield
    except Exception as error:
        if getattr(translate(error), "exit_status", None) == ExitStatus.REFUSED:
            own |= earlier
            remove_unmeasured(root, there)
        raise
    finally:
        for file, content in own.items():
            file.write_bytes(content)


@contextmanager
def _files_named(root: Path) -> Iterator[None]:
    """Turn an error of a file that the system doesn't name, one of Hydra's in `root`, into StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:  # Hydra has an OSError of its own
            raise storage_error(root, error) from error
        raise


def _content(root: Path) -> set[str]:
    """All that lies below `root`. It may be a home or hold ten thousand jobs: `Path.rglob` takes ten times as long."""
    return {os.path.join(folder, name) for folder, below, files in os.walk(root) for name in (*below, *files)}  # noqa: PTH118


def remove_unmeasured(root: Path, there: Set[str] | None = None) -> None:
    """Remove what a sweep that was not run wrote into its folder `root` beside what was `there`.

    None: the folder was not; it goes, too, and its parents below the current one that are then empty. If there is more
    than what Hydra writes beforehand and empty files, all is left as it is.
    """
    if not root.is_dir():
        return
    new = sorted(_content(root).difference(there or ()), reverse=True)  # a folder's content before the folder
    folders = [path for path in map(Path, new) if path.is_dir() and not path.is_symlink()]
    files = set(map(Path, new)).difference(folders)
    if any(path.name not in _HYDRAS_FILES and path.lstat().st_size for path in files):
        return
    for path in files:
        path.unlink()
    for path in folders:
        path.rmdir()
    for path in (root, *root.parents) if there is None else ():
        if any(path.iterdir()) or (path != root and Path.cwd() not in path.parents):
            return
        with suppress(OSError):  # a single job's folder may have been there, as a mount point
            path.rmdir()
