"""What every step of the kit has: where things are, how programs are run in time, and marks of what is done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

KIT = Path(__file__).resolve().parent
VELOSWEEP = "import sys; from velosweep.cli import main; sys.exit(main())"


class OutOfTime(Exception):  # noqa: N818 -- an end, no error
    """The deadline came; what is done is marked, and the next call goes on."""


class StepFailed(Exception):  # noqa: N818
    """A step's finding is bad, or a program it needs failed: the message says what and how."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is: real on a GPU, small on the CPU. Both run the same steps.

    `quantised`, `unquantised`: synthetic pairs, in the words of `velosweep synth`. `n_drafts`: of the quantised pair's
    sweep; `few_n_drafts`: of the other's. `agreement`: the largest relative difference from llama-bench, and of an A/A
    ratio from 1, that is no surprise.
    """

    name: str
    quantised: tuple[str, ...]
    unquantised: tuple[str, ...]
    n_drafts: tuple[int, ...]
    few_n_drafts: tuple[int, ...]
    n_predict: int
    streams: tuple[int, ...]
    depth: int
    iterations: int
    agreement: float


REAL = Scale(
    name="8B/1B-like",
    quantised=("shape=8b_1b", "type=q4_0"),
    # half the blocks: 10 GB instead of 20 to write and load
    unquantised=("shape=8b_1b", "type=f16", "layers=16", "kept_layers=2"),
    n_drafts=(1, 2, 3, 4, 6, 7, 8, 9, 12, 16),
    few_n_drafts=(2, 4, 8),
    n_predict=64,
    streams=(1, 4, 16),
    depth=16384,
    iterations=4,
    agreement=0.03,
)
_TINY = ("layers=8", "kept_layers=1", "width=256", "feed_forward=768", "heads=4", "eps=0.1")
SMALL = Scale(
    name="small",
    # In f16, because the packed server dies of an illegal instruction on quantised models on some processors.
    quantised=(*_TINY, "type=f16"),
    unquantised=(*_TINY, "type=f32"),
    n_drafts=(2, 7, 8),
    few_n_drafts=(4,),
    n_predict=32,
    streams=(1, 2),
    depth=512,
    iterations=3,
    agreement=0.25,  # two cores shared with others: the figure shows that it runs, not how well
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a step found. `figures`: name -> value, for the table; `folders`: its sweeps, relative to `work`."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    surprises: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: bounded by `limit_s`, left out once it is marked as done."""

    name: str
    limit_s: float
    run: Callable[[Kit], Result]


