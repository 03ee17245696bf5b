"""Surroundings in which not everything is there: names that are no text, no home, no current folder, no loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from velosweep.config.settings import EngineSettings
from velosweep.errors import ProgramError, StorageError
from velosweep.files import user_cache
from velosweep.llama_cpp.selection import choose_engine

QUICK = ("engine=embedded", "iterations=1", "n_predict=4")
ODD = os.fsdecode(b"caf\xe9")


def velosweep(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "velosweep", *words],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
@pytest.mark.parametrize(
    ("where", "words", "what"),
    [
        (ODD, QUICK, "The folder for results"),
        (".", (*QUICK, f"hydra.run.dir={ODD}/run"), "The folder for results"),
        (".", (*QUICK, f"output={ODD}.json"), "The command"),
    ],
)
def test_a_name_that_is_no_text_is_refused_in_words_before_anything_runs(
    where: str, words: tuple[str, ...], what: str, tmp_path: Path
) -> None:
    (tmp_path / where).mkdir(exist_ok=True)
    done = velosweep(*words, cwd=tmp_path / where)

    assert done.returncode == 2
    assert f"{what} has a byte in its name that is no UTF-8 text (0xE9)" in done.stderr


def test_without_a_home_folder_it_is_said_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    def no_home(*arguments: object, **more: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_cache_dir", no_home)

    with pytest.raises(StorageError, match=r"no home folder.*set HOME or XDG_CACHE_HOME"):
        user_cache()


@pytest.mark.parametrize("words", [QUICK, ("doctor",), ("report", "x")])
def test_a_current_folder_that_is_gone_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from velosweep.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words], cwd=gone, capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stderr) == (2, "velosweep: The current folder is gone\n  cd to one that exists\n")


@pytest.mark.parametrize("named", ["", "llama-server"])
def test_a_program_that_is_not_executable_is_called_that(named: str, tmp_path: Path) -> None:
    (tmp_path / "llama-server").write_text("#!/bin/sh\n")

    with pytest.raises(ProgramError, match=r"llama-server is not executable; make it so: chmod \+x "):
        choose_engine(EngineSettings(kind="server", program=str(tmp_path / named)), {})


@pytest.mark.real
@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs unshare and root")
def test_no_loopback_is_called_that_at_once(tmp_path: Path) -> None:
    command = ["unshare", "-n", sys.executable, "-P", "-m", "velosweep", *QUICK]
    probe = subprocess.run(["unshare", "-n", "true"], check=False)
    if probe.returncode:
        pytest.skip("this system allows no network namespaces")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 3
    assert "can't be reached from this machine itself: Network is unreachable" in done.stdout
    assert "ip link set lo up" in done.stdout
