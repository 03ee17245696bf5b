"""Real sweeps by the real command line on stand-in servers, and what they left behind.

A `Bench` has its own folder, program, models, locks and caches, so that tests don't meet.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

import velosweep
from tests.forked import Forked
from tests.standin import llama_server
from velosweep.results.journal import read_journal
from velosweep.values import Sample, Status

REPOSITORY = Path(velosweep.__file__).resolve().parents[1]
PATIENCE_S = 200.0  # for what comes in seconds when nothing else runs here
Key = tuple[str, str, int, int, int, str]


@dataclass
class Drive:
    """One `velosweep …` that was started."""

    process: subprocess.Popen[bytes] | Forked
    out: Path
    err: Path

    @property
    def said(self) -> str:
        """All that stood on the screen so far."""
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        return self.process.wait(timeout_s)

    def send(self, number: int) -> None:
        self.process.send_signal(number)


@dataclass
class Bench:
    """A place to run sweeps in. `control` is what the stand-in does; change it with `set`."""

    folder: Path
    main_model: Path
    draft_model: Path
    control: dict[str, Any] = field(default_factory=dict)
    started: int = 0
    drives: list[Drive] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("bin", "state", "locks", "cache", "home"):
            (self.folder / name).mkdir(parents=True)
        self.write_program()
        self.set(state=str(self.folder / "state"), models=True)

    # ------------------------------------------------------------ the stand-in

    @property
    def program(self) -> Path:
        return self.folder / "bin" / "llama-server"

    def write_program(self, *, mark: str = "") -> None:
        """The stand-in as an executable; another `mark` makes it another program."""
        source = Path(llama_server.__file__).read_text()
        python = os.path.realpath(sys.executable)
        beside = self.program.with_suffix(".new")
        beside.write_text(f"#!{python} -IS\n# {mark}\n{source}")
        beside.chmod(0o755)
        beside.replace(self.program)

    def set(self, **values: Any) -> None:
        """Change what the servers do, from their next run on."""
        self.control.update(values)
        beside = self.folder / "control.new"
        beside.write_text(json.dumps(self.control))
        beside.replace(self.folder / "control.json")

    def fault(self, kind: str, **values: Any) -> None:
        """Arm one fault (see tests/standin/llama_server.py)."""
        self.set(faults=[*self.control.get("faults", []), {"kind": kind, **values}])

    def hold(self, after: int) -> None:
        """Let so many measured runs of all servers end and the next ones wait, until `release`.

        A wait of more than some seconds is a timeout to velosweep, as any long run is.
        """
        self.set(hold=after)

    def release(self) -> None:
        self.set(hold=None)

    def wait_until_held(self) -> None:
        """Wait until a run waits and those before it are on disk."""
        self.wait_for(lambda: self.events("held"))
        self.wait_for_runs(self.control["hold"])

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What the servers noted of themselves."""
        path = self.folder / "state" / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for line in lines if name in (None, (event := json.loads(line))["event"])]

    # ------------------------------------------------------------ the driver

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VELOSWEEP", "LLAMA"))}
        return {
            **kept,
            "STANDIN": str(self.folder / "control.json"),
            # this checkout and its Hydra plugins, wherever the installed ones are
            "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "velosweep" / "_plugins"))),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "VELOSWEEP_LOCK_DIR": str(self.folder / "locks"),
            "HYDRA_FULL_ERROR": "0",
        }

    @property
    def root(self) -> Path:
        """Where `sweep` writes."""
        return self.folder / "sweep"

    def start(self, *arguments: str, code: str = "", wrap: Sequence[str] = (), **options: Any) -> Drive:
        """`velosweep arguments…` in a session of its own; `wrap` stands before it, `code` is run in it first.

        Forked (tests/forked.py) where no option but its environment is given, as `code` needs it.
        """
        self.started += 1
        out, err = (self.folder / f"{self.started}.{name}" for name in ("out", "err"))
        if not wrap and not options.keys() - {"env"}:
            env = options.get("env", self.environment)
            forked = Forked(arguments, cwd=self.folder / "home", env=env, out=out, err=err, code=code)
            self.drives.append(Drive(process=forked, out=out, err=err))
            return self.drives[-1]
        command = [sys.executable, "-m", "velosweep", *arguments]
        options = {"env": self.environment, "start_new_session": True, "stdin": subprocess.DEVNULL, **options}
        with out.open("wb") as stdout, err.open("wb") as stderr:
            options = {"stdout": stdout, "stderr": stderr, **options}
            process = subprocess.Popen([*wrap, *command], cwd=self.folder / "home", **options)
        drive = Drive(process=process, out=out, err=err)
        self.drives.append(drive)
        return drive

    def overrides(self, *more: str, root: Path | None = None) -> list[str]:
        """A sweep on the stand-in, small and quick, but for what `more` says."""
        usual = [
            f"llama_cpp.path={self.program}",
            f"model_pair.main_model={self.main_model}",
            f"model_pair.draft_model={self.draft_model}",
            f"hydra.sweep.dir={root or self.root}",
            "n_predict=20",
            "iterations=3",
        ]
        named = {word.partition("=")[0] for word in more}
        return ["-m", *(word for word in usual if word.partition("=")[0] not in named), *more]

    def sweep(self, *more: str, root: Path | None = None, **options: Any) -> Drive:
        """Start a sweep."""
        return self.start(*self.overrides(*more, root=root), **options)

    def run(self, *arguments: str) -> Drive:
        """Start a command and wait for its end."""
        drive = self.start(*arguments)
        drive.wait()
        return drive

    # ------------------------------------------------------------ what is there

    def samples(self, root: Path | None = None) -> tuple[Sample, ...]:
        """Every sample of the journal."""
        path = (root or self.root) / "journal.jsonl"
        return read_journal(path).samples if path.exists() else ()

    def taken(self, root: Path | None = None) -> Counter[Key]:
        """How often each measurement is there as a good sample."""
        return Counter(key_of(s) for s in self.samples(root) if s.status is Status.OK and not s.warmup)

    def table(self, root: Path | None = None) -> pa.Table:
        return pq.read_table((root or self.root) / "samples.parquet")

    def record(self, root: Path | None = None) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(((root or self.root) / "sweep.json").read_text())
        return value

    def states(self, root: Path | None = None) -> list[str]:
        """The jobs' states in order."""
        return [job["state"] for job in self.record(root)["jobs"]]

    def wait_for(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Wait until something is so; a driver that ended beforehand is an error."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"it never came to that:\n{self.drives[-1].said}"
            assert self.drives[-1].process.poll() is None or condition(), self.drives[-1].said
            time.sleep(0.005)

    def wait_for_runs(self, count: int) -> None:
        """Wait until so many measured samples are on disk."""
        self.wait_for(lambda: sum(self.taken().values()) >= count)

    # ------------------------------------------------------------ what is left behind

    def processes(self) -> list[psutil.Process]:
        """Every process that lives with this bench's environment, our drivers' included."""
        mine = f"STANDIN={self.folder / 'control.json'}".encode()
        found = []
        for process in psutil.process_iter():
            try:
                environ = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                alive = process.status() != psutil.STATUS_ZOMBIE
            except (OSError, psutil.Error):
                continue
            if mine in environ and alive:
                found.append(process)
        seen = {process.pid for process in found}
        for drive in self.drives:  # a forked one shows the environment of its server
            if drive.process.poll() is None and drive.process.pid not in seen:
                with suppress(psutil.Error):
                    found.append(psutil.Process(drive.process.pid))
        return found

    def servers(self) -> list[psutil.Process]:
        """The stand-in servers that live."""
        drivers = {drive.process.pid for drive in self.drives}
        return [process for process in self.processes() if process.pid not in drivers]

    def leftovers(self, *, patience_s: float = 30.0) -> list[str]:
        """What dead sweeps left of processes, held locks, temporary files and open ports; in words.

        Waits `patience_s` for the kernel to end what lost its parent.
        """
        deadline = time.monotonic() + patience_s
        while (found := list(self._leftovers())) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _leftovers(self) -> Iterator[str]:
        for process in self.processes():
            with suppress(psutil.Error):  # it ended since it was listed
                yield f"process {process.pid} {' '.join(process.cmdline()[:3])}"
        for path in self.folder.rglob("*"):
            if path.suffix in (".part", ".tmp") or path.name.endswith("~"):
                yield f"temporary file {path.relative_to(self.folder)}"
            elif path.is_file() and (path.name == "lock" or path.suffix == ".lock") and held(path):
                yield f"lock {path.relative_to(self.folder)}"
        for port in {event["port"] for event in self.events("listening")}:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    yield f"port {port}"

    def clear(self) -> None:
        """End everything, for the next test's sake."""
        for drive in self.drives:
            if drive.process.poll() is None:
                drive.process.kill()
                drive.process.wait()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it ended since it was listed
                process.kill()


def key_of(sample: Sample) -> Key:
    """What tells one measurement from all others."""
    return (sample.job_id, sample.mode.value, sample.block, sample.launch, sample.iteration, sample.prompt_id)


def held(path: Path) -> bool:
    """Whether somebody holds a lock on the file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
    return False


def complete(bench: Bench, *, n_draft: Sequence[int], iterations: int = 3, prompts: int = 1, groups: int = 1) -> None:
    """Assert that every measurement of a grid over n_draft is there exactly once."""
    taken = bench.taken()

    assert set(taken.values()) == {1}, {key: count for key, count in taken.items() if count != 1}
    assert len(taken) == (len(n_draft) + groups) * iterations * prompts


SIGNALS = {name: getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")}
