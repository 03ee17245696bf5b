"""The steps before anything is measured: packages, machine, llama.cpp, and pairs of a chosen acceptance."""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from building import PROGRAMS, build_command, configure_command, find_toolkit
from frame import Kit, OutOfTime, Result, StepFailed

NEEDED = ("hydra", "omegaconf", "gguf", "pyarrow", "numpy", "scipy", "psutil", "filelock", "rich", "jinja2", "plotly")
CLOSE_ENOUGH = 0.04  # of the per-token acceptance asked for
TRIES = 7


def install(kit: Kit) -> Result:
    """The wheels carried along, into a folder of the kit's own; then everything velosweep imports must be there."""
    wheels = sorted(kit.wheels.glob("*.whl")) if kit.wheels.is_dir() else []
    if wheels:
        target = kit.work / "site"
        shutil.rmtree(target, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target]
        kit.run([*pip, *wheels], minutes=3, log="install")
        sys.path.insert(0, str(target))
    missing = [name for name in (*NEEDED, "velosweep") if importlib.util.find_spec(name) is None]
    if missing:
        raise StepFailed(f"missing here: {', '.join(missing)}; pack again with --wheel for each")
    version = kit.velosweep("--version", minutes=1).stdout.strip()
    return Result(
        figures={"velosweep": version.split()[-1], "python": platform.python_version(), "wheels": len(wheels)}
    )


def machine(kit: Kit) -> Result:
    """What this machine is, in the driver's words."""
    figures: dict[str, object] = {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}
    if not kit.cpu:
        query = "name,driver_version,memory.total,temperature.gpu,clocks.sm,clocks.max.sm,power.draw,power.limit"
        answer = kit.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], minutes=1, log="nvidia-smi")
        figures["gpu"] = answer.stdout.strip()
        toolkit = find_toolkit(kit.work)
        if toolkit is None:
            raise StepFailed("no nvcc: install the CUDA toolkit, or run the kit with --cpu")
        figures["nvcc"] = kit.run([toolkit.compiler, "--version"], minutes=1).stdout.split("release ")[-1].split(",")[0]
        figures["toolkit"] = str(toolkit.root)
    figures["disk_free_gb"] = shutil.disk_usage(kit.work).free // 10**9
    return Result(figures=figures)


def build(kit: Kit) -> Result:
    """llama-server, llama-bench, llama-completion; where they are given with --bin, only looked at."""
    if kit.bin == kit.build / "bin":
        toolkit = None if kit.cpu else find_toolkit(kit.work)
        if not (kit.build / "CMakeCache.txt").is_file() or (
            not any(kit.build.glob("*akefile")) and not any(kit.build.glob("build.ninja"))
        ):
            shutil.rmtree(kit.build, ignore_errors=True)
            kit.run(configure_command(kit.sources, kit.build, toolkit, kit.architecture), minutes=3, log="configure")
        kit.run(build_command(kit.build, PROGRAMS, kit.jobs), minutes=45, log="build")
    missing = [name for name in PROGRAMS if not (kit.bin / name).is_file()]
    if missing:
        raise StepFailed(f"{', '.join(missing)} not in {kit.bin}")
    devices = kit.run([kit.bin / "llama-server", "--list-devices"], minutes=1, log="list-devices").stdout
    listed = [line.strip() for line in devices.splitlines() if line.startswith("  ")]
    if not kit.cpu and not any(line.startswith("CUDA") for line in listed):
        raise StepFailed(f"the build sees no CUDA device: {devices.strip()[-300:]}")
    version = kit.run([kit.bin / "llama-server", "--version"], minutes=1).stdout
    return Result(figures={"version": version.strip().splitlines()[0], "devices": "; ".join(listed) or "CPU"})


