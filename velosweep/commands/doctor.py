"""`velosweep doctor`: what would run here: programs, versions, devices, models, memory; what is missing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from velosweep.config.settings import EngineSettings, Job, RunSettings
from velosweep.errors import ExitStatus, VelosweepError, install_extra
from velosweep.units import bytes_words

if TYPE_CHECKING:
    from rich.console import Console

_SIGNS = {"ok": "✅", "note": "ℹ️", "warning": "⚠️", "missing": "❌"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the doctor's account. `state`: ok, note, warning or missing; `remedy` where something is."""

    state: str
    subject: str
    text: str
    remedy: str | None = None


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 0 where this configuration would run, 2 where something is missing."""
    from velosweep.config.composing import compose
    from velosweep.config.load import load_job, load_settings
    from velosweep.reporting.console import make_console

    if {"-h", "--help"} & set(argv):
        _parser().print_help()
        return int(ExitStatus.OK)
    cfg = compose(list(argv))
    checks = list(examine(load_job(cfg), load_settings(cfg)))
    console = make_console()
    for check in checks:
        _print(check, console)
    missing = [check for check in checks if check.state == "missing"]
    return int(ExitStatus.REFUSED if missing else ExitStatus.OK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep doctor",
        description="Say what would run here with these settings: programs, versions, devices, models, memory, and "
        "what is missing. Exits with 2 where something is.",
    )
    parser.add_argument("overrides", nargs="*", help="key=value, as for a sweep; see velosweep --help")
    return parser


def _print(check: Check, console: Console) -> None:
    from velosweep.reporting.console import say

    first, *more = check.text.splitlines() or [""]
    say(console, f"{_SIGNS[check.state]} {check.subject}: {first}")
    for line in more:
        say(console, line.strip(), indent=4)
    if check.remedy:
        say(console, f"→ {check.remedy}", indent=4)


def examine(job: Job, settings: RunSettings) -> Iterator[Check]:
    """Everything a sweep of this configuration depends on, each checked by itself so that one lack hides no other."""
    told: dict[str, str] = {}
    yield from _machine()
    yield from _guarded("llama.cpp", lambda: _program(job.engine), told)
    yield from _guarded("devices", lambda: _devices(job, settings), told)
    yield from _guarded("models", lambda: _models(job, settings), told)
    yield from _extras()


def _guarded(subject: str, examine_part: Callable[[], Iterator[Check]], told: dict[str, str]) -> Iterator[Check]:
    """What a part says, and what keeps it from that; `told`: the subjects that said so already, by message."""
    try:
        yield from examine_part()
    except VelosweepError as error:
        if error.message in told:
            yield Check(state="missing", subject=subject, text=f"unknown without {told[error.message]}")
            return
        told[error.message] = subject
        yield Check(state="missing", subject=subject, text=error.message, remedy=error.remedy)


def _machine() -> Iterator[Check]:
    import psutil

    from velosweep import __version__
    from velosweep.machine.environment import collect_environment

    machine = collect_environment(engine="", llama_cpp_build="")
    cores = f"{machine.physical_cores} physical cores"
    yield Check(
        state="ok",
        subject="machine",
        text=f"{machine.host}: {machine.cpu}, {cores}, {bytes_words(machine.memory_bytes)}, {machine.system}",
    )
    yield Check(state="ok", subject="velosweep", text=f"{__version__} on Python {machine.python}")
    load = psutil.getloadavg()[0]
    if load > machine.physical_cores * 0.5:
        yield Check(
            state="warning",
            subject="load",
            text=f"the load average is {load:.1f}: something else is running",
            remedy="measure on a quiet machine; results made now will say so",
        )


def _program(engine: EngineSettings) -> Iterator[Check]:
    import os

    from velosweep.llama_cpp.selection import resolve_engine

    selection = resolve_engine(engine.kind, engine.program, os.environ)
    where = selection.program or "inside velosweep's Python package xllamacpp"
    text = f"engine {selection.kind}, build {selection.build}, {where} ({selection.reason})"
    yield Check(state="ok", subject="llama.cpp", text=text)
    if selection.kind == "embedded":
        yield Check(
            state="note",
            subject="llama.cpp",
            text="the embedded llama.cpp computes on the CPU alone",
            remedy="for a GPU, or for figures of your own llama.cpp, set llama_cpp.path=/path/to/llama.cpp",
        )
    if selection.kind == "server" and selection.program:
        yield from _flags(selection.program)


def _flags(program: str) -> Iterator[Check]:
    from velosweep.llama_cpp.capabilities import of_program

    known = of_program(program)
    meanings = ("draft_model", "n_draft", "p_min", "spec_type", "draft_gpu_layers", "metrics")
    names = [f"{meaning}={known.name(meaning) or 'no'}" for meaning in meanings]
    yield Check(state="ok", subject="flags", text=", ".join(names))
    if known.name("draft_model") is None or known.name("n_draft") is None:
        yield Check(
            state="missing",
            subject="flags",
            text="this build does not take a draft model",
            remedy="use a llama.cpp from December 2024 or later",
        )


def _devices(job: Job, settings: RunSettings) -> Iterator[Check]:
    from velosweep.measuring.prepare import open_lanes

    lanes, notes = open_lanes(job.engine, settings)
    for lane in lanes:
        yield Check(state="ok", subject=f"lane {lane.number}", text=lane.label)
    for note in notes:
        yield Check(state="note", subject="devices", text=note)


def _models(job: Job, settings: RunSettings) -> Iterator[Check]:
    from velosweep.measuring.prepare import prepare

    prepared = prepare([job], settings)
    for model in prepared.environment.models:
        described = model.description or f"GGUF, {bytes_words(model.size_bytes)}"  # a description holds the size
        yield Check(state="ok", subject="model", text=f"{model.path}: {described}")
    ready = prepared.jobs[0]
    if ready.model_pair.draft_model:
        yield Check(state="ok", subject="pair", text="the draft's vocabulary fits the main model's")
    for warning in prepared.warnings:
        yield Check(state="warning", subject=warning.subject, text=warning.text, remedy=warning.remedy)
    count = prepared.memory_estimates(prepared.lanes[0]).resident_servers(ready)
    yield Check(state="ok", subject="memory", text=f"room for {count} loaded servers of this pair at once")


def _extras() -> Iterator[Check]:
    from importlib.util import find_spec

    uses = {
        "huggingface_hub": ("hf", "models named hf://owner/repo/file.gguf"),
        "submitit": ("slurm", "hydra/launcher=slurm"),
        "distributed": ("dask", "hydra/launcher=dask"),
        "mlflow": ("mlflow", "logging to MLflow"),
    }
    absent = [(extra, use) for module, (extra, use) in uses.items() if find_spec(module) is None]
    for extra, use in absent:
        yield Check(state="note", subject="extra", text=f"{use} is not installed", remedy=install_extra(extra))
