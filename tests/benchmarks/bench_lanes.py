"""How busy lanes are kept over a skewed set of jobs.

    python tests/benchmarks/bench_lanes.py [--jobs 2000] [--lanes 64] [--seeds 5] [--real JOBS LANES]

Simulated: `planning.lanes.Queues` and its estimator in virtual time. Jobs' lengths span three powers of ten
(log-normal tokens, models of 1 to 40 GB), and what the estimator is not told makes each another 0.5 to 2 times as long.
Share of ideal: the least possible time (all work over all lanes, or the longest job) over the time it took.
--real: a sweep of JOBS jobs over LANES stand-in GPUs through the command line, from its first run to its last; share of
ideal as above with the blocks as long as they were, and the share of all lanes' time that is decoding.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.planning.jobs import job
from velosweep.model import Block, Job, ModelPair, Sample
from velosweep.planning.identity import identify
from velosweep.planning.lanes import Estimator, Queues
from velosweep.planning.schedule import count_measurements, plan_blocks

GIGABYTE = 10**9


@dataclass(frozen=True)
class Load:
    """Blocks, the models' sizes by path, and what each block takes in seconds (loading, running)."""

    blocks: tuple[Block, ...]
    model_bytes: dict[str, int]
    seconds: dict[str, tuple[float, float]]


def skewed(jobs: int, lanes: int, seed: int) -> Load:
    """A set of jobs whose lengths are log-normal, with a factor that only measuring shows."""
    chance = random.Random(seed)
    sizes = {f"model-{size}.gguf": size * GIGABYTE for size in (1, 2, 5, 8, 14, 40)}
    names = list(sizes)
    made: list[Job] = []
    for num in range(jobs):
        tokens = max(16, int(chance.lognormvariate(math.log(200), 0.8)))
        model = chance.choices(names, weights=(12, 10, 8, 6, 4, 1))[0]
        pair = ModelPair(name=model, main_model=model, draft_model="draft.gguf")
        made.append(job(num=num, n_draft=chance.randint(1, 16), n_predict=tokens, model_pair=pair, directory=str(num)))
    distinct = {(one.model_pair, one.n_draft, one.n_predict): one for one in made}
    blocks = plan_blocks(identify(tuple(distinct.values()), {}), lanes=lanes)
    seconds = {}
    for block in blocks:
        first = block.jobs[0]
        size = sizes[first.model_pair.main_model]
        run = count_measurements(block) * first.n_predict * size / 3e12
        seconds[key(block)] = (len(block.arms) * (0.5 + size / 2e9), run * chance.lognormvariate(0, 0.3))
    return Load(blocks=blocks, model_bytes=sizes, seconds=seconds)


def key(block: Block) -> str:
    return f"{block.jobs[0].baseline_id}/{block.number}"


def simulate(load: Load, lanes: int) -> float:
    """Share of ideal, in virtual time."""
    estimator = Estimator(model_bytes=lambda path: load.model_bytes.get(path, 0))
    queues = Queues(lanes=lanes, foretold=estimator.foretold, rates=estimator.rates)
    queues.fill(load.blocks)
    free = [(0.0, lane) for lane in range(lanes)]
    end = 0.0
    while free:
        now, lane = heapq.heappop(free)
        block = queues.take(lane)
        if block is None:
            end = max(end, now)
            continue
        loading, running = load.seconds[key(block)]
        first = block.jobs[0]
        for _ in block.arms:
            estimator.learn_load(first.model_pair.main_model, loading / len(block.arms))
        runs = count_measurements(block)
        for _ in range(runs):
            estimator.learn_run(first.model_pair.main_model, first.n_predict, running / runs)
        heapq.heappush(free, (now + loading + running, lane))
    work = [sum(seconds) for seconds in load.seconds.values()]
    return max(sum(work) / lanes, max(work)) / end


def real(jobs: int, lanes: int) -> tuple[float, float, int]:
    """Share of ideal and of decoding in a sweep on stand-in GPUs, and the measurements taken."""
    from tests.faults.conftest import TINY
    from tests.faults.harness import Bench
    from velosweep.synthetic.pair import write_pair

    chance = random.Random(0)
    tokens: set[int] = set()
    while len(tokens) < jobs:
        tokens.add(max(20, int(chance.lognormvariate(math.log(150), 0.6))))
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "main.gguf", Path(folder) / "draft.gguf"
        write_pair(TINY, *pair)
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
        longest = max(map(sum, load.seconds.values())) / (sum(map(sum, load.seconds.values())) / asked.lanes)
        told = f"{len(load.blocks)} blocks, the longest {longest:.2f} of a lane's share"
        print(f"simulated, {asked.lanes} lanes, seed {seed}: {simulate(load, asked.lanes):.4f} of ideal ({told})")
    if asked.real:
        ideal, decoding, taken = real(*asked.real)
        print(f"real, {asked.real[1]} lanes, {taken} runs: {ideal:.3f} of ideal, {decoding:.3f} of lane time decoding")


if __name__ == "__main__":
    main()
