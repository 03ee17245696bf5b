"""`velosweep more DIR`: add rounds to a finished sweep; what was measured stays."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace

from velosweep.commands.resume import saved_sweep
from velosweep.commands.sweep_folder import add_sweep_folder, add_verbosity
from velosweep.config.keys import seconds
from velosweep.config.settings import TunerSettings
from velosweep.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status. Raises ConfigError for a number that adds nothing."""
    parser = argparse.ArgumentParser(
        prog="velosweep more",
        description="Add rounds to a sweep, so that its intervals get narrower. A search goes on: it gets more pairs "
        "to confirm its winner and, if it had a budget, the same time again.",
    )
    add_sweep_folder(parser, default=True)
    parser.add_argument("-i", "--iterations", type=int, default=5, metavar="N", help="rounds to add (default: 5)")
    parser.add_argument("--budget", metavar="TIME", help="of a search: time to add, e.g. 10min")
    add_verbosity(parser)
    arguments = parser.parse_args(argv)
    if arguments.iterations < 1:
        raise ConfigError(f"--iterations is {arguments.iterations}", remedy="add 1 or more")
    saved = saved_sweep(arguments.directory, verbosity=arguments.verbosity)
    if any(job.protocol.adaptive for job in saved.jobs):
        raise ConfigError(
            "An adaptive sweep takes as many rounds as its target needs",
            remedy=f"for a narrower one: velosweep rerun {shlex.quote(str(saved.root))} protocol.adaptive.target=0.005",
        )
    tuner, jobs = saved.record.tuner, saved.jobs
    if tuner is not None:
        tuner = _longer(tuner, pairs=arguments.iterations, time_s=seconds("--budget", arguments.budget))
    elif arguments.budget:
        raise ConfigError("--budget is for a search; this sweep isn't one", remedy="give --iterations")
    else:
        jobs = [replace(job, added=(*job.added, arguments.iterations)) for job in jobs]
    return saved.measure_rest(jobs, tuner=tuner)


def _longer(tuner: TunerSettings, *, pairs: int, time_s: float | None) -> TunerSettings:
    """The search with `pairs` more to confirm its winner, and with more time where it has a limit."""
    budget_s = tuner.budget_s and tuner.budget_s + (time_s or tuner.budget_s)
    return replace(tuner, confirm_pairs=tuner.confirm_pairs + pairs, budget_s=budget_s)
