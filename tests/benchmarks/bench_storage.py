"""What storing costs: journal, collation, loading. `python -m tests.benchmarks.bench_storage [--large]`.

CPU seconds are the process's own (the machine may be shared); wall-clock stands beside them. `--large` is issue
size: 10 million samples of 10,000 jobs, some 3 GB of disk.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

import velosweep
from tests.made_up import made_up_group, made_up_record
from tests.results.made import journal_of, record, rounds, sample
from velosweep.records import SweepRecord
from velosweep.results.derived_files import write_derived_files
from velosweep.results.journal import Journal, read_journal
from velosweep.results.journal_table import journal_to_table
from velosweep.results.parquet_files import ROW_GROUP, sweep_metadata, write_row_groups
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import write_record


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A made-up sweep: `jobs` jobs, `group` to a baseline."""

    jobs: int
    group: int
    prompts: int
    iterations: int

    @property
    def rows(self) -> int:
        return self.jobs // self.group * (self.group + 1) * self.prompts * self.iterations


SMALL = Shape(jobs=1000, group=10, prompts=1, iterations=5)
MEDIUM = Shape(jobs=500, group=50, prompts=10, iterations=100)
LARGE = Shape(jobs=10_000, group=100, prompts=10, iterations=99)


@contextmanager
def timed(what: str, count: int, unit: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    per = 1e6 * wall / count
    print(f"{what:<44}{count:>10} {unit:<8}{wall:>8.2f} s wall {cpu:>8.2f} s CPU {per:>10.1f} µs each", flush=True)


def write_asked(root: Path, shape: Shape) -> SweepRecord:
    """sweep.json and the jobs' folders, which are there from the beginning: Hydra saves each job's configuration."""
    asked = made_up_record(shape.jobs, group=shape.group, prompts=shape.prompts, iterations=shape.iterations)
    for job in asked.jobs:
        SweepPaths(root).job(job).root.mkdir(parents=True)
    write_record(SweepPaths(root).record, asked)
    return asked


def write_sweep(root: Path, shape: Shape) -> None:
    """samples.parquet and sweep.json, in canonical order, one group of jobs in memory at a time."""
    asked = write_asked(root, shape)
    write_row_groups(SweepPaths(root).samples, _row_groups(shape), metadata=sweep_metadata(asked))


def _row_groups(shape: Shape) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    rows = 0
    for first in range(0, shape.jobs, shape.group):
        group = made_up_group(first, group=shape.group, prompts=shape.prompts, iterations=shape.iterations)
        waiting.append(group.sort_by([("job_id", "ascending"), ("started_at", "ascending")]))
        rows += group.num_rows
        whole = pa.concat_tables(waiting)
        while rows >= ROW_GROUP:
            yield whole.slice(0, ROW_GROUP)
            whole = whole.slice(ROW_GROUP)
            rows -= ROW_GROUP
        waiting = [whole]
    if rows:
        yield pa.concat_tables(waiting)


def bench_journal(root: Path) -> None:
    count = 2000
    with Journal(root / "journal.jsonl") as journal, timed("append, each synced", count, "samples"):
        for number in range(count):
            journal.append(sample(number))
    taken = rounds(jobs=9, iterations=3000)
    with Journal(root / "big.jsonl") as journal:
        journal_lines = [_unsynced(journal, one) for one in taken]
    with timed("read_journal", len(journal_lines), "samples"):
        read_journal(root / "big.jsonl")
    with timed("journal_to_table", len(journal_lines), "samples"):
        journal_to_table(root / "big.jsonl")


def _unsynced(journal: Journal, one: object) -> None:
    """Appending without its fdatasync, to make a large file quickly."""
    from unittest.mock import patch

    with patch("os.fdatasync"):
        journal.append(one)  # type: ignore[arg-type]


def bench_collate(root: Path, shape: Shape, what: str) -> None:
    write_sweep(root, shape)
    with timed(f"derived files, {what} ({shape.rows} samples)", shape.jobs, "jobs"):
        write_derived_files(root)


def bench_load(root: Path, shape: Shape) -> None:
    number = shape.jobs // 2
    with timed("load, one job by filter", shape.rows, "samples"):
        velosweep.load(root, filters=[("job_id", "=", f"job-{number:08x}")])


def bench_many_sweeps(root: Path) -> None:
    count = 1000
    first = journal_of(root / "first", rounds())
    write_record(first.record, record())
    write_derived_files(first.root)
    content = first.samples.read_bytes()
    for number in range(count):
        folder = root / "many" / str(number)
        folder.mkdir(parents=True)
        (folder / "samples.parquet").write_bytes(content)
    with timed("load, 1000 sweeps as one", count, "sweeps"):
        velosweep.load(root / "many")


def apart(what: str) -> None:
    """Run one benchmark in a process of its own, so that its peak memory is its own."""
    subprocess.run([sys.executable, "-m", "tests.benchmarks.bench_storage", "--only", what], check=True)


BENCHMARKS: dict[str, Callable[[Path], None]] = {
    "journal": bench_journal,
    "small": lambda root: bench_collate(root, SMALL, "small jobs"),
    "medium": lambda root: (bench_collate(root, MEDIUM, "large jobs"), bench_load(root, MEDIUM))[0],
    "many": bench_many_sweeps,
    "large": lambda root: (bench_collate(root, LARGE, "issue size"), bench_load(root, LARGE))[0],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", choices=BENCHMARKS)
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory(prefix="velosweep-bench-") as root:
            BENCHMARKS[arguments.only](Path(root))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{'  peak memory':<62}{peak:>8.0f} MiB", flush=True)
        return
    for what in BENCHMARKS:
        if what != "large" or arguments.large:
            apart(what)


if __name__ == "__main__":
    main()