def calibrate(kit: Kit) -> Result:
    """The eps for each acceptance asked for, by bisection with real runs of the cheapest type."""
    figures: dict[str, object] = {}
    for target in kit.scale.targets:
        eps, alpha, tries = _eps_for(kit, target)
        figures |= {f"eps_{target}": eps, f"alpha_{target}": alpha, f"tries_{target}": tries}
    off = [target for target in kit.scale.targets if abs(float(str(figures[f"alpha_{target}"])) - target) > 0.08]
    surprises = tuple(f"acceptance {target} was not reached: {figures[f'alpha_{target}']:.3f}" for target in off)
    return Result(figures=figures, surprises=surprises)


def _eps_for(kit: Kit, target: float) -> tuple[float, float, int]:
    """eps, the acceptance measured with it, and how many were tried."""
    cheapest = kit.scale.types[-1]
    if target >= 1:
        return 0.0, _alpha(kit, cheapest, 0.0), 1
    low, high = math.log(5e-3), math.log(0.7)
    best = (0.0, -1.0)
    tries = 0
    while tries < TRIES:
        tries += 1
        eps = round(math.exp((low + high) / 2), 5)
        alpha = _alpha(kit, cheapest, eps)
        if abs(alpha - target) < abs(best[1] - target):
            best = (eps, alpha)
        if abs(alpha - target) <= CLOSE_ENOUGH:
            break
        low, high = (math.log(eps), high) if alpha > target else (low, math.log(eps))
    return (*best, tries)


def _alpha(kit: Kit, kind: str, eps: float) -> float:
    """Per-token acceptance of a pair, by one short job."""
    import velosweep

    folder = kit.work / "calibration" / f"{eps}"
    with pair(kit, kind, eps) as model:
        shutil.rmtree(folder, ignore_errors=True)
        overrides = [*kit.overrides(model=model), "n_draft=4", "iterations=1", "skip_vanilla=true"]
        kit.velosweep(*overrides, "prompts=mixed", f"hydra.run.dir={folder}", minutes=5, log=f"calibrate-{eps}")
    rows = velosweep.load_results(folder).to_pylist()
    alphas = [row["alpha"] for row in rows if row["prompt_id"] is None and row["alpha"] is not None]
    if not alphas:
        raise StepFailed(f"no acceptance was measured in {folder}")
    return float(alphas[0])


@contextmanager
def pair(kit: Kit, kind: str, eps: float, *, keep: bool = False) -> Iterator[dict[str, str]]:
    """A pair's files while the body runs, as values of `model_pair`; kept where asked, for they are large."""
    from velosweep.config.settings import SyntheticShape
    from velosweep.models.synthetic.pair import pair_paths, write_pair

    shape = SyntheticShape(**asdict(kit.scale.shape), eps=eps, type=kind)
    kit.models.mkdir(parents=True, exist_ok=True)
    main, draft = pair_paths(shape, kit.models)
    if kit.left_s() < 60:
        raise OutOfTime
    if not (main.is_file() and draft.is_file()):
        parts = main.with_suffix(".part"), draft.with_suffix(".part")
        write_pair(shape, *parts)
        for part, path in zip(parts, (main, draft), strict=True):
            part.replace(path)
    try:
        yield {"name": f"{kind}-eps{eps}", "main_model": str(main), "draft_model": str(draft)}
    finally:
        if not keep:
            for path in (main, draft):
                path.unlink(missing_ok=True)


def write_speed(kit: Kit) -> Result:
    """How long a pair of each type takes to write, and how large it is."""
    figures: dict[str, object] = {}
    for kind in kit.scale.types:
        start = time.monotonic()
        with pair(kit, kind, 0.0) as model:
            seconds = time.monotonic() - start
            size = sum(Path(model[name]).stat().st_size for name in ("main_model", "draft_model"))
        figures |= {f"{kind}_s": seconds, f"{kind}_gb": size / 1e9}
        if seconds > 60:
            return Result(figures=figures, surprises=(f"writing a pair of {kind} took {seconds:.0f} s",))
    return Result(figures=figures)
