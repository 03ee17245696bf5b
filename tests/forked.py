"""`velosweep …` as a process of its own, without the second of computing that its imports take.

Python's fork server imports everything once; each process is forked from it. What it does from there on, its signals,
its exit status and all that it starts are those of a process that was started anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path


class Forked:
    """A process with the part of Popen's interface that the tests use; `code` is run in it first."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], out: Path, err: Path, code: str = ""
    ) -> None:
        for path in (out, err):
            path.open("wb").close()
        self._process = _fork_server().Process(target=_run, args=(list(arguments), str(cwd), dict(env), out, err, code))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As Popen's, also where nobody has asked since the end."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("velosweep", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def velosweep(
    *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run to the end, as `subprocess.run` does with both outputs captured as text."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Forked(arguments, cwd=cwd, env=env, out=out, err=err)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, status, out.read_text("utf-8"), err.read_text("utf-8"))


@cache
def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.standin.imports"])
    return context


def _run(arguments: list[str], cwd: str, env: dict[str, str], out: Path, err: Path, code: str) -> None:
    """In the process: become what a shell would have started, and run."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)  # both may be one file
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, encoding="utf-8", closefd=False) for number in (1, 2))
    sys.argv = ["velosweep", *arguments]
    exec(code, {})
    from velosweep.cli import main

    sys.exit(main())
