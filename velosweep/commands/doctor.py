"""`velosweep doctor`: what would run here: programs, versions, devices, models, memory; what is missing."""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product

from velosweep import __version__
from velosweep.commands.run import words
from velosweep.config.flags import as_typed
from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ExitStatus, VelosweepError, install_extra
from velosweep.planning.job_settings import PATHS
from velosweep.units import bytes_words, plural

_SIGNS = {"ok": "✅", "note": "ℹ️", "warning": "⚠️", "missing": "❌"}
_EXTRAS = {
    "huggingface_hub": ("hf", "models named hf://owner/repo/file.gguf"),
    "submitit": ("slurm", "hydra/launcher=slurm"),
    "distributed": ("dask", "hydra/launcher=dask"),
    "mlflow": ("mlflow", "logging to MLflow"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report. `state`: ok, note, warning or missing."""

    state: str
    subject: str
    text: str
    remedy: str | None = None


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 0 where this configuration would run, 2 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="velosweep doctor",
        description="Say what would run here with these settings: programs, versions, devices, models, memory, and "
        "what is missing. Exits with 2 where something is.",
    )
    parser.add_argument("overrides", nargs="*", help="flags as for velosweep run, or key=value as for a sweep")
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        return int(ExitStatus.OK)
    from velosweep.config.composing import compose
    from velosweep.config.load import JobLoader, load_settings
    from velosweep.reporting.console import make_console, say

    in_flags = any(word.startswith("-") for word in argv)
    command = ("velosweep", *(("run",) if in_flags else ()), *argv)
    checks = dict[Check, None]()  # what is alike for several models stands once
    for overrides in _combinations(words(argv, "doctor")) if in_flags else [list(argv)]:
        cfg = compose(overrides)
        checks |= dict.fromkeys(examine(JobLoader().load(cfg), load_settings(cfg)))
    console = make_console()
    for check in checks:
        first, *more = as_typed(check.text, command).splitlines() or [""]
        say(console, f"{_SIGNS[check.state]} {check.subject}: {first}")
        for line in [*more, f"→ {as_typed(check.remedy, command)}"] if check.remedy else more:
            say(console, line.strip(), indent=4)
    missing = any(check.state == "missing" for check in checks)
    return int(ExitStatus.REFUSED if missing else ExitStatus.OK)


def _combinations(given: Sequence[str]) -> list[list[str]]:
    """The models, builds and kinds that a sweep would combine; of other keys the first value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values: list[list[str]] = []
    for override in OverridesParser.create().parse_overrides([word for word in given if word != "-m"]):
        key = override.get_key_element()
        if key.startswith("hydra"):
            continue
        texts = [f"{key}={value}" for value in override.sweep_string_iterator()] if override.is_sweep_override() else []
        texts = texts or [str(override.input_line)]
        values.append(texts if key in ("speculation", *PATHS) else texts[:1])
    return [list(combination) for combination in product(*values)]


def examine(job: Job, settings: RunSettings) -> Iterator[Check]:
    """Check all that this configuration depends on; what is missing in one part does not hide the others."""
    yield from _machine()
    reported: dict[str, str] = {}  # message -> the part that reported it first
    parts = {"llama.cpp": _program, "devices": _devices, "models": _models}
    for subject, check_part in parts.items():
        try:
            yield from check_part(job, settings)
        except VelosweepError as error:
            first = reported.setdefault(error.message, subject)
            if first == subject:
                yield Check("missing", subject, error.message, error.remedy)
            else:
                yield Check("missing", subject, f"unknown without {first}")
    for module, (extra, use) in _EXTRAS.items():
        if find_spec(module) is None:
            yield Check("note", "extra", f"{use} is not installed", install_extra(extra))


def _machine() -> Iterator[Check]:
    import psutil

    from velosweep.machine.cores import cpu_quota
    from velosweep.machine.environment import collect_environment

    machine = collect_environment(engine="", llama_cpp_build="")
    cores, memory = f"{machine.physical_cores} physical cores", bytes_words(machine.memory_bytes)
    yield Check("ok", "machine", f"{machine.host}: {machine.cpu}, {cores}, {memory}, {machine.system}")
    if (quota := cpu_quota()) is not None and quota < machine.logical_cores:
        text = f"a quota grants {quota:g} of {machine.logical_cores} logical cores"
        yield Check("warning", "quota", text, "threads that exhaust it are paused repeatedly; grant more if you can")
    yield Check("ok", "velosweep", f"{__version__} on Python {machine.python}")
    load = psutil.getloadavg()[0]
    if load > machine.physical_cores * 0.5:
        text = f"the load average is {load:.1f}: something else is running"
        yield Check("warning", "load", text, "measure on a quiet machine; results made now will say so")


def _program(job: Job, settings: RunSettings) -> Iterator[Check]:
    from velosweep.llama_cpp.attached import parse_url
    from velosweep.llama_cpp.selection import choose_engine

    found = choose_engine(job.engine, os.environ)
    kind = found.engine.name
    where = found.program or "inside velosweep's Python package xllamacpp"
    if kind == "attached":
        where = " and ".join(str(parse_url(url)) for url in (job.engine.vanilla_url, job.engine.speculative_url) if url)
    yield Check("ok", "llama.cpp", f"engine {kind}, build {found.engine.build}, {where} ({found.reason})")
    if kind == "embedded" and not found.engine.devices():
        remedy = "for a GPU, or for figures of your own llama.cpp, set llama_cpp.path=/path/to/llama.cpp"
        yield Check("note", "llama.cpp", "the embedded llama.cpp runs on the CPU only", remedy)
    known = found.engine.capabilities_for(job.speculation) if kind == "server" else None
    if known is not None:
        meanings = ("draft_model", "n_draft", "p_min", "spec_type", "draft_gpu_layers", "metrics")
        yield Check("ok", "flags", ", ".join(f"{meaning} {known.name(meaning) or 'none'}" for meaning in meanings))
        if known.name("draft_model") is None or known.name("n_draft") is None:
            remedy = "use a llama.cpp from December 2024 or later"
            yield Check("missing", "flags", "this build does not take a draft model", remedy)


def _devices(job: Job, settings: RunSettings) -> Iterator[Check]:
    from velosweep.measuring.prepare import open_lanes

    lanes, notes = open_lanes(job.engine, settings)
    for lane in lanes:
        yield Check("ok", f"lane {lane.number}", lane.label)
    for note in notes:
        yield Check("note", "devices", note)


def _models(job: Job, settings: RunSettings) -> Iterator[Check]:
    from velosweep.machine.memory import free_bytes
    from velosweep.measuring.prepare import prepare

    prepared = prepare([job], settings)
    for model in prepared.environment.models:
        described = model.description or f"GGUF, {bytes_words(model.size_bytes)}"  # a description holds the size
        yield Check("ok", "model", f"{model.path}: {described}")
    ready = prepared.jobs[0]
    if ready.model_pair.draft_model:
        yield Check("ok", "pair", "the draft's vocabulary fits the main model's")
    for warning in prepared.warnings:
        yield Check("warning", "setting", warning)
    if ready.engine.kind == "attached":  # what it needs is not ours to know
        return
    if free_bytes(prepared.lanes[0], nvml=prepared.nvml) is None:
        text = f"how much {prepared.lanes[0].label} has free is not known: two servers are loaded at a time"
        yield Check("note", "memory", text)
        return
    count = prepared.memory_estimates(prepared.lanes[0]).resident_servers(ready)
    remedy = "free memory, choose a smaller model or quantisation, or lower engine.context" if count < 2 else ""
    state = "warning" if remedy else "ok"
    yield Check(state, "memory", f"room for {plural(count, 'loaded server')} of this pair at once", remedy)
