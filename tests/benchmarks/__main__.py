"""What speed is asked of velosweep and what was seen, in one table.

    python -m tests.benchmarks [--large] [--repeats 3] [--llama-cpp DIR [--optimum PYTHON]] [--plot FILE.png]

Share of decoding, disturbance and start-up on the embedded llama.cpp; the others, where DIR is a source tree of
llama.cpp with build/bin (see bench_rivals); collating and loading, of issue size with --large (some 20 GB of disk);
growth up to 100,000 jobs, drawn in FILE. An hour with all of it; each part alone: `python -m tests.benchmarks.bench_…`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests.benchmarks.bench_collate import collating
from tests.benchmarks.bench_rivals import rivals
from tests.benchmarks.bench_scaling import growth
from tests.benchmarks.bench_sweep import disturbance, share, startup
from tests.benchmarks.figures import Figure, machine, show, table


def main() -> None:
    """Each figure as it comes, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--optimum", metavar="PYTHON")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    where, found = machine(), []
    print(where)
    for figure in figures(options):
        show(figure)
        found.append(figure)
    print(f"\n{where}; at the end: {machine()}\n\n{table(found)}")


def figures(options: argparse.Namespace) -> Iterator[Figure]:
    """All that was asked for, in the issue's order."""
    repeats = options.repeats
    others = rivals(options.llama_cpp, repeats, options.optimum) if options.llama_cpp else ()
    collated = collating(repeats, large=options.large)
    most = 100_000 if options.large else 10_000
    return chain(startup(repeats), share(repeats), disturbance(repeats), others, collated, growth(most, options.plot))


if __name__ == "__main__":
    main()
