"""`velosweep best` against a full grid of the same candidates, on the synthetic main model with its draft and head.

    python -m tests.benchmarks.bench_best [--budget 150s] [--iterations 5] [--eps 0.03]

Prints the end of the search, whether its winner is the grid's or among those that the grid can't tell from its best,
and the runs and seconds of both. The folder holds two models besides that can't draft. On a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="150s")
    parser.add_argument("--iterations", type=int, default=5, help="of each setting of the grid")
    parser.add_argument("--eps", default="0.03", help="how far the draft is from the main model (default: the pair's)")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_models(folder / "models", f"eps={options.eps}")
        best, best_s = run(folder, "best", str(model), "--budget", options.budget, "--out", str(folder / "best"))
        words = grid_words(folder / "best")
        grid, grid_s = run(folder, *words, f"iterations={options.iterations}", f"hydra.sweep.dir={folder / 'grid'}")
        print(best[best.rindex("\n\n") :].strip())  # the end alone
        print(grid[grid.rindex("\n\n") :].strip())
        print(verdict(folder / "best", folder / "grid"))
        runs, of_grid = count(folder / "best"), count(folder / "grid")
        print(f"runs: {runs} and {of_grid} ({runs / of_grid:.2f}); {best_s:.0f} s and {grid_s:.0f} s")


def write_models(folder: Path, eps: str) -> Path:
    """main.gguf with its draft and EAGLE-3 head, a draft of another vocabulary, and one that is too large."""
    wanted = {
        "main": ("*-main.gguf", "--heads", "draft-eagle3", eps),
        "draft": ("*-draft.gguf", eps),
        "eagle3": ("*-eagle3.gguf", "--heads", "draft-eagle3", eps),
        "other": ("*-draft.gguf", "vocabulary=512", "layers=4"),
        "larger": ("*-main.gguf", "layers=18", "kept_layers=2"),
    }
    folder.mkdir()
    for name, (pattern, *words) in wanted.items():
        made = folder.parent / "made" / name
        command = [sys.executable, "-m", "velosweep", "synth", "--out", str(made), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        next(made.glob(pattern)).rename(folder / f"{name}.gguf")
    return folder / "main.gguf"


def grid_words(searched: Path) -> list[str]:
    """The command line of the search's candidates without the search."""
    overrides = yaml.safe_load((searched / "multirun.yaml").read_text())["hydra"]["overrides"]
    words = [*overrides["hydra"], *overrides["task"]]
    own = ("hydra/sweeper=", "hydra.sweep.dir=", "hydra.mode=", "tuner.")
    return ["-m", *(word for word in words if not word.startswith(own))]


def verdict(searched: Path, grid: Path) -> str:
    """How the search's winner stands in the grid."""
    advised = json.loads((searched / "sweep.json").read_text())["advised"]
    chosen = [place(row) for row in rows(searched) if row["job_id"] in advised]
    able = [row for row in rows(grid) if row["speedup_gm"] and row["drafted"] is not False]
    best = max(able, key=lambda row: row["speedup_gm"])
    may_win = {place(row): row["may_be_best"] for row in able}
    speedups = {place(row): row["speedup_gm"] for row in able}
    if not chosen:
        said = "the grid agrees" if best["ci_low"] is None or best["ci_low"] <= 1 else "THE GRID DOES NOT"
        return f"winner: no speculation; {said} ({best['speedup_gm']:.2f} at best, from {best['ci_low']})"
    said = "a tie in the grid" if may_win[chosen[0]] else "NOT THE GRID'S"
    if chosen[0] == place(best):
        said = "the grid's, too"
    beside = f"its best: {place(best)}, {best['speedup_gm']:.2f}"
    return f"winner: {chosen[0]}, {said} ({speedups[chosen[0]]:.2f} there; {beside})"


def place(row: dict[str, Any]) -> tuple[object, ...]:
    """What tells a candidate from the others: ids differ, since iterations do."""
    return (row["speculation"], Path(row["draft_model"] or "").name[-12:], row["n_draft"], row.get("speculation_p_min"))


def run(folder: Path, *words: str) -> tuple[str, float]:
    """What the command printed, and its seconds."""
    environment = {**os.environ, "VELOSWEEP_LOCK_DIR": str(folder / "locks"), "HOME": str(folder / "home")}
    began = time.perf_counter()
    command = [sys.executable, "-m", "velosweep", *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
    return done.stdout, time.perf_counter() - began


def rows(folder: Path) -> list[dict[str, Any]]:
    every = pq.read_table(folder / "results.parquet").to_pylist()
    return [row for row in every if row["prompt_id"] is None]


def count(folder: Path) -> int:
    return sum(not row["warmup"] for row in pq.read_table(folder / "samples.parquet").to_pylist())


if __name__ == "__main__":
    main()
