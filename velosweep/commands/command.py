"""`velosweep command DIR`: print the llama-server command of a sweep's answer."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from velosweep.commands.sweep_folder import add_sweep_folder
from velosweep.errors import ExitStatus
from velosweep.results.derived_files import analyse


def main(argv: Sequence[str]) -> int:
    """Run the command; 0. Raises NothingMeasured where the sweep has no answer."""
    parser = argparse.ArgumentParser(
        prog="velosweep command", description="Print the llama-server command of a sweep's answer, ready to paste."
    )
    add_sweep_folder(parser, default=True)
    sys.stdout.write(f"{shlex.join(answer_arguments(parser.parse_args(argv).directory))}\n")
    return int(ExitStatus.OK)


def answer_arguments(root: Path) -> list[str]:
    """The program and its arguments that a sweep recommends: without speculation where nothing is reliably faster.

    Of several main models it is the fastest one's. Raises NothingMeasured where none was made.
    """
    from velosweep.reporting.deploy_formats import deployments

    derived = analyse(root)
    return list(deployments(derived.comparisons, derived.record)[0].command)
