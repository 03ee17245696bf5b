"""The steps before anything is measured: packages, machine and doctor, and the synthetic pairs."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from frame import Kit, Result, StepFailed

NEEDED = ("hydra", "omegaconf", "gguf", "pyarrow", "numpy", "scipy", "psutil", "filelock", "rich", "jinja2", "orjson")
_ASKED = "name,driver_version,memory.total,temperature.gpu,clocks.sm,clocks.max.sm,power.draw,power.limit"


def install(kit: Kit) -> Result:
    """The wheels carried along, into a folder of the kit's own; then everything velosweep imports must be there."""
    wheels = sorted(kit.wheels.glob("*.whl")) if kit.wheels.is_dir() else []
    if wheels:
        target = kit.work / "site"
        shutil.rmtree(target, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
        kit.run([*pip, "--target", target, *wheels], log="install")
        sys.path.insert(0, str(target))
    missing = [name for name in (*NEEDED, "velosweep") if importlib.util.find_spec(name) is None]
    if missing:
        raise StepFailed(f"missing here: {', '.join(missing)}; pack again with --wheel for each")
    version = kit.velosweep("--version").stdout.strip()
    return Result(
        figures={"velosweep": version.split()[-1], "python": platform.python_version(), "wheels": len(wheels)}
    )


def machine(kit: Kit) -> Result:
    """What this machine is in the driver's words, the devices llama-server sees, and what `velosweep doctor` says."""
    figures: dict[str, object] = {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}
    if not kit.cpu:
        answer = kit.run(["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv,noheader"], log="nvidia-smi")
        figures["gpu"] = answer.stdout.strip()
    figures["disk_free_gb"] = shutil.disk_usage(kit.work).free // 10**9
    version = kit.run([kit.bin / "llama-server", "--version"]).stdout
    figures["llama_cpp"] = next((line for line in version.splitlines() if line.startswith("version")), "unknown")
    said = kit.run([kit.bin / "llama-server", "--list-devices"], log="list-devices").stdout
    devices = [line.strip() for line in said.splitlines() if line.startswith("  ") and ":" in line]
    figures["devices"] = "; ".join(devices) or "CPU"
    if not kit.cpu and not devices:
        raise StepFailed(f"llama-server sees no GPU: {said.strip()[-300:]}")
    doctor = kit.velosweep("doctor", f"llama_cpp.path={kit.bin}", "engine=server", log="doctor", check=False)
    figures["doctor"] = doctor.returncode
    if not kit.cpu and str(figures["gpu"]).split(",")[0] not in doctor.stdout:
        raise StepFailed("doctor says nothing of the GPU: see logs/doctor.txt")
    surprises = ("doctor does not find everything: see logs/doctor.txt",) if doctor.returncode else ()
    return Result(figures=figures, surprises=surprises)


def write_pair(kit: Kit, pair: Sequence[str]) -> tuple[list[str], float]:
    """The overrides that name a pair, which is written where it isn't there; and the seconds that took."""
    start = time.monotonic()
    paths = _synth(kit, pair)
    return _named(paths["main model"], paths["draft model"]), time.monotonic() - start


def write_heads(kit: Kit, pair: Sequence[str], kind: str) -> list[str]:
    """The overrides that name a pair's main model with heads of a kind, written where they aren't there."""
    paths = _synth(kit, pair, f"--heads={kind}")
    return _named(paths.get("MTP main model", paths["main model"]), paths[kind])


def _named(main: str, draft: str) -> list[str]:
    return [f"model_pair.main_model={main}", f"model_pair.draft_model={draft}"]


def _synth(kit: Kit, pair: Sequence[str], *options: str) -> dict[str, str]:
    """The files that `velosweep synth` says it wrote, by what it calls them."""
    command = ["synth", "--out", str(kit.work / "models"), *options, *pair]
    said = kit.velosweep(*command, log="synth").stdout
    paths = {what.strip(): path for what, path in re.findall(r"^(\w.{13} )(.+?)  \(", said, re.MULTILINE)}
    if not paths or not all(Path(path).is_file() for path in paths.values()):
        raise StepFailed("velosweep synth wrote no models: see logs/synth.txt")
    return paths
