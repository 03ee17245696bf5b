"""The steps of the first run: the answers first, then what they rest on."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from frame import VELOSWEEP, Kit, Result, StepFailed
from preparing import write_heads, write_pair

Row = Mapping[str, Any]


def _sweep(kit: Kit, name: str, pair: list[str], *overrides: str, context: int = 2048) -> tuple[list[Row], str]:
    """Measure; returns the jobs' rows of results.parquet, and a sentence where time ran out before the end."""
    import velosweep

    folder = kit.folder(name)
    engine = [f"llama_cpp.path={kit.bin}", "engine=server", f"engine.context={context}"]
    job = [f"n_predict={kit.scale.n_predict}", f"iterations={kit.scale.iterations}"]
    run = kit.velosweep("-m", *engine, *pair, *job, *overrides, f"hydra.sweep.dir={folder}", log=name, check=False)
    if not (folder / "results.parquet").is_file():
        said = " ".join(run.stdout.split())[-200:]
        raise StepFailed(f"velosweep ended with {run.returncode} and no results (logs/{name}.txt): {said}")
    rows = [row for row in velosweep.load_results(folder).to_pylist() if row["prompt_id"] is None]
    measured = [row for row in rows if row["speedup_gm"] is not None]
    if not measured:
        raise StepFailed(f"nothing was measured in pairs: see logs/{name}.txt")
    cut = f"{name}: velosweep ended with {run.returncode}; {len(measured)} settings measured" if run.returncode else ""
    return measured, cut


def _texts(rows: Sequence[Row], key: str) -> dict[str, str]:
    """Each setting's speedup with its interval."""
    return {str(row[key]): f"{row['speedup_gm']:.3f} [{_bound(row, 'low')}, {_bound(row, 'high')}]" for row in rows}


def _bound(row: Row, side: str) -> str:
    return f"{row[f'ci_{side}']:.3f}" if row[f"ci_{side}"] is not None else "?"


def _costs(rows: Sequence[Row]) -> dict[str, Any]:
    """By n_draft: v(n + 1), cost of a drafted token c, the draft's share of decoding; where they were measured."""
    columns = {"v": "batch_cost", "c": "cost_ratio", "draft_share": "draft_share"}
    return {
        name: {str(row["n_draft"]): round(row[column], 3) for row in rows if row.get(column) is not None}
        for name, column in columns.items()
    }


def grid(
    name: str, pair_of: Callable[[Kit], Sequence[str]], n_drafts_of: Callable[[Kit], Sequence[int]]
) -> Callable[[Kit], Result]:
    """A step: speedup over n_draft for a pair, and where the time goes."""

    def run(kit: Kit) -> Result:
        pair, written_s = write_pair(kit, pair_of(kit))
        drafts = ",".join(map(str, n_drafts_of(kit)))
        rows, cut = _sweep(kit, name, pair, f"n_draft={drafts}")
        best = max(rows, key=lambda row: row["speedup_gm"])
        jump = boundary(_costs(rows)["v"])
        return Result(
            figures={
                "written_s": written_s,
                "vanilla_tok_s": best["vanilla_tokens_per_second_mean"],
                "best_n_draft": best["n_draft"],
                "acceptance": best["acceptance"],
                "speedups": _texts(rows, "n_draft"),
                **_costs(rows),
            },
            folders=(f"sweeps/{name}",),
            surprises=tuple(filter(None, (cut, jump))),
        )

    return run


def boundary(v: Mapping[str, float]) -> str:
    """Where one token more in a batch costs over 1.3 times as much, as where another kernel takes over; else ''."""
    cost = {int(n_draft) + 1: value for n_draft, value in v.items()}
    for size in sorted(cost):
        if size + 1 in cost and cost[size + 1] > 1.3 * cost[size]:
            return f"a batch of {size + 1} costs {cost[size + 1] / cost[size]:.2f} times one of {size}"
    return ""


def streams(kit: Kit) -> Result:
    """Where speculation stops to pay as streams are added."""
    pair, _ = write_pair(kit, kit.scale.quantised)
    rows, cut = _sweep(kit, "streams", pair, "n_draft=4", f"concurrency={','.join(map(str, kit.scale.streams))}")
    vanilla = {str(row["concurrency"]): round(row["vanilla_tokens_per_second_mean"], 1) for row in rows}
    figures = {"speedups": _texts(rows, "concurrency"), "vanilla_tok_s": vanilla}
    return Result(figures=figures, folders=("sweeps/streams",), surprises=(cut,) if cut else ())


def depth(kit: Kit) -> Result:
    """Speedup on an empty context and behind a long one."""
    pair, _ = write_pair(kit, kit.scale.quantised)
    depths = f"depth=0,{kit.scale.depth}"
    rows, cut = _sweep(kit, "depth", pair, "n_draft=4", depths, context=kit.scale.depth + 1024)
    figures = {"speedups": _texts(rows, "depth")}
    return Result(figures=figures, folders=("sweeps/depth",), surprises=(cut,) if cut else ())


