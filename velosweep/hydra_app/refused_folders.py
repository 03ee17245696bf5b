"""Hydra writes a sweep's configuration before its jobs are checked: what of it is undone where they are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
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
    there = set(root.iterdir()) if root.is_dir() else None
    own = {file: file.read_bytes() for file in root.glob(".hydra/*.yaml")}
    earlier = {file: file.read_bytes() for file in root.glob("multirun.yaml")}
    try:
        with _files_named(root):
            yield
    except Exception as error:
        if getattr(translate(error), "exit_status", None) == ExitStatus.REFUSED:
            own |= earlier
            if there is None:
                remove_unmeasured(root)
            for path in set(root.iterdir()) - there if there is not None else ():
                if path.name in _HYDRAS_FILES:
                    path.unlink()
                else:
                    remove_unmeasured(path)
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


def remove_unmeasured(folder: Path) -> None:
    """Remove the folder of a sweep that was not run, and its parents below the current folder that are then empty.

    A folder that holds more than the configurations that Hydra writes beforehand and empty files is left as it is.
    """
    if not folder.is_dir():
        return
    found = sorted(folder.rglob("*"), reverse=True)  # a folder's content before the folder
    folders = [path for path in found if path.is_dir() and not path.is_symlink()]
    files = [path for path in found if path not in folders]
    if any(path.name not in _HYDRAS_FILES and path.lstat().st_size for path in files):
        return
    for path in files:
        path.unlink()
    for path in folders:
        path.rmdir()
    folder.rmdir()
    for path in folder.parents:
        if Path.cwd() not in path.parents or any(path.iterdir()):
            return
        path.rmdir()
