"""The search against a full adaptive grid, on the embedded llama.cpp and three synthetic pairs, in one run.

    python -m tests.benchmarks.bench_tune [--eps 0.01 0.03 0.1] [--target 0.02]

For each pair: the winner of `hydra/sweeper=tune`, of the grid with `protocol=adaptive` at the same tolerance, whether
they agree or the search calls it a tie, and the wall-clock and measurements of both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

GRID = "n_draft=1,2,3,4,5,6,8,12"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.01, 0.03, 0.1])
    parser.add_argument("--target", type=float, default=0.02)
    parser.add_argument("--pairs", type=int, default=20, help="most pairs of the grid")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, tolerance {options.target:.0%}")
    print("eps    tune: best  ties             runs  wall s | grid: best  runs  wall s | agree")
    for eps in options.eps:
        print(one_pair(eps, options.target, options.pairs), flush=True)


def one_pair(eps: float, target: float, pairs: int) -> str:
    common = [GRID, "n_predict=64", "engine=embedded", f"model_pair.synthetic.eps={eps}"]
    with tempfile.TemporaryDirectory() as folder:
        searched, tune_s = run([*common, "hydra/sweeper=tune", f"tuner.tolerance={target}"], Path(folder) / "tune")
        adaptive = ["protocol=adaptive", f"protocol.adaptive.target={target}", f"protocol.adaptive.max_pairs={pairs}"]
        gridded, grid_s = run([*common, *adaptive], Path(folder) / "grid")
        record = json.loads((searched / "sweep.json").read_text())
        chosen = {job["n_draft"] for job in record["jobs"] if job["id"] in record["advised"]} or {0}
        ties = near(searched, chosen)
        rows = [row for row in pq.read_table(gridded / "results.parquet").to_pylist() if row["prompt_id"] is None]
        best = max(rows, key=lambda row: row["speedup_gm"] or 0.0)
        best_n = best["n_draft"] if best["speedup_gm"] > 1 else 0
        agree = "yes" if best_n in chosen else "tie" if best_n in ties else "NO"
        return (
            f"{eps:<6} {min(chosen):>9}  {ties!s:<16} {count(searched):>4}  {tune_s:>6.1f} | {best_n:>9}  "
            f"{count(gridded):>4}  {grid_s:>6.1f} | {agree}"
        )


def near(folder: Path, chosen: set[int]) -> list[int]:
    """The n_draft that remained to the end of elimination, without the winner."""
    rows = [row for row in pq.read_table(folder / "tuner.parquet").to_pylist() if row["phase"] == "race"]
    last = max((row["round"] for row in rows), default=0)
    return sorted({row["n_draft"] for row in rows if row["round"] == last and row["kept"]} - chosen)


def count(folder: Path) -> int:
    return sum(not row["warmup"] for row in pq.read_table(folder / "samples.parquet").to_pylist())


def run(arguments: Sequence[str], root: Path) -> tuple[Path, float]:
    environment = {**os.environ, "VELOSWEEP_LOCK_DIR": str(root.parent / "locks")}
    began = time.perf_counter()
    command = [sys.executable, "-m", "velosweep", "-m", *arguments, f"hydra.sweep.dir={root}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return root, time.perf_counter() - began


if __name__ == "__main__":
    main()
