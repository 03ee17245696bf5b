"""The steps that measure: fidelity, batch cost, sweeps, A/A, conditions, residency, one sweep a GPU."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from frame import VELOSWEEP, Kit, Result, Step, StepFailed
from preparing import pair

PROMPT = "Explain quantum computing in simple terms"


def doctor(kit: Kit) -> Result:
    """`velosweep doctor` finds the program and the device, and nothing missing."""
    kind = kit.scale.types[-1]
    with pair(kit, kind, 0.0) as model:
        said = kit.velosweep("doctor", *kit.overrides(model=model), minutes=2, log="doctor").stdout
    expected = ["llama-server"] + ([] if kit.cpu else [kit.figure("machine", "gpu").split(",")[0]])
    missing = [word for word in expected if word not in said]
    if missing:
        raise StepFailed(f"doctor says nothing of {', '.join(missing)}: see logs/doctor.txt")
    return Result(figures={"lines": len(said.splitlines())})


def fidelity(kit: Kit) -> Result:
    """The vanilla decoding speed of each type beside llama-bench's, same model, same length, same depth."""
    import velosweep

    figures: dict[str, Any] = {}
    surprises, folders = [], []
    for kind in kit.scale.types:
        folder = kit.folder("fidelity", f"fidelity-{kind}")
        with pair(kit, kind, 0.0) as model:
            job = ["n_draft=4", f"iterations={kit.scale.repetitions}", f"prompt='{PROMPT}'"]
            kit.velosweep(
                *kit.overrides(model=model), *job, f"hydra.run.dir={folder}", minutes=6, log=f"fidelity-{kind}"
            )
            samples = velosweep.load(folder).to_pylist()
            good = [row for row in samples if row["mode"] == "Vanilla" and row["status"] == "ok" and not row["warmup"]]
            depth = good[0]["prompt_tokens"]
            bench = _bench(kit, model["main_model"], ["-p", "0", "-n", str(kit.scale.n_predict), "-d", str(depth)])
        ours = statistics.median(row["tokens_per_second"] for row in good)
        ratio = ours / bench[0]["avg_ts"]
        figures |= {f"{kind}_tok_s": ours, f"{kind}_bench": bench[0]["avg_ts"], f"{kind}_ratio": ratio}
        folders.append(str(folder.relative_to(kit.work)))
        if abs(ratio - 1) > kit.scale.agreement:
            surprises.append(f"{kind}: {ours:.1f} tok/s here, {bench[0]['avg_ts']:.1f} in llama-bench")
    return Result(figures=figures, folders=tuple(folders), surprises=tuple(surprises))


def batch_cost(kit: Kit) -> Result:
    """v(k): what a batch of k tokens costs in single steps, by llama-bench; where it jumps."""
    figures: dict[str, Any] = {}
    surprises = []
    for kind in kit.scale.types:
        with pair(kit, kind, 0.0) as model:
            sizes = ",".join(str(size) for size in kit.scale.batches)
            rows = _bench(kit, model["main_model"], ["-n", "0", "-p", sizes, "-d", "64"])
        time_s = {row["n_prompt"]: row["n_prompt"] / row["avg_ts"] for row in rows}
        cost = {size: time_s[size] / time_s[1] for size in kit.scale.batches}
        figures[kind] = {str(size): round(value, 3) for size, value in cost.items()}
        for one, other in zip(kit.scale.batches, kit.scale.batches[1:], strict=False):
            if one > 1 and other - one == 1 and cost[other] > 1.3 * cost[one]:
                surprises.append(f"{kind}: a batch of {other} costs {cost[other] / cost[one]:.2f} times one of {one}")
    return Result(figures=figures, surprises=tuple(surprises))


def sweep_steps(kit: Kit) -> list[Step]:
    """The main sweeps: one step for each type and acceptance."""
    return [
        Step(name=f"sweep:{kind}:{target}", minutes=10, run=partial(sweep, kind=kind, target=target))
        for kind in kit.scale.types
        for target in kit.scale.targets
    ]


