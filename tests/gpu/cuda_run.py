"""The steps of the second run: llama.cpp built for CUDA, beside llama-bench, and the first run's sweep once more."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from building import PROGRAMS, build_command, configure_command, find_toolkit
from frame import Kit, Result, StepFailed
from preparing import write_pair

BATCHES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 32)


def build(kit: Kit) -> Result:
    """llama-server, llama-bench, llama-completion for this GPU alone; goes on where time ran out."""
    toolkit = None if kit.cpu else find_toolkit(kit.work)
    if not kit.cpu and toolkit is None:
        raise StepFailed("no nvcc: install the CUDA toolkit")
    if not (kit.build / "CMakeCache.txt").is_file():
        shutil.rmtree(kit.build, ignore_errors=True)
        kit.run(configure_command(kit.sources, kit.build, toolkit, kit.architecture), log="configure")
    kit.run(build_command(kit.build, PROGRAMS, kit.jobs), log="build")
    kit.bin = kit.build / "bin"
    missing = [name for name in PROGRAMS if not (kit.bin / name).is_file()]
    if missing:
        raise StepFailed(f"{', '.join(missing)} not in {kit.bin}")
    devices = kit.run([kit.bin / "llama-server", "--list-devices"], log="list-devices").stdout
    listed = [line.strip() for line in devices.splitlines() if line.startswith("  ")]
    if not kit.cpu and not any(line.startswith("CUDA") for line in listed):
        raise StepFailed(f"the build sees no CUDA device: {devices.strip()[-300:]}")
    return Result(figures={"devices": "; ".join(listed) or "CPU"})


def fidelity(kit: Kit) -> Result:
    """The vanilla decoding speed beside llama-bench's, same model, same length, same depth."""
    import velosweep

    pair, _ = write_pair(kit, kit.scale.quantised)
    folder = kit.folder("fidelity")
    job = [f"llama_cpp.path={kit.bin}", "engine=server", "engine.context=2048", *pair, "n_draft=4"]
    length = str(kit.scale.n_predict)
    kit.velosweep(*job, f"n_predict={length}", "iterations=4", f"hydra.run.dir={folder}", log="fidelity")
    samples = velosweep.load(folder).to_pylist()
    good = [row for row in samples if row["mode"] == "Vanilla" and row["status"] == "ok" and not row["warmup"]]
    bench = _bench(kit, _main_model(pair), ["-p", "0", "-n", length, "-d", str(good[0]["prompt_tokens"])])
    ours, theirs = statistics.median(row["tokens_per_second"] for row in good), bench[0]["avg_ts"]
    far = abs(ours / theirs - 1) > kit.scale.agreement
    return Result(
        figures={"tok_s": ours, "llama_bench": theirs, "ratio": ours / theirs},
        folders=("sweeps/fidelity",),
        surprises=(f"{ours:.1f} tok/s here, {theirs:.1f} in llama-bench",) if far else (),
    )


def batch_cost(kit: Kit) -> Result:
    """v(k): what a batch of k tokens costs in single steps, by llama-bench; beside what the sweep says of it."""
    pair, _ = write_pair(kit, kit.scale.quantised)
    rows = _bench(kit, _main_model(pair), ["-n", "0", "-p", ",".join(map(str, BATCHES)), "-d", "64"])
    time_s = {row["n_prompt"]: row["n_prompt"] / row["avg_ts"] for row in rows}
    return Result(figures={"llama_bench": {str(size): round(time_s[size] / time_s[1], 3) for size in BATCHES}})


def _main_model(pair: Sequence[str]) -> str:
    return pair[0].partition("=")[2]


def _bench(kit: Kit, model: str, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """llama-bench's rows, as JSON; on the CPU with as many threads as velosweep takes."""
    from velosweep.machine.cores import resolve_threads

    device = ["-ngl", "0", "-t", str(resolve_threads(1, None))] if kit.cpu else ["-ngl", "99"]
    program: list[str | Path] = [kit.bin / "llama-bench", "-m", model, "-r", "3", "-o", "json"]
    output = kit.run([*program, *device, *arguments], log="llama-bench").stdout
    rows = json.loads(output[output.index("[\n") : output.rindex("]") + 1])
    if not rows:
        raise StepFailed("llama-bench gave no row: see logs/llama-bench.txt")
    return list(rows)
