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
class Shape:
    """A synthetic pair's shape but for type and eps."""

    layers: int
    kept_layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is: real on a GPU, small on the CPU. Both run the same steps."""

    name: str
    shape: Shape
    types: tuple[str, ...]
    targets: tuple[float, ...]
    n_drafts: tuple[int, ...]
    n_predict: int
    batches: tuple[int, ...]
    repetitions: int
    context: int
    agreement: float
    """Largest relative difference from llama-bench, and of an A/A ratio from 1, that passes."""


REAL = Scale(
    name="8B/1B-like",
    shape=Shape(layers=32, kept_layers=4, width=4096, feed_forward=14336, heads=32, kv_heads=8, vocabulary=128256),
    types=("f16", "q8_0", "q4_0"),
    targets=(0.6, 0.8, 1.0),
    n_drafts=(1, 2, 3, 4, 6, 7, 8, 12, 16),
    n_predict=128,
    batches=(1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 32),
    repetitions=5,
    context=4096,
    agreement=0.03,
)
SMALL = Scale(
    name="small",
    shape=Shape(layers=16, kept_layers=1, width=384, feed_forward=1024, heads=6, kv_heads=2, vocabulary=320),
    types=("f16", "q8_0", "q4_0"),
    targets=(0.6, 0.8, 1.0),
    n_drafts=(2, 4, 8),
    n_predict=64,
    batches=(1, 2, 4, 8, 9, 16),
    repetitions=3,
    context=1024,
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
    """One step: bounded by `minutes`, skipped once it is marked as done."""

    name: str
    minutes: float
    run: Callable[[Kit], Result]


@dataclass(kw_only=True)
class Kit:
    """One run of the kit in a work folder."""

    work: Path
    scale: Scale
    cpu: bool
    architecture: str | None = None
    sources: Path = KIT.parent / "llama.cpp"
    wheels: Path = KIT.parent / "wheels"
    bin: Path = Path()
    jobs: int = os.cpu_count() or 1
    deadline: float = float("inf")

    def __post_init__(self) -> None:
        if self.bin == Path():
            self.bin = self.build / "bin"

    @property
    def build(self) -> Path:
        """Where llama.cpp is built."""
        return self.work / "build"

    @property
    def models(self) -> Path:
        """Where synthetic pairs lie."""
        return self.work / "models"

    def folder(self, step: str, name: str) -> Path:
        """A sweep's folder. What a cut-off step left is resumed; what a failed or finished one left is removed."""
        folder = self.work / "sweeps" / name
        if self.mark(step) is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return folder

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

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
        """For all programs: the kit's Python packages, CUDA's libraries, and caches inside the work folder."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")}
        site, libraries = self.work / "site", self.work / "cuda" / "lib64"
        if site.is_dir():
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), environment.get("PYTHONPATH", "")]))
        if libraries.is_dir():
            older = environment.get("LD_LIBRARY_PATH", "")
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(libraries), older]))
        return environment | {"XDG_CACHE_HOME": str(self.work / "cache"), "COLUMNS": "150", "NO_COLOR": "1"}

    def run(
        self, command: Sequence[str | Path], *, minutes: float, log: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program within its minutes and the deadline, killed with all it started when they are over.

        Output is kept in logs/`log`. Raises OutOfTime, or StepFailed with the output's end if `check` and it failed.
        """
        limit_s = min(minutes * 60, self.left_s())
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
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            output = _end(process)
            self._log(log, argv, output)
            if limit_s < minutes * 60:
                raise OutOfTime from None
            raise StepFailed(f"{argv[0]} took more than {minutes:g} minutes: {_tail(output)}") from None
        except BaseException:
            _end(process)
            raise
        self._log(log, argv, output)
        if check and process.returncode:
            raise StepFailed(f"{' '.join(argv[:6])} … ended with {process.returncode}: {_tail(output)}")
        return subprocess.CompletedProcess(argv, process.returncode, stdout=output)

    def velosweep(
        self, *arguments: str, minutes: float, log: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run velosweep with the llama.cpp that was built, and this kit's device and context."""
        return self.run([sys.executable, "-c", VELOSWEEP, *arguments], minutes=minutes, log=log, check=check)

    def overrides(self, *, model: Mapping[str, str] | None = None) -> list[str]:
        """The overrides that all of the kit's sweeps have."""
        engine = [f"llama_cpp.path={self.bin}", "engine=server", f"engine.context={self.scale.context}"]
        pair = [f"model_pair.{key}={value}" for key, value in (model or {}).items()]
        return [*engine, *pair, f"n_predict={self.scale.n_predict}"]

    def _log(self, name: str | None, argv: Sequence[str], output: str) -> None:
        if name:
            (self.work / "logs").mkdir(exist_ok=True)
            (self.work / "logs" / f"{name}.txt").write_text(f"$ {' '.join(argv)}\n{output}")

    def _mark(self, name: str) -> Path:
        return self.work / "marks" / f"{name.replace(':', '-')}.json"


def run_steps(kit: Kit, steps: Sequence[Step], *, again: Sequence[str] = ()) -> bool:
    """Run what is not yet done; returns whether all is. A failed step is marked, said and gone past."""
    complete = True
    for step in steps:
        mark = kit.mark(step.name)
        if mark is not None and mark["ok"] and step.name not in again:
            continue
        if kit.left_s() < 5:
            return False
        print(f"== {step.name} (at most {step.minutes:g} min)", flush=True)
        start = time.monotonic()
        try:
            result = step.run(kit)
        except OutOfTime:
            print("   out of time: the next call goes on from here", flush=True)
            return False
        except Exception as error:  # noqa: BLE001 -- whatever went wrong with one step is its row in the table
            seconds = time.monotonic() - start
            kit.write_mark(
                step.name, ok=False, seconds=seconds, result=Result(), error=f"{type(error).__name__}: {error}"
            )
            print(f"   FAILED after {seconds:.0f} s: {error}", flush=True)
            complete = False
            continue
        seconds = time.monotonic() - start
        kit.write_mark(step.name, ok=True, seconds=seconds, result=result)
        shown = ", ".join(f"{name} {_short(value)}" for name, value in result.figures.items())
        print(f"   {seconds:.0f} s  {shown[:400]}", flush=True)
    return complete


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _end(process: subprocess.Popen[str]) -> str:
    """Ask the whole group to stop, then make it."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            output, _ = process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return process.communicate()[0]
        else:
            return output
    return ""


def _tail(output: str, characters: int = 600) -> str:
    return " | ".join(line.strip() for line in output[-characters:].splitlines() if line.strip())