def sweep(kit: Kit, kind: str, target: float) -> Result:
    """Speedup over n_draft for one type and acceptance, and the share of the time that was decoding."""
    import velosweep

    folder = kit.folder(f"sweep:{kind}:{target}", f"{kind}-{target}")
    drafts = ",".join(str(value) for value in kit.scale.n_drafts)
    with pair(kit, kind, kit.figure("calibrate", f"eps_{target}")) as model:
        job = [f"n_draft={drafts}", "protocol=quick", f"hydra.sweep.dir={folder}"]
        start = time.monotonic()
        kit.velosweep("-m", *kit.overrides(model=model), *job, minutes=9, log=f"sweep-{kind}-{target}")
        seconds = time.monotonic() - start
    rows = [row for row in velosweep.load_results(folder).to_pylist() if row["prompt_id"] is None]
    samples = velosweep.load(folder).to_pylist()
    decoding_s = sum((row["total_time_ms"] or 0) for row in samples) / 1000
    speedups = {str(row["n_draft"]): round(row["speedup_gm"], 3) for row in rows if row["speedup_gm"]}
    if len(speedups) < len(kit.scale.n_drafts):
        raise StepFailed(f"{len(speedups)} of {len(kit.scale.n_drafts)} n_draft were measured: see {folder}")
    best = max(rows, key=lambda row: row["speedup_gm"])
    vanilla = [row["tokens_per_second"] for row in samples if row["mode"] == "Vanilla" and row["status"] == "ok"]
    return Result(
        figures={
            "best_n_draft": best["n_draft"],
            "best_speedup": best["speedup_gm"],
            "interval": f"{best['ci_low']:.3f} to {best['ci_high']:.3f}",
            "acceptance": best["acceptance"],
            "vanilla_tok_s": statistics.median(vanilla),
            "decoding_share": decoding_s / seconds,
            "speedups": speedups,
        },
        folders=(str(folder.relative_to(kit.work)),),
    )


def equality(kit: Kit) -> Result:
    """How many speculative outputs of all sweeps are token for token the vanilla one, by type."""
    import velosweep

    figures: dict[str, Any] = {}
    surprises = []
    for kind in kit.scale.types:
        rows = [
            row
            for target in kit.scale.targets
            if (kit.mark(f"sweep:{kind}:{target}") or {"ok": False})["ok"]
            for row in velosweep.load(kit.work / "sweeps" / f"{kind}-{target}").to_pylist()
            if row["mode"] == "Speculative" and row["status"] == "ok" and not row["warmup"]
        ]
        if not rows:
            raise StepFailed(f"no sweep of {kind} is done")
        apart = [row["first_divergence"] for row in rows if row["first_divergence"] is not None]
        figures |= {f"{kind}_outputs": len(rows), f"{kind}_diverged": len(apart)}
        if apart:
            figures[f"{kind}_first_at"] = min(apart)
            surprises.append(f"{kind}: {len(apart)} of {len(rows)} outputs leave the vanilla one")
    return Result(figures=figures, surprises=tuple(surprises))


def same_twice(kit: Kit) -> Result:
    """A/A: the same sweep twice; the intervals of the ratio of the two should hold 1."""
    import velosweep

    kind, target = kit.scale.types[-1], sorted(kit.scale.targets)[1]
    folders = [kit.folder("same_twice", f"same-{number}") for number in (1, 2)]
    with pair(kit, kind, kit.figure("calibrate", f"eps_{target}")) as model:
        for folder in folders:
            job = ["n_draft=4", f"iterations={kit.scale.repetitions}", f"hydra.run.dir={folder}"]
            kit.velosweep(*kit.overrides(model=model), *job, minutes=4, log=folder.name)
    speedups = [
        next(row["speedup_gm"] for row in velosweep.load_results(folder).to_pylist() if row["prompt_id"] is None)
        for folder in folders
    ]
    compared = kit.velosweep("compare", *map(str, folders), minutes=1, log="same-compare", check=False)
    ratio = speedups[1] / speedups[0]
    surprises = [] if abs(ratio - 1) <= kit.scale.agreement else [f"the same sweep twice: speedups {speedups}"]
    if compared.returncode:
        surprises.append(f"compare ended with {compared.returncode}: see logs/same-compare.txt")
    return Result(
        figures={"first": speedups[0], "second": speedups[1], "ratio": ratio},
        folders=tuple(str(folder.relative_to(kit.work)) for folder in folders),
        surprises=tuple(surprises),
    )


def tune(kit: Kit) -> Result:
    """The tuner's certified best n_draft beside the grid's."""
    import velosweep

    kind, target = kit.scale.types[-1], sorted(kit.scale.targets)[1]
    folder = kit.folder("tune", "tune")
    top = max(kit.scale.n_drafts)
    with pair(kit, kind, kit.figure("calibrate", f"eps_{target}")) as model:
        job = ["hydra/sweeper=tune", f"n_draft=range(1,{top + 1})", f"hydra.sweep.dir={folder}"]
        said = kit.velosweep("-m", *kit.overrides(model=model), *job, minutes=10, log="tune").stdout
    (search,) = json.loads((folder / "sweep.json").read_text())["searches"]
    winner = next(one["name"] for one in search["candidates"] if one["job_id"] == search["job_id"])
    grid = kit.figure(f"sweep:{kind}:{target}", "speedups")
    return Result(
        figures={
            "tuned": winner,
            "tuned_speedup": search["speedup"] or 1.0,
            "tuned_certified": search["certified"],
            "grid_best": max(grid, key=grid.get),
            "grid_speedup": max(grid.values()),
            "runs": velosweep.load(folder).num_rows,
            "last_line": (said.strip().splitlines() or [""])[-1][:160],
        },
        folders=(str(folder.relative_to(kit.work)),),
    )