@dataclass(kw_only=True)
class Kit:
    """One run of the kit in a work folder. `out`: where table and results are also put after each step.

    `ending_s`: what a program is given to end by itself once its time is over; part of its step's limit.
    """

    work: Path
    scale: Scale
    cpu: bool
    out: Path | None = None
    architecture: str | None = None
    sources: Path = KIT.parent / "llama.cpp"
    wheels: Path = KIT.parent / "wheels"
    bin: Path = KIT.parent / "bin"
    jobs: int = os.cpu_count() or 1
    ending_s: float = 10.0
    deadline: float = float("inf")
    step_deadline: float = float("inf")

    @property
    def build(self) -> Path:
        """Where llama.cpp is built."""
        return self.work / "build"

    def folder(self, name: str) -> Path:
        """A sweep's folder, emptied."""
        folder = self.work / "sweeps" / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def left_s(self) -> float:
        """Seconds that the step under way, and the whole run, still have."""
        return min(self.deadline, self.step_deadline) - time.monotonic()

    def mark(self, name: str) -> dict[str, Any] | None:
        """What a step left when it was last run, None if it never was."""
        path = self._mark(name)
        return json.loads(path.read_text()) if path.is_file() else None

    def figure(self, step: str, name: str) -> Any:
        """A figure of an earlier step. Raises StepFailed where that step is not done."""
        mark = self.mark(step)
        if mark is None or not mark["ok"]:
            raise StepFailed(f"needs the step {step}, which is not done")
        return mark["figures"][name]

    def write_mark(self, name: str, *, ok: bool, seconds: float, result: Result, error: str | None = None) -> None:
        """Note a step as ended."""
        path = self._mark(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"step": name, "ok": ok, "seconds": seconds, "error": error, **asdict(result)}, indent=1)
        beside = path.with_suffix(".part")
        beside.write_text(text)
        beside.replace(path)

    def environment(self) -> dict[str, str]:
        """For all programs: the kit's packages and libraries, Vulkan's driver, caches inside the work folder."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")}
        site = self.work / "site"
        if site.is_dir():
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), environment.get("PYTHONPATH", "")]))
        libraries = [str(folder) for folder in (self.bin, self.work / "cuda" / "lib64") if folder.is_dir()]
        older = environment.get("LD_LIBRARY_PATH", "")
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [*libraries, older]))
        if "VK_DRIVER_FILES" not in environment and (driver := vulkan_driver()) is not None:
            environment["VK_DRIVER_FILES"] = str(driver)
        own = {"XDG_CACHE_HOME": str(self.work / "cache"), "VELOSWEEP_LOCK_DIR": str(self.work / "locks")}
        return environment | own | {"COLUMNS": "150", "NO_COLOR": "1"}

    def run(
        self, command: Sequence[str | Path], *, log: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program within its step's time; then it is interrupted, and killed `ending_s` later.

        Output is kept in logs/`log`. Raises OutOfTime where none is left to begin, and with `check` StepFailed with
        the output's end where the program failed or was interrupted.
        """
        limit_s = self.left_s() - self.ending_s
        if limit_s < 1:
            raise OutOfTime
        argv = [str(word) for word in command]
        process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.work,
            env=self.environment(),
            start_new_session=True,
        )
        late = ""
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            output, late = _end(process, self.ending_s), f" after {limit_s:.0f} s, its time being over"
        except BaseException:
            _end(process, self.ending_s)
            raise
        if log:
            (self.work / "logs").mkdir(exist_ok=True)
            (self.work / "logs" / f"{log}.txt").write_text(f"$ {' '.join(argv)}\n{output}")
        if check and (process.returncode or late):
            raise StepFailed(f"{' '.join(argv[:6])} … ended with {process.returncode}{late}: {_tail(output)}")
        return subprocess.CompletedProcess(argv, process.returncode or (1 if late else 0), stdout=output)

    def velosweep(
        self, *arguments: str, log: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run velosweep in the work folder."""
        return self.run([sys.executable, "-c", VELOSWEEP, *arguments], log=log, check=check)

    def _mark(self, name: str) -> Path:
        return self.work / "marks" / f"{name}.json"


def vulkan_driver() -> Path | None:
    """NVIDIA's description of its Vulkan driver, where containers keep it out of the loader's sight; else None."""
    usual = [Path(root) / "vulkan/icd.d" for root in ("/etc", "/usr/share", "/usr/local/share")]
    if any(file for folder in usual for file in folder.glob("nvidia*.json")):
        return None
    return next(iter(sorted(Path("/usr/local/nvidia").glob("share/vulkan/icd.d/nvidia*.json"))), None)


def run_steps(
    kit: Kit, steps: Sequence[Step], *, again: Sequence[str] = (), after: Callable[[], object] = lambda: None
) -> bool:
    """Run what is not yet done; returns whether all is. A failed step is marked, said and gone past.

    `after` is called after each step, so that a run that is cut off has left what it found.
    """
    complete = True
    for step in steps:
        mark = kit.mark(step.name)
        if mark is not None and mark["ok"] and step.name not in again:
            continue
        kit.step_deadline = float("inf")
        if kit.left_s() < 5:
            return False
        print(f"== {step.name} (at most {step.limit_s:g} s)", flush=True)
        start = time.monotonic()
        kit.step_deadline = start + step.limit_s * (3 if kit.cpu else 1)  # its cores may be shared
        error = None
        try:
            result = step.run(kit)
        except OutOfTime:
            print("   out of time: the next call goes on from here", flush=True)
            complete = False
            continue
        except Exception as caught:  # noqa: BLE001 -- whatever went wrong with one step is its row in the table
            result, error, complete = Result(), f"{type(caught).__name__}: {caught}", False
        seconds = time.monotonic() - start
        kit.write_mark(step.name, ok=error is None, seconds=seconds, result=result, error=error)
        shown = ", ".join(f"{name} {shown_figure(value)}" for name, value in result.figures.items())
        print(f"   {seconds:.0f} s  {f'FAILED: {error}' if error else shown[:400]}", flush=True)
        after()
    return complete


def shown_figure(value: Any) -> str:
    """A figure for a person."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _end(process: subprocess.Popen[str], wait_s: float) -> str:
    """Ask the whole group to stop, then make it."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            output, _ = process.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return process.communicate()[0]
        else:
            return output
    return ""


def _tail(output: str, characters: int = 600) -> str:
    return " | ".join(line.strip() for line in output[-characters:].splitlines() if line.strip())
