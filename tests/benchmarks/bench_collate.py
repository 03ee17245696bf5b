"""What collating and loading cost, each in a fresh process: `python -m tests.benchmarks.bench_collate [--large]`.

`--large` is issue size: 1 and 10 million samples of 10,000 jobs, of one and of ten prompts; some 20 GB of disk.
Without it a twentieth. Seconds of the call; beside it of the process from its start to its end, of CPU (its own and
its children's), and the peak of memory of all its processes together (proportional set size, seen twice a second).
The machine may be shared: its load stands beside each line, and CPU seconds grow with it, too.

A virtual machine whose host takes free memory back pays up to 10 µs for the first touch of each page, several seconds
for the large sweep's 4 GB. So that is collated twice: with memory full of a file's pages, which new ones can take the
place of, as on a machine in use; and with free memory, where the host may still have it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.benchmarks.bench_storage import Shape, write_asked, write_sweep
from tests.benchmarks.figures import Figure, machine, of_runs, show
from tests.made_up import made_up_group
from velosweep.results.journal import Journal
from velosweep.results.paths import SweepPaths
from velosweep.units import plural
from velosweep.values import Mode, Sample

SMALL_JOBS = Shape(jobs=1000, group=10, prompts=1, iterations=5)
JOURNAL = Shape(jobs=100, group=100, prompts=1, iterations=990)
SHAPES = {
    False: [
        Shape(jobs=500, group=100, prompts=1, iterations=990),
        Shape(jobs=500, group=100, prompts=10, iterations=99),
    ],
    True: [
        Shape(jobs=10_000, group=100, prompts=1, iterations=99),
        Shape(jobs=10_000, group=100, prompts=1, iterations=990),
        Shape(jobs=10_000, group=100, prompts=10, iterations=99),
    ],
}
# Asked: seconds of one prompt a job, as ten write eleven times as many files.
_END_S, _PEAK_MIB, _LOAD_S = 2, 2048, 1
_COLLATE_S = {SHAPES[True][0]: 10, SHAPES[True][1]: 60}

# At the end of a sweep what collating needs is imported already.
_COLLATE = """
import sys, time
from pathlib import Path
from velosweep.reporting.collation import collate
from velosweep.measuring.lane_context import Preload
Preload().finish()
begin = time.perf_counter()
collate(Path(sys.argv[1]))
print(time.perf_counter() - begin)
"""
_LOAD = """
import sys, time
import velosweep
import pyarrow.dataset
begin = time.perf_counter()
velosweep.load(sys.argv[1], filters={filters}, columns={columns})
print(time.perf_counter() - begin)
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one process cost."""

    wall_s: float
    call_s: float
    cpu_s: float
    peak_mib: float


def cost_of(script: str, root: Path) -> Cost:
    """Run `script` on `root`; it prints the seconds of the call that matters."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, text=True)
    peak, ended = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
    watcher.start()
    output, _ = process.communicate()
    wall_s = time.perf_counter() - begin
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"it ended with status {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_s=wall_s, call_s=float(output.split()[-1]), cpu_s=cpu_s, peak_mib=peak[0])


