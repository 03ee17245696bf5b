"""What collating and loading cost, each in a fresh process: `python -m tests.benchmarks.bench_collate [--large]`.

`--large` is issue size: 10 million samples of 10,000 jobs, of one and of ten prompts; some 20 GB of disk.
Without it a twentieth. Seconds from the process's start to its end, of the call alone, of CPU (its own and its
children's), and the peak of memory of all its processes together (proportional set size, seen twice a second).
The machine may be shared: its load stands beside each line, and CPU seconds grow with it, too.
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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.benchmarks.bench_storage import Shape, write_asked, write_sweep
from tests.benchmarks.made_up import made_up_group
from velosweep.model import Mode, Sample
from velosweep.storage.journal import Journal
from velosweep.storage.paths import SweepPaths

SMALL_JOBS = Shape(jobs=1000, group=10, prompts=1, iterations=5)
JOURNAL = Shape(jobs=100, group=100, prompts=1, iterations=990)
SHAPES = {
    False: [
        Shape(jobs=500, group=100, prompts=1, iterations=990),
        Shape(jobs=500, group=100, prompts=10, iterations=99),
    ],
    True: [
        Shape(jobs=10_000, group=100, prompts=1, iterations=990),
        Shape(jobs=10_000, group=100, prompts=10, iterations=99),
    ],
}

_COLLATE = """
import sys, time
from pathlib import Path
from velosweep.collating import collate
begin = time.perf_counter()
collate(Path(sys.argv[1]))
print(time.perf_counter() - begin)
"""
# The end of a sweep: what was done while servers loaded is there, all but the last block's jobs.
_COLLATE_AT_THE_END = """
import sys, time
from collections import defaultdict
from pathlib import Path
from velosweep.collating import ahead_work, collate
from velosweep.running.preload import Preload
from velosweep.storage.journal import read_journal
from velosweep.storage.paths import SweepPaths
from velosweep.storage.provenance import read_record
from velosweep.storage.ready import owners
Preload().finish()
root = Path(sys.argv[1])
record, samples = read_record(SweepPaths(root).record), defaultdict(list)
for one in read_journal(SweepPaths(root).journal).samples:
    samples[one.job_id].append(one)
blocks = defaultdict(list)
for job in record.jobs:
    blocks[job.baseline_id].append(job)
work, ready = ahead_work(root, record), []
for jobs in list(blocks.values())[:-1]:
    ready.append(work(jobs, [one for owner in sorted(owners(jobs)) for one in samples[owner]]))
begin = time.perf_counter()
collate(root, ready)
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


def print_median(what: str, costs: list[Cost]) -> None:
    """One line of the table: medians, and the least and greatest seconds of the call."""
    calls = [cost.call_s for cost in costs]
    wall_s, call_s, cpu_s, peak = (
        statistics.median(getattr(cost, name) for cost in costs) for name in ("wall_s", "call_s", "cpu_s", "peak_mib")
    )
    print(
        f"{what:<58}{wall_s:>8.2f}{call_s:>8.2f} [{min(calls):7.2f}, {max(calls):7.2f}]{cpu_s:>9.2f}{peak:>9.0f}"
        f"{len(costs):>4}{os.getloadavg()[0]:>7.1f}",
        flush=True,
    )


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


def write_journal(root: Path, shape: Shape) -> None:
    """journal.jsonl and sweep.json, as the lanes leave them; not synced line by line, to be quick."""
    from unittest.mock import patch

    paths = SweepPaths(root)
    write_asked(root, shape)
    with Journal(paths.journal, lock=paths.lock) as journal, patch("velosweep.storage.journal._sync_data"):
        for first in range(0, shape.jobs, shape.group):
            rows = made_up_group(first, group=shape.group, prompts=shape.prompts, iterations=shape.iterations)
            for row in rows.to_pylist():
                journal.append(Sample(**{**row, "mode": Mode(row["mode"])}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    times: Callable[..., list[Cost]] = partial(repeated, arguments.repeats)
    print(f"{'':<58}{'process':>8}{'call, s':>8} {'[least, most]':>18}{'CPU, s':>9}{'MiB':>9}{'n':>4}{'load':>7}")
    with tempfile.TemporaryDirectory(prefix="velosweep-bench-") as folder:
        end, journal = Path(folder, "end"), Path(folder, "journal")
        write_journal(end, SMALL_JOBS)
        size = f"{SMALL_JOBS.jobs:,} jobs, {SMALL_JOBS.rows:,} samples"
        print_median(f"end of a sweep, {size}", times(_COLLATE_AT_THE_END, end, fresh=True))
        print_median(f"collate, {size}", times(_COLLATE, end, fresh=True))
        write_journal(journal, JOURNAL)
        what = f"collate a journal, {JOURNAL.jobs:,} jobs, {JOURNAL.rows:,} samples"
        print_median(what, times(_COLLATE, journal, fresh=True))
        for shape in SHAPES[arguments.large]:
            root = Path(folder, f"prompts-{shape.prompts}")
            write_sweep(root, shape)
            size = f"{shape.jobs:,} jobs, {shape.rows:,} samples, {shape.prompts} prompts"
            print_median(f"collate {size}", times(_COLLATE, root, fresh=True))
            for filters, columns in (
                ([("job_id", "=", f"job-{shape.jobs // 2:08x}")], None),
                ([("n_draft", "=", 8)], ["job_id", "n_draft", "tokens_per_second"]),
                ([("n_draft", "=", 8)], None),
            ):
                script = _LOAD.format(filters=filters, columns=columns)
                what = f"  load {filters[0][0]} {'of 3 columns' if columns else ''}"
                print_median(what, times(script, root, fresh=False))
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
