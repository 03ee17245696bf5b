"""Whether planning, dispatch and collation grow as the sweep does.

    python -m tests.benchmarks.bench_scaling [--most 100000] [--plot FILE.png]

planning   identities and blocks of a skewed set of jobs.
dispatch   that set over 1, 16 and 256 lanes in virtual time: the driver's own work, and the share of the ideal.
collation  comparing all jobs' samples (ten n_draft a baseline, five iterations), as many at a time as collating does.

CPU seconds of one process, medians of up to five tries (of what fits into a minute); what makes the jobs and samples
up is not in them. The exponent is the slope of log time over log jobs from 1,000 jobs to the most: 1 is linear; beside
it the widest spread of tries from 1,000 jobs on, as a part of their median. 1,000 jobs over 256 lanes are three blocks
a lane, which can't wait: nothing near is looked for, so that more jobs cost a little more each, up to 10,000.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import pyarrow as pa

from tests.benchmarks.bench_analysis import N_DRAFTS, made_up_samples, peak_mb
from tests.benchmarks.bench_lanes import load_of, plan, simulate, skewed_jobs
from velosweep.analysis.summarise import iterate_jobs
from velosweep.storage.chunks import CHUNK_ROWS

LANES = (1, 16, 256)
ITERATIONS = 5
BASELINE_ROWS = (N_DRAFTS + 1) * ITERATIONS
TRIES, ENOUGH_S = 5, 60
Tries = list[float]  # CPU seconds of each
Curve = dict[int, Tries]  # by the number of jobs
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC")
    counts = [10**power for power in range(1, 1 + int(math.log10(options.most)))]
    curves: dict[str, Curve] = {"planning": {}, **{dispatch(n): {} for n in LANES}, "collation": {}}
    print("   jobs  blocks  planning s " + "  ".join(f"{f'dispatch {n} s':>14} share" for n in LANES) + "  collation s")
    for jobs in counts:
        made = skewed_jobs(jobs, seed=0)
        blocks, curves["planning"][jobs] = timed(partial(plan, made, 16))
        print(f"{jobs:>7} {len(blocks):>7} {median(curves['planning'][jobs]):>11.4f}", end=" ", flush=True)
        load = load_of(blocks, seed=0)
        for lanes in LANES:
            share, curves[dispatch(lanes)][jobs] = timed(partial(simulate, load, lanes))
            print(f"{median(curves[dispatch(lanes)][jobs]):>14.4f} {share:.3f} ", end=" ", flush=True)
        del made, blocks, load
        curves["collation"][jobs] = [sum(tries) for tries in zip(*collating(jobs), strict=False)]
        print(f"{median(curves['collation'][jobs]):>11.3f}", flush=True)
    for name, curve in curves.items():
        if max(counts) > 1000:
            print(f"exponent of {name}: {exponent(curve):.2f}, tries within {spread(curve):.0%}")
    print(f"peak of memory {peak_mb():,.0f} MB, load {os.getloadavg()[0]:.2f} at the end")
    if options.plot:
        draw(curves, options.plot)


def dispatch(lanes: int) -> str:
    """The name of its curve."""
    return f"dispatch, {lanes} lane{'s' * (lanes > 1)}"


def collating(jobs: int) -> Iterator[Tries]:
    """Comparing each chunk of whole baselines, which holds no more rows than a chunk of collating."""
    most = CHUNK_ROWS // BASELINE_ROWS
    left = max(1, jobs // N_DRAFTS)
    while left:
        baselines = min(left, most)
        left -= baselines
        table = made_up_samples(baselines * BASELINE_ROWS, baselines * N_DRAFTS, 1)
        yield timed(partial(_compared, table))[1]


def _compared(table: pa.Table) -> int:
    return sum(map(len, iterate_jobs(table)))


def timed(work: Callable[[], T]) -> tuple[T, Tries]:
    """What `work` returned, and its CPU seconds in each try."""
    tries: Tries = []
    while len(tries) < TRIES and sum(tries) < ENOUGH_S:
        began = time.process_time()
        result = work()
        tries.append(time.process_time() - began)
    return result, tries


def exponent(curve: Curve) -> float:
    points = [(math.log(jobs), math.log(median(tries))) for jobs, tries in curve.items() if jobs >= 1000]
    (x0, y0), (x1, y1) = points[0], points[-1]
    return (y1 - y0) / (x1 - x0)


def spread(curve: Curve) -> float:
    return max((max(tries) - min(tries)) / median(tries) for jobs, tries in curve.items() if jobs >= 1000)


def draw(curves: dict[str, Curve], path: Path) -> None:
    """Seconds over jobs beside lines of exponent 1, and milliseconds a job, which are level where growth is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    whole, each = figure.subplots(1, 2, subplot_kw={"xscale": "log", "yscale": "log", "xlabel": "jobs"})
    for name, curve in curves.items():
        label = f"{name} (exponent {exponent(curve):.2f})" if max(curve) > 1000 else name
        seconds = {jobs: median(tries) for jobs, tries in curve.items()}
        whole.plot(list(seconds), list(seconds.values()), marker="o", label=label)
        each.plot(list(seconds), [1000 * all_s / jobs for jobs, all_s in seconds.items()], marker="o")
    whole.set(title="CPU time of velosweep's own work", ylabel="CPU seconds", ylim=whole.get_ylim())
    each.set(title="The same for each job: level is linear", ylabel="CPU milliseconds a job")
    ends = min(curves["planning"]), max(curves["planning"])
    for number, per_job_s in enumerate((1e-6, 1e-5, 1e-4, 1e-3, 1e-2)):
        line = {"color": "0.75", "linewidth": 0.8, "linestyle": "--", "zorder": 0}
        whole.plot(ends, [jobs * per_job_s for jobs in ends], label=None if number else "linear", **line)
    for axes in (whole, each):
        axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
