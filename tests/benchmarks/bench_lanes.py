"""How busy lanes are kept over a skewed set of jobs.

    python tests/benchmarks/bench_lanes.py [--jobs 2000] [--lanes 64] [--seeds 5] [--real JOBS LANES]

Simulated: `planning.lane_queue.LaneQueue` in virtual time. Jobs' lengths span three powers of ten
(log-normal tokens, models of 1 to 40 GB), and what no estimate knows makes each another 0.5 to 2 times as long.
Share of ideal: the least possible time (all work over all lanes, or the longest job) over the time it took.
--real: a sweep of JOBS jobs over LANES stand-in GPUs through the command line, from its first run to its last; share of
ideal as above with the server groups as long as they were, and the share of all lanes' time that is decoding.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.planning.virtual_lanes import simulate, skewed
from velosweep.values import Sample


def real(jobs: int, lanes: int) -> tuple[float, float, int]:
    """Share of ideal and of decoding in a sweep on stand-in GPUs, and the measurements taken."""
    from tests.faults.conftest import TINY
    from tests.faults.harness import Bench
    from velosweep.models.synthetic.pair import write_files

    chance = random.Random(0)
    tokens: set[int] = set()
    while len(tokens) < jobs:
        tokens.add(max(20, int(chance.lognormvariate(math.log(150), 0.6))))
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "main.gguf", Path(folder) / "draft.gguf"
        write_files(TINY, "draft", pair)
        bench = Bench(folder=Path(folder) / "bench", main_model=pair[0], draft_model=pair[1])
        bench.set(devices=["Stand-in GPU"] * lanes, ms_per_token=10, speculative_factor=0.5)
        drive = bench.sweep(f"n_predict={','.join(map(str, tokens))}", "n_draft=4", "iterations=3")
        status = drive.wait(3600)
        assert status == 0, drive.said
        assert bench.leftovers() == []
        return (*shares(bench.samples(), lanes), len(bench.taken()))


def shares(samples: Sequence[Sample], lanes: int) -> tuple[float, float]:
    """Least possible time over the time taken, and decoding as a share of all lanes' time.

    A block (here one n_predict) lasts from its first run's start to its last one's end.
    """
    spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        begin = sample.started_at.timestamp()
        if not sample.warmup:
            spans[sample.n_predict].append((begin, begin + (sample.total_time_ms or 0) / 1000))
    lasted = [max(end for _, end in runs) - min(begin for begin, _ in runs) for runs in spans.values()]
    everything = [span for runs in spans.values() for span in runs]
    took = max(end for _, end in everything) - min(begin for begin, _ in everything)
    decoding = sum(end - begin for begin, end in everything)
    return max(sum(lasted) / lanes, *lasted) / took, decoding / (lanes * took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--real", type=int, nargs=2, metavar=("JOBS", "LANES"))
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        load = skewed(asked.jobs, asked.lanes, seed)
        seconds = list(load.seconds.values())
        longest = max(seconds) / (sum(seconds) / asked.lanes)
        told = f"{len(load.groups)} groups, the longest {longest:.2f} of a lane's share"
        print(f"simulated, {asked.lanes} lanes, seed {seed}: {simulate(load, asked.lanes):.4f} of ideal ({told})")
    if asked.real:
        ideal, decoding, taken = real(*asked.real)
        print(f"real, {asked.real[1]} lanes, {taken} runs: {ideal:.3f} of ideal, {decoding:.3f} of lane time decoding")


if __name__ == "__main__":
    main()
