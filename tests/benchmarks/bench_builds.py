"""One llama-server under two paths, compared as two builds: how often the 95 % interval of their ratio holds 1.0.

    python -m tests.benchmarks.bench_builds LLAMA_SERVER [--starts 120] [--rounds 3] [--speculation none]

One sweep with a small synthetic main model starts both STARTS times. Each start of both is taken for a comparison of
its own ("one start each"), and so are three starts in a row ("three starts"): an interval from one start holds no more
than the noise within it.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc

from tests.benchmarks.figures import Figure, machine, of_runs, show
from velosweep.results.derived_files import SweepResults, analyse
from velosweep.statistics.builds import with_builds_compared
from velosweep.statistics.intervals import Interval
from velosweep.statistics.summarise import compare_jobs

SHAPE = "layers=8 kept_layers=1 width=192 feed_forward=512 heads=6 kv_heads=2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="LLAMA_SERVER", type=Path)
    parser.add_argument("--starts", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3, help="of both after each start")
    parser.add_argument("--speculation", default="none", help="draft: the speculating twins are compared, too")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        measured = sweep(Path(name), options)
        for starts, words in ((1, "one start each"), (3, "three starts")):
            found = list(ratios(measured, starts))
            for kind in ("vanilla", "speculative"):
                seen = [one for of_kind, one in found if of_kind == kind]
                if seen:
                    show(coverage(f"{kind}, {words}: per cent of intervals that hold 1.0", seen))
                    show(of_runs(f"{kind}, {words}: ratio", [one.ratio for one in seen]))
                    show(of_runs(f"{kind}, {words}: half width", [half_width(one) for one in seen], " %"))
    print(machine())


def sweep(folder: Path, options: argparse.Namespace) -> SweepResults:
    """Both paths in one sweep. Raises CalledProcessError."""
    paths = [folder / name / "llama-server" for name in ("old", "new")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(f'#!/bin/sh\nexec {options.program.resolve()} "$@"\n')
        path.chmod(0o755)
    words = [
        f"llama_cpp.path={','.join(map(str, paths))}", f"speculation={options.speculation}", "n_draft=4",
        *(f"model_pair.synthetic.{field}" for field in SHAPE.split()), "n_predict=48", "prompts.limit=2",
        f"iterations={options.starts * options.rounds}", f"protocol.launches={options.starts}",
        f"hydra.sweep.dir={folder / 'sweep'}",
    ]  # fmt: skip
    environment = {**os.environ, "VELOSWEEP_LOCK_DIR": str(folder / "locks")}
    subprocess.run(
        [sys.executable, "-m", "velosweep", "-m", *words], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    return analyse(folder / "sweep")


def ratios(measured: SweepResults, starts: int) -> Iterator[tuple[str, Interval]]:
    """The intervals of so many starts in a row each, as a sweep of these alone would state them."""
    assert measured.samples is not None
    jobs = {job.id: job for job in measured.record.jobs}
    baselines = {job.id: job.baseline_id for job in measured.record.jobs}
    launches = sorted({int(row["launch"]) for row in measured.samples.select(["launch"]).to_pylist()})
    for begin in range(0, len(launches) - starts + 1, starts):
        own = measured.samples.filter(pc.field("launch").isin(launches[begin : begin + starts]))
        for job in with_builds_compared(compare_jobs(own, jobs=jobs), baselines, own):
            for kind in ("vanilla", "speculative") if job.beside_first is not None else ():
                found: Interval | None = getattr(job.beside_first, kind)
                if found is not None:
                    yield kind, found


def coverage(what: str, seen: list[Interval]) -> Figure:
    """With the 95 % limits that so many intervals give it (Wilson 1927)."""
    n, z = len(seen), 1.96
    share = sum(one.low <= 1.0 <= one.high for one in seen) / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Figure(what=what, value=100 * share, low=100 * (middle - reach), high=100 * (middle + reach), runs=n,
                  unit=" %", spread="95 %", least=95)  # fmt: skip


def half_width(one: Interval) -> float:
    return 100 * (math.sqrt(one.high / one.low) - 1)


if __name__ == "__main__":
    main()
