"""What a job costs before it measures anything, beside plain Hydra in the same run.

    python tests/benchmarks/bench_planning.py [JOBS ...] [--plain N]

Ours: sweeps of JOBS jobs (default 1000 and 10000) through `velosweep -m`, with a `run_sweep` that returns
at once; `.hydra/` folders and multirun.yaml are written. Plain: the same configuration under Hydra's basic launcher
and sweeper, and under its joblib launcher where that is installed, with N jobs (default 50), a task that does nothing.
Each in a process of its own: seconds, milliseconds a job, and memory growth a job from the peak resident set.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def ours(jobs: int) -> None:
    """One sweep of `jobs` jobs, nothing measured; prints seconds of load and of the whole command."""
    from velosweep import sweep
    from velosweep.cli import main
    from velosweep.results.sweep_record import SweepOutcome

    reached: list[float] = []

    def run_sweep(planned, **_):  # type: ignore[no-untyped-def]
        reached.append(time.perf_counter())
        return SweepOutcome(exit_status=0, summaries=(None,) * len(planned), errors=(None,) * len(planned))

    sweep.run_sweep = run_sweep  # type: ignore[assignment]
    main(["n_draft=3"])  # imports and caches, so that the growth is the jobs'
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    status = main(["-m", *grid(jobs), "hydra.sweep.dir=out"])
    assert status == 0
    report(jobs, reached[-1] - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def plain(jobs: int, launcher: str) -> None:
    """The same sweep under Hydra's own sweeper and launcher, with a task that does nothing."""
    from hydra import version
    from hydra._internal.hydra import Hydra

    from velosweep.config import composing

    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2("velosweep", composing.build_search_path())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    hydra.multirun(
        config_name="sweep",
        task_function=nothing,
        overrides=[*grid(jobs), f"hydra/launcher={launcher}", "hydra/sweeper=basic", "hydra.sweep.dir=out"],
    )
    report(jobs, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def nothing(cfg: object) -> None:
    """A task that measures nothing."""


def grid(jobs: int) -> list[str]:
    """Overrides of a grid of that many jobs: draft lengths by lengths by two prompts."""
    lengths = max(1, jobs // 50)
    return [
        f"n_draft=range(1,{lengths + 1})",
        f"n_predict=range(100,{100 + jobs // lengths // 2})",
        "prompt=hello,world",
    ]


def report(jobs: int, seconds: float, kib: int) -> None:
    """One line for the parent."""
    print(json.dumps({"jobs": jobs, "seconds": seconds, "kib_per_job": kib / jobs}))


def run(what: str, jobs: int) -> None:
    """One case in its own process and folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--case", what, str(jobs)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    each = 1000 * found["seconds"] / found["jobs"]
    print(
        f"{what:<14}{found['jobs']:>7} jobs {found['seconds']:>8.2f} s {each:>8.2f} ms a job"
        f" {found['kib_per_job']:>8.1f} KiB a job",
        flush=True,
    )


def main() -> None:
    """Run all cases, or the one that the parent asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("jobs", nargs="*", type=int, default=[1000, 10000])
    parser.add_argument("--plain", type=int, default=50, help="jobs of the plain launchers")
    parser.add_argument("--case", choices=["velosweep", "hydra basic", "hydra joblib"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case == "velosweep":
        ours(arguments.jobs[0])
    elif arguments.case:
        plain(arguments.jobs[0], arguments.case.split()[1])
    else:
        run("hydra basic", arguments.plain)
        if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher"):
            run("hydra joblib", arguments.plain)
        for jobs in arguments.jobs or [1000, 10000]:
            run("velosweep", jobs)


if __name__ == "__main__":
    main()
