"""A folder full of modules that anybody may have written: none of them is ever run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("iterations=1", "n_predict=8", "engine.threads=1", "engine.context=256")
NAMES = (
    "types", "json", "re", "enum", "signal", "ctypes", "pickle", "threading", "multiprocessing", "runpy",
    "sitecustomize", "usercustomize", "gguf", "xllamacpp", "numpy", "joblib", "submitit", "distributed", "velosweep",
    "hydra_plugins/lanes",
)  # fmt: skip
# As the installed script does: Python is told neither to look into the current folder nor not to.
SCRIPT = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from velosweep.cli import main; sys.exit(main())"


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A current folder in which each module leaves its name in `run` when it is imported."""
    folder = tmp_path / "trap"
    (folder / "hydra_plugins").mkdir(parents=True)
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'run')!r}, 'a').write({name!r} + ' ')\nraise SystemExit(3)\n", encoding="utf-8"
        )
    return folder


def python(trap: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python in the trap that itself does not look there."""
    return subprocess.run(
        [sys.executable, "-s", "-c", f"import sys; del sys.path[0]\n{arguments[0]}", *arguments[1:]],
        cwd=trap,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def what_ran(trap: Path) -> str:
    """The modules of the trap that were imported."""
    log = trap.parent / "run"
    return log.read_text() if log.exists() else ""


@pytest.mark.real
@pytest.mark.parametrize(
    "words",
    [
        ("-m", "n_draft=2,4"),
        ("-m", "n_draft=2,4", "hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.tasks=1"),
        ("-m", "n_draft=2,4", "hydra/launcher=dask", "hydra.launcher.workers=1"),
    ],
    ids=["a sweep", "a task of submitit", "a dask worker"],
)
def test_no_module_of_the_current_folder_is_run(words: tuple[str, ...], trap: Path) -> None:
    done = python(trap, SCRIPT, *words, *QUICK, "engine=embedded", f"output={trap.parent / 'results'}")

    assert what_ran(trap) == ""
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_an_empty_part_of_pythonpath_does_not_open_it_again(trap: Path) -> None:
    for name in ("sitecustomize", "usercustomize", *(n for n in NAMES if n in sys.modules and n != "velosweep")):
        (trap / f"{name}.py").unlink(missing_ok=True)  # imported by Python itself before any line of ours
    done = python(trap, SCRIPT, *QUICK, "engine=embedded", PYTHONPATH=f"{os.pathsep}.")

    assert what_ran(trap) == ""
    assert done.returncode == 0, done.stdout + done.stderr


START_CHILDREN = f"""
sys.path.insert(0, {str(ROOT)!r})
from velosweep.isolation import drop_current_folder
drop_current_folder()
import multiprocessing
from joblib.externals.loky.process_executor import ProcessPoolExecutor
if __name__ == "__main__":
    print(sum(ProcessPoolExecutor(2).map(abs, [1, -2])))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(sum(pool.map(abs, [3, -4])))
"""


def test_workers_that_libraries_start_do_not_look_there(trap: Path) -> None:
    done = python(trap, START_CHILDREN)

    assert what_ran(trap) == ""
    assert done.stdout.split() == ["3", "7"], done.stderr


def test_a_python_before_3_11_does_not_either(trap: Path) -> None:
    """What PYTHONSAFEPATH does since then, our sitecustomize does here; an other one of the person's is still run."""
    theirs = trap.parent / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("print('theirs')", encoding="utf-8")
    path = os.pathsep.join((str(ROOT / "velosweep" / "_python310"), str(theirs)))
    done = subprocess.run(
        [sys.executable, "-c", "import json, types; print('through')"],
        cwd=trap,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
    )

    assert what_ran(trap) == ""
    assert done.stdout.split() == ["theirs", "through"], done.stderr


def test_velosweep_itself_is_found_in_the_current_folder_but_shadows_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "velosweep").symlink_to(ROOT / "velosweep")
    (tmp_path / "gguf.py").write_text("raise SystemExit('the wrong gguf')", encoding="utf-8")
    code = (
        "from velosweep.isolation import python_command, drop_current_folder; drop_current_folder(); "
        "import gguf, subprocess; "
        "print(subprocess.run(python_command('-u', '-m', 'velosweep', '--version'), capture_output=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert "velosweep 0." in done.stdout, done.stderr


def test_libraries_and_programs_are_not_looked_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from velosweep.llama_cpp.process import child_environment

    monkeypatch.setattr(os, "pathsep", ":")
    given = {"LD_LIBRARY_PATH": ":/cuda", "PATH": "/bin::.", "PYTHONPATH": "", "PYTHONSAFEPATH": "1", "HOME": "."}

    assert child_environment(given) == {"LD_LIBRARY_PATH": "/cuda", "PATH": "/bin", "PYTHONPATH": "", "HOME": "."}
