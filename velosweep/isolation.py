"""Nothing in the current folder is ever imported: anybody's `types.py` or `hydra_plugins/` may lie there.

`python -m`, `python -c` and an empty part of PYTHONPATH all put the current folder in front of the standard library.
Imports next to nothing itself, since whatever is imported before `drop_current_folder` could come from there.
"""

import os
import sys
from collections.abc import Mapping

_HERE = ("", os.curdir)
_SEARCH_PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 (pathlib imports much)
_STANDARD_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120


def drop_current_folder() -> None:
    """Do so for this process, and for every Python that it or a library (joblib, Dask, submitit) starts."""
    sys.path[:] = import_path()
    path = without_current_folder(os.environ.get("PYTHONPATH", ""))
    if sys.version_info < (3, 11):  # knows no PYTHONSAFEPATH
        path = os.pathsep.join(filter(None, (os.path.join(_ROOT, "velosweep", "_python310"), path)))  # noqa: PTH118
    os.environ.update({"PYTHONPATH": path, "PYTHONSAFEPATH": "1"})
    if not path:
        del os.environ["PYTHONPATH"]


def import_path() -> list[str]:
    """`sys.path` without the current folder, unless that is installed (editable) or holds velosweep itself.

    What stands before the standard library comes from PYTHONPATH or the way Python was started; what follows it is
    installed. velosweep's own folder, where nothing else leads to it, comes last and shadows nothing.
    """
    path: list[str] = []
    installed = False
    for entry in sys.path:
        installed = installed or entry == _STANDARD_LIBRARY
        if installed or not _is_current_folder(entry):
            path.append(entry)
    return path if _ROOT in path else [*path, _ROOT]


def _is_current_folder(entry: str) -> bool:
    if entry in _HERE:
        return True
    try:
        return os.path.samefile(entry, os.curdir)  # noqa: PTH121
    except OSError:  # one of them does not exist
        return False


def without_current_folder(search_path: str) -> str:
    """A PATH-like text without its empty parts and `.`, which mean the current folder."""
    return os.pathsep.join(part for part in search_path.split(os.pathsep) if part not in _HERE)


def _from_root(search_path: str) -> str:
    """A PATH-like text for a program that runs in another folder: without the current one, all parts absolute."""
    parts = filter(None, without_current_folder(search_path).split(os.pathsep))
    return os.pathsep.join(os.path.abspath(part) for part in parts)  # noqa: PTH100


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a program that is not ours: it finds neither libraries nor modules in the current folder.

    A script's own folder is its own affair, and PYTHONSAFEPATH would take that from it, too.
    """
    cleaned = {name: _from_root(value) if name in _SEARCH_PATHS else value for name, value in environment.items()}
    cleaned.pop("PYTHONSAFEPATH", None)
    return cleaned


def python_command(*arguments: str) -> list[str]:
    """A command line that starts this Python as `-m MODULE ARGUMENT…` does, with our import path and no other.

    The module may be left out, to be appended as `-m MODULE …` (also behind `-u`) by whoever runs the command.
    """
    start = (
        f"import sys; path = {import_path()!r}; "
        "sys.path[:] = path + [entry for entry in sys.path if entry not in path]; "
        "import runpy; at = sys.argv.index('-m'); del sys.argv[:at + 1]; "
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-I", "-c", start, *arguments]
