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
from velosweep.config.settings import Job, ModelPair, Prompt, PromptSet
from velosweep.planning.identity import identify
from velosweep.planning.lane_queue import Estimator, Queues
from velosweep.planning.server_groups import ServerGroup, count_measurements, plan_groups
from velosweep.values import Sample

MODEL_BYTES = {f"model-{size}.gguf": size * 10**9 for size in (1, 2, 5, 8, 14, 40)}


@dataclass(frozen=True, slots=True)
class Span:
    """What a block takes: its servers and the seconds to load them all, its runs and the seconds of them all.

    With what the estimator is told of each, so that no time goes to looking for it.
    """

    main_model: str
    tokens: int
    servers: int
    loading_s: float
    runs: int
    running_s: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.loading_s + self.running_s


@dataclass(frozen=True)
class Load:
    """Blocks, and what each takes, by the block's identity."""

    blocks: tuple[ServerGroup, ...]
    spans: dict[int, Span]

    def ideal_s(self, lanes: int) -> float:
        """The least time it can take: all work over all lanes, or the longest block."""
        work = [span.seconds for span in self.spans.values()]
        return max(sum(work) / lanes, *work)


def skewed(jobs: int, lanes: int, seed: int) -> Load:
    """A set of jobs whose lengths are log-normal, with a factor that only measuring shows."""
    return load_of(plan(skewed_jobs(jobs, seed), lanes), seed)


def skewed_jobs(jobs: int, seed: int) -> tuple[Job, ...]:
    """So many jobs, no two of which measure the same thing: a further prompt set for every thousand."""
    chance = random.Random(seed)
    names = list(MODEL_BYTES)
    made: dict[tuple[str, int, int, int], Job] = {}
    while len(made) < jobs:
        tokens = max(16, int(chance.lognormvariate(math.log(200), 0.8)))
        model = chance.choices(names, weights=(12, 10, 8, 6, 4, 1))[0]
        n_draft, topic = chance.randint(1, 16), chance.randrange(math.ceil(jobs / 1000))
        made[model, n_draft, tokens, topic] = job(
            num=len(made),
            n_draft=n_draft,
            n_predict=tokens,
            model_pair=ModelPair(name=model, main_model=model, draft_model="draft.gguf"),
            prompts=PromptSet(name=f"topic {topic}", prompts=(Prompt(id="only", text=f"Explain topic {topic}"),)),
            directory=str(len(made)),
        )
    return tuple(made.values())


def plan(jobs: Sequence[Job], lanes: int) -> tuple[ServerGroup, ...]:
    """What velosweep does before anything is measured: identities, then blocks."""
    return plan_groups(identify(jobs, {}), lanes=lanes)


def load_of(blocks: tuple[ServerGroup, ...], seed: int) -> Load:
    """The blocks with how long each takes."""
    chance = random.Random(seed)
    spans = {}
    for block in blocks:
        first = block.jobs[0]
        size, runs, servers = MODEL_BYTES[first.model_pair.main_model], count_measurements(block), len(block.servers)
        spans[id(block)] = Span(
            main_model=first.model_pair.main_model,
            tokens=first.n_predict,
            servers=servers,
            loading_s=servers * (0.5 + size / 2e9),
            runs=runs,
            running_s=runs * first.n_predict * size / 3e12 * chance.lognormvariate(0, 0.3),
        )
    return Load(blocks=blocks, spans=spans)


def simulate(load: Load, lanes: int) -> float:
    """Share of ideal, in virtual time."""
    estimator = Estimator(model_bytes=MODEL_BYTES.__getitem__)
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
        span = load.spans[id(block)]
        for _ in range(span.servers):
            estimator.learn_load(span.main_model, span.loading_s / span.servers)
        for _ in range(span.runs):
            estimator.learn_run(span.main_model, span.tokens, span.running_s / span.runs)
        heapq.heappush(free, (now + span.seconds, lane))
    return load.ideal_s(lanes) / end


def real(jobs: int, lanes: int) -> tuple[float, float, int]:
    """Share of ideal and of decoding in a sweep on stand-in GPUs, and the measurements taken."""
    from tests.faults.conftest import TINY
    from tests.faults.harness import Bench
    from velosweep.models.synthetic.pair import write_pair

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
        seconds = [span.seconds for span in load.spans.values()]
        longest = max(seconds) / (sum(seconds) / asked.lanes)
        told = f"{len(load.blocks)} blocks, the longest {longest:.2f} of a lane's share"
        print(f"simulated, {asked.lanes} lanes, seed {seed}: {simulate(load, asked.lanes):.4f} of ideal ({told})")
    if asked.real:
        ideal, decoding, taken = real(*asked.real)
        print(f"real, {asked.real[1]} lanes, {taken} runs: {ideal:.3f} of ideal, {decoding:.3f} of lane time decoding")


if __name__ == "__main__":
    main()