def heads(kit: Kit) -> Result:
    """Speedup with heads of each kind. What is said of one that the build doesn't know is a finding, no failure."""
    speedups: dict[str, str] = {}
    surprises, folders = [], []
    for kind in ("draft-eagle3", "draft-mtp"):
        pair = write_heads(kit, kit.scale.quantised, kind)
        try:
            rows, cut = _sweep(kit, kind, pair, f"speculation={kind}", "n_draft=3")
        except StepFailed as refused:
            surprises.append(f"{kind}: {refused}")
            continue
        (speedups[kind],) = _texts(rows, "n_draft").values()
        folders.append(f"sweeps/{kind}")
        surprises += [cut] if cut else []
    if not speedups:
        raise StepFailed("; ".join(surprises))
    return Result(figures={"speedups": speedups}, folders=tuple(folders), surprises=tuple(surprises))


def same_twice(kit: Kit) -> Result:
    """A/A: the same job twice, and what `compare` says: the ratio of the two should be 1."""
    import velosweep

    pair, _ = write_pair(kit, kit.scale.quantised)
    folders = [kit.folder(f"same-{number}") for number in (1, 2)]
    for folder in folders:
        job = [f"llama_cpp.path={kit.bin}", "engine=server", "engine.context=2048", *pair, "n_draft=4"]
        kit.velosweep(
            *job, f"n_predict={kit.scale.n_predict}", "iterations=3", f"hydra.run.dir={folder}", log=folder.name
        )
    one, other = (
        next(row["speedup_gm"] for row in velosweep.load_results(folder).to_pylist() if row["prompt_id"] is None)
        for folder in folders
    )
    compared = kit.velosweep("compare", *map(str, folders), log="same-compare", check=False)
    surprises = [] if abs(other / one - 1) <= kit.scale.agreement else [f"the same job twice: {one:.3f}, {other:.3f}"]
    if compared.returncode:
        surprises.append(f"compare ended with {compared.returncode}: see logs/same-compare.txt")
    return Result(
        figures={"first": one, "second": other, "ratio": other / one},
        folders=tuple(f"sweeps/{folder.name}" for folder in folders),
        surprises=tuple(surprises),
    )


def conditions(kit: Kit) -> Result:
    """Heat, clock, power, energy and outputs of all runs so far, beside what nvidia-smi says now."""
    import velosweep

    folders = sorted(path for path in (kit.work / "sweeps").glob("*") if (path / "samples.parquet").is_file())
    rows = [row for folder in folders for row in velosweep.load(folder).to_pylist()]
    rows = [row for row in rows if row["status"] == "ok" and not row["warmup"]]
    figures: dict[str, Any] = {"runs": len(rows)}
    for name in ("gpu_temperature_c", "gpu_clock_mhz", "gpu_power_w", "energy_j", "load_average"):
        values = [row[name] for row in rows if row[name] is not None]
        figures[name] = f"{min(values):.4g} to {max(values):.4g}" if values else "not read"
    outputs = [row for row in rows if row["mode"] == "Speculative"]
    figures["outputs_apart"] = f"{sum(row['first_divergence'] is not None for row in outputs)} of {len(outputs)}"
    if kit.cpu:
        return Result(figures=figures)
    asked = "temperature.gpu,clocks.sm,power.draw,memory.used"
    figures["nvidia_smi"] = kit.run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]).stdout.strip()
    unread = [name for name, value in figures.items() if value == "not read"]
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
    """How many servers the plan holds in memory at once, and that no load failed for want of it."""
    logs = sorted((kit.work / "logs").glob("*.txt"))
    short = [log.name for log in logs if "No room" in log.read_text() or "out of memory" in log.read_text()]
    if short:
        raise StepFailed(f"memory was too short in {', '.join(short)}")
    pair, _ = write_pair(kit, kit.scale.quantised)
    drafts = f"n_draft={','.join(map(str, kit.scale.n_drafts))}"
    said = kit.velosweep("-m", f"llama_cpp.path={kit.bin}", "engine=server", *pair, drafts, "dry_run=true").stdout
    plan = next((line.strip() for line in said.splitlines() if "load" in line.lower()), "")
    return Result(figures={"logs_read": len(logs), "plan": plan[:160]})


def busy(kit: Kit) -> Result:
    """A second sweep on a device in use is refused with who uses it; the same GPU twice is refused, too."""
    pair, _ = write_pair(kit, kit.scale.quantised)
    folder = kit.folder("busy")
    job = [f"llama_cpp.path={kit.bin}", "engine=server", "engine.context=2048", *pair, "n_draft=4"]
    first = subprocess.Popen(
        [sys.executable, "-c", VELOSWEEP, *job, "iterations=500", f"hydra.run.dir={folder}"],
        cwd=kit.work,
        env=kit.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + kit.left_s() / 2
        while not any(folder.glob("**/*journal*")) and first.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        second = kit.velosweep(*job, "on_busy=fail", f"hydra.run.dir={folder}-2", log="busy", check=False)
        twice = kit.velosweep(*job, "gpus=[0,0]", "dry_run=true", log="busy-twice", check=False)
    finally:
        first.terminate()
        first.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)  # of no use but this
    if second.returncode != 2 or "in use by" not in second.stdout:
        raise StepFailed(f"the second sweep ended with {second.returncode}: see logs/busy.txt")
    if twice.returncode != 2:
        raise StepFailed(f"gpus=[0,0] ended with {twice.returncode}: see logs/busy-twice.txt")
    said = next(line.strip() for line in second.stdout.splitlines() if "in use by" in line)
    return Result(figures={"said": said[:140], "first_ended_with": first.returncode})
