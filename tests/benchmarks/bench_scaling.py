"""Whether planning, dispatch and collation grow as the sweep does.

    python -m tests.benchmarks.bench_scaling [--most 100000] [--plot FILE.png]

planning   identities and blocks of a skewed set of jobs.
dispatch   that set over 1, 16 and 256 lanes in virtual time: the driver's own work, and the share of the ideal.
collation  comparing all jobs of a table of samples (ten n_draft a baseline, five iterations).

CPU seconds of one process, the least of three. The exponent is the slope of log time over log jobs from 1,000 jobs on:
1 is linear.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import pyarrow as pa

from tests.benchmarks.bench_analysis import made_up_samples
from tests.benchmarks.bench_lanes import simulate, skewed
from velosweep.analysis.summarise import iterate_jobs

LANES = (1, 16, 256)
ITERATIONS = 5
Curve = dict[int, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC")
    counts = [10**power for power in range(1, 1 + int(math.log10(options.most)))]
    curves: dict[str, Curve] = {"planning": {}, **{f"dispatch, {n} lanes": {} for n in LANES}, "collation": {}}
    print("jobs     planning s  " + "  ".join(f"dispatch {n:>3} s (share)" for n in LANES) + "  collation s")
    for jobs in counts:
        load, curves["planning"][jobs] = least(partial(skewed, jobs, 16, seed=0))
        shares = []
        for lanes in LANES:
            share, curves[f"dispatch, {lanes} lanes"][jobs] = least(partial(simulate, load, lanes))
            shares.append(f"{curves[f'dispatch, {lanes} lanes'][jobs]:>10.4f} ({share:.3f})")
        table = made_up_samples(max(11 * ITERATIONS, jobs // 10 * 11 * ITERATIONS), jobs, 1)
        _, curves["collation"][jobs] = least(partial(_compared, table))
        planned, collated = curves["planning"][jobs], curves["collation"][jobs]
        print(f"{jobs:>7} {planned:>11.4f}  {'   '.join(shares)}  {collated:.3f}", flush=True)
    for name, curve in curves.items():
        if max(counts) > 1000:
            print(f"exponent of {name}: {exponent(curve):.2f}")
    if options.plot:
        draw(curves, options.plot)


def _compared(table: pa.Table) -> int:
    return sum(map(len, iterate_jobs(table)))


def least(work: Callable[[], object]) -> tuple[object, float]:
    """What `work` returned, and the least CPU seconds of three tries (of one, where that takes long)."""
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < 20:
        began = time.process_time()
        result = work()
        seconds.append(time.process_time() - began)
    return result, min(seconds)


def exponent(curve: Curve) -> float:
    points = [(math.log(jobs), math.log(seconds)) for jobs, seconds in curve.items() if jobs >= 1000]
    (x0, y0), (x1, y1) = points[0], points[-1]
    return (y1 - y0) / (x1 - x0)


def draw(curves: dict[str, Curve], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="jobs", ylabel="CPU seconds")
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), marker="o", label=name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