def conditions(kit: Kit) -> Result:
    """Heat, clock, power and energy of the sweeps; energy beside power times time."""
    import velosweep

    folders = sorted(path for path in (kit.work / "sweeps").iterdir() if (path / "samples.parquet").is_file())
    rows = [
        row
        for folder in folders
        for row in velosweep.load(folder).to_pylist()
        if row["status"] == "ok" and not row["warmup"]
    ]
    names = ("gpu_temperature_c", "gpu_clock_mhz", "gpu_power_w", "energy_j", "load_average")
    figures: dict[str, Any] = {"runs": len(rows)}
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        figures[name] = f"{min(values):.4g} to {max(values):.4g}" if values else "not read"
    if kit.cpu:
        return Result(figures=figures)
    unread = [name for name in names if figures[name] == "not read"]
    if unread:
        raise StepFailed(f"the driver told nothing of {', '.join(unread)}")
    # the power is that of the run's end, so this is a check of the order, not of the digits
    shares = [
        row["energy_j"] / (row["gpu_power_w"] * row["total_time_ms"] / 1000) for row in rows if row["gpu_power_w"]
    ]
    figures["energy_over_power_x_time"] = statistics.median(shares)
    far = not 0.3 < figures["energy_over_power_x_time"] < 3
    return Result(figures=figures, surprises=("energy is far from power times time",) if far else ())


def residency(kit: Kit) -> Result:
    """How many servers were loaded at once, and that no load failed for want of memory."""
    kind = kit.scale.types[0]
    logs = sorted((kit.work / "logs").glob(f"sweep-{kind}-*.txt"))
    short = [log.name for log in logs if "No room" in log.read_text() or "out of memory" in log.read_text()]
    if short:
        raise StepFailed(f"memory was too short in {', '.join(short)}")
    with pair(kit, kind, 0.0) as model:
        drafts = ",".join(str(value) for value in kit.scale.n_drafts)
        job = [f"n_draft={drafts}", "dry_run=true"]
        said = kit.velosweep("-m", *kit.overrides(model=model), *job, minutes=2, log="residency").stdout
    plan = next((line.strip() for line in said.splitlines() if "load" in line.lower()), "")
    return Result(figures={"sweeps_looked_at": len(logs), "plan": plan[:160]})


def busy(kit: Kit) -> Result:
    """A second sweep on a device in use is refused with who uses it; the same GPU twice is refused, too."""
    kind = kit.scale.types[-1]
    folder = kit.work / "sweeps" / "busy"
    for old in (folder, kit.work / "sweeps" / "busy-2"):  # a sweep that goes on may end before the second one asks
        shutil.rmtree(old, ignore_errors=True)
    with pair(kit, kind, 0.0) as model:
        overrides = kit.overrides(model=model)
        first = subprocess.Popen(
            [sys.executable, "-c", VELOSWEEP, *overrides, "iterations=50", f"hydra.run.dir={folder}"],
            cwd=kit.work,
            env=kit.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _until(lambda: any(folder.glob("**/*journal*")) or first.poll() is not None, seconds=120)
            time.sleep(1)
            second = kit.velosweep(
                *overrides, "on_busy=fail", f"hydra.run.dir={folder}-2", minutes=2, log="busy", check=False
            )
            twice = kit.velosweep(*overrides, "gpus=[0,0]", "dry_run=true", minutes=2, log="busy-twice", check=False)
        finally:
            first.terminate()
            first.wait(timeout=60)
    if second.returncode != 2 or "in use by" not in second.stdout:
        raise StepFailed(f"the second sweep ended with {second.returncode}: see logs/busy.txt")
    if twice.returncode != 2:
        raise StepFailed(f"gpus=[0,0] ended with {twice.returncode}: see logs/busy-twice.txt")
    return Result(
        figures={
            "said": next(line for line in second.stdout.splitlines() if "in use by" in line)[:140],
            "first_ended_with": first.returncode,
        }
    )


def _until(condition: Any, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)


def _bench(kit: Kit, model: str, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """llama-bench's rows, as JSON; on the CPU with as many threads as velosweep takes."""
    from velosweep.machine.cores import resolve_threads

    device = ["-ngl", "0", "-t", str(resolve_threads(1, None))] if kit.cpu else ["-ngl", "99"]
    command = [
        kit.bin / "llama-bench",
        "-m",
        model,
        "-r",
        str(kit.scale.repetitions),
        "-o",
        "json",
        *device,
        *arguments,
    ]
    output = kit.run(command, minutes=6, log="llama-bench").stdout
    rows = json.loads(output[output.index("[\n") : output.rindex("]") + 1])
    if not rows:
        raise StepFailed("llama-bench gave no row: see logs/llama-bench.txt")
    return list(rows)