def _watch(pid: int, peak: list[float], ended: threading.Event) -> None:
    while not ended.wait(0.5):
        try:
            main = psutil.Process(pid)
            family = [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peak[0] = max(peak[0], sum(_mib(one) for one in family))


def _mib(process: psutil.Process) -> float:
    """Proportional set size where the system tells it cheaply (shared pages once), else the resident size."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):  # another system, or it has just ended
        pass
    try:
        return float(process.memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return 0.0


def figures_of(
    what: str, costs: list[Cost], most_s: float | None = None, most_mib: float | None = None
) -> Iterator[Figure]:
    """Seconds of the call, with the rest that it costs; the peak of memory where something is asked of it."""
    call, wall, cpu = ([getattr(cost, name) for cost in costs] for name in ("call_s", "wall_s", "cpu_s"))
    rest = f"process {statistics.median(wall):.2f} s, CPU {statistics.median(cpu):.1f} s, load {os.getloadavg()[0]:.1f}"
    yield of_runs(f"{what} ({rest})", call, " s", most=most_s)
    if most_mib is not None:
        yield of_runs(f"{what}: peak of memory", [cost.peak_mib for cost in costs], " MiB", most=most_mib)


def repeated(repeats: int, script: str, source: Path, *, fresh: bool) -> list[Cost]:
    """`fresh`: each time on a copy (the samples linked, as collating never writes into a file) with nothing derived.

    The copies stay until all are timed: making files costs ext4 several times as much for minutes after many were
    deleted.
    """
    if not fresh:
        return [cost_of(script, source) for _ in range(repeats)]
    copies = [source.with_name(f"{source.name}-{number}") for number in range(repeats)]
    for copy in copies:
        shutil.copytree(source, copy, copy_function=os.link)
    costs = [cost_of(script, copy) for copy in copies]
    for copy in copies:
        shutil.rmtree(copy)
    return costs


@contextmanager
def memory_full(folder: Path) -> Iterator[None]:
    """All free memory holds pages of a file that nobody needs (and that takes no disk)."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        file.truncate(psutil.virtual_memory().available)
    with ballast.open("rb", buffering=0) as file:
        while file.read(16 << 20):
            pass
    try:
        yield
    finally:
        ballast.unlink()


def write_journal(root: Path, shape: Shape) -> None:
    """journal.jsonl and sweep.json, as the lanes leave them; not synced line by line, to be quick."""
    from unittest.mock import patch

    paths = SweepPaths(root)
    write_asked(root, shape)
    with Journal(paths.journal, lock=paths.lock) as journal, patch("os.fdatasync"):
        for first in range(0, shape.jobs, shape.group):
            rows = made_up_group(first, group=shape.group, prompts=shape.prompts, iterations=shape.iterations)
            for row in rows.to_pylist():
                journal.append(Sample(**{**row, "mode": Mode(row["mode"])}))


def collating(repeats: int, *, large: bool) -> Iterator[Figure]:
    """All that this benchmark tells; what is asked is asked of the large sweep."""
    times: Callable[..., list[Cost]] = partial(repeated, repeats)
    with tempfile.TemporaryDirectory(prefix="velosweep-bench-") as folder:
        end, journal = Path(folder, "end"), Path(folder, "journal")
        write_journal(end, SMALL_JOBS)
        size = f"{SMALL_JOBS.jobs:,} jobs, {SMALL_JOBS.rows:,} samples"
        yield from figures_of(f"end of a sweep, {size}", times(_COLLATE, end, fresh=True), _END_S)
        write_journal(journal, JOURNAL)
        what = f"collate a journal, {JOURNAL.jobs:,} jobs, {JOURNAL.rows:,} samples"
        yield from figures_of(what, times(_COLLATE, journal, fresh=True))
        for shape in SHAPES[large]:
            root = Path(folder, f"prompts-{shape.prompts}")
            write_sweep(root, shape)
            size = f"{shape.jobs:,} jobs, {shape.rows:,} samples, {plural(shape.prompts, 'prompt')}"
            if large:
                with memory_full(Path(folder)):
                    costs = times(_COLLATE, root, fresh=True)
                yield from figures_of(f"collate {size}", costs, _COLLATE_S.get(shape), _PEAK_MIB)
            what = f"collate {size}{' into free memory' if large else ''}"
            yield from figures_of(what, times(_COLLATE, root, fresh=True))
            for filters, columns in (
                ([("job_id", "=", f"job-{shape.jobs // 2:08x}")], None),
                ([("n_draft", "=", 8)], ["job_id", "n_draft", "tokens_per_second"]),
                ([("n_draft", "=", 8)], None),
            ):
                script = _LOAD.format(filters=filters, columns=columns)
                what = f"load one {filters[0][0]}{', 3 columns' if columns else ''}, {plural(shape.prompts, 'prompt')}"
                yield from figures_of(what, times(script, root, fresh=False), _LOAD_S if large else None)
            shutil.rmtree(root)


def main() -> None:
    """Print each figure as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(machine())
    for figure in collating(arguments.repeats, large=arguments.large):
        show(figure)


if __name__ == "__main__":
    main()
