"""Whether planning, dispatch and collation grow as the sweep does.

    python -m tests.benchmarks.bench_scaling [--most 100000] [--plot FILE.png]

planning   identities and blocks of a skewed set of jobs.
dispatch   that set over 1, 16 and 256 lanes in virtual time: the driver's own work, and the share of the ideal.
collation  comparing all jobs' samples (ten n_draft a baseline, five iterations), as many at a time as collating does.

CPU seconds of one process, medians of up to five tries (of what fits into a minute); what makes the jobs and samples
up is not in them. The exponent is the slope of log time over log jobs from 1,000 jobs to the most: 1 is linear; beside
it what the least and greatest tries at both ends would make of it. 1,000 jobs over 256 lanes are three blocks
a lane, which can't wait: nothing near is looked for, so that more jobs cost a little more each, up to 10,000.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import pyarrow as pa

from tests.benchmarks.bench_analysis import N_DRAFTS, made_up_samples, peak_mb
from tests.benchmarks.figures import Figure, machine, show
from tests.planning.virtual_lanes import load_of, plan, simulate, skewed_jobs
from velosweep.garbage_collection import existing_objects_frozen
from velosweep.results.job_files import SLICE_ROWS
from velosweep.statistics.summarise import iterate_jobs

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
    print(machine())
    for figure in growth(options.most, options.plot):
        show(figure)
    print(f"peak of memory {peak_mb():,.0f} MB, load {os.getloadavg()[0]:.2f} at the end")


def growth(most: int, plot: Path | None) -> Iterator[Figure]:
    """Prints the curves as a table, then tells the exponent of each."""
    counts = [10**power for power in range(1, 1 + int(math.log10(most)))]
    curves: dict[str, Curve] = {"planning": {}, **{dispatch(n): {} for n in LANES}, "collation": {}}
    print("   jobs  blocks  planning s " + "  ".join(f"{f'dispatch {n} s':>14} share" for n in LANES) + "  collation s")
    for jobs in counts:
        made = skewed_jobs(jobs, seed=0)
        blocks, curves["planning"][jobs] = timed(partial(plan, made, 16))
        print(f"{jobs:>7} {len(blocks):>7} {median(curves['planning'][jobs]):>11.4f}", end=" ", flush=True)
        load = load_of(blocks, seed=0)
        for lanes in LANES:
            with existing_objects_frozen():  # as measuring does
                share, curves[dispatch(lanes)][jobs] = timed(partial(simulate, load, lanes))
            print(f"{median(curves[dispatch(lanes)][jobs]):>14.4f} {share:.3f} ", end=" ", flush=True)
        del made, blocks, load
        curves["collation"][jobs] = [sum(tries) for tries in zip(*collating(jobs), strict=False)]
        print(f"{median(curves['collation'][jobs]):>11.3f}", flush=True)
    if plot:
        draw(curves, plot)
    if most > 1000:
        for name, curve in curves.items():
            yield told(name, curve)


def told(name: str, curve: Curve) -> Figure:
    """The exponent, and what it would be with the least and greatest tries at the ends."""
    (first, early), (last, late) = min(at_least_1000(curve)), max(at_least_1000(curve))
    decades = math.log(last / first)
    return Figure(
        what=f"{name}: exponent from {first:,} to {last:,} jobs, {median(late):.3g} CPU s",
        value=math.log(median(late) / median(early)) / decades,
        low=math.log(min(late) / max(early)) / decades,
        high=math.log(max(late) / min(early)) / decades,
        runs=len(late),
        spread="tries",
        most=1.1,
    )


def at_least_1000(curve: Curve) -> list[tuple[int, Tries]]:
    """What is large enough to be told from what starting costs."""
    return [(jobs, tries) for jobs, tries in curve.items() if jobs >= 1000]


def dispatch(lanes: int) -> str:
    """The name of its curve."""
    return f"dispatch, {lanes} lane{'s' * (lanes > 1)}"


def collating(jobs: int) -> Iterator[Tries]:
    """Comparing each chunk of whole baselines, which holds no more rows than a chunk of collating."""
    most = SLICE_ROWS // BASELINE_ROWS
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


def draw(curves: dict[str, Curve], path: Path) -> None:
    """Seconds over jobs beside lines of exponent 1, and milliseconds a job, which are level where growth is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    whole, each = figure.subplots(1, 2, subplot_kw={"xscale": "log", "yscale": "log", "xlabel": "jobs"})
    for name, curve in curves.items():
        label = f"{name} (exponent {told(name, curve).value:.2f})" if max(curve) > 1000 else name
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
