"""Sets of jobs of very different lengths, and lanes that work through them in virtual time."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.planning.jobs import job
from velosweep.config.settings import Job, ModelPair, Prompt, PromptSet
from velosweep.planning.identity import identify
from velosweep.planning.lane_queue import LaneQueue
from velosweep.planning.measurements import count_measurements
from velosweep.planning.server_groups import ServerGroup, plan_groups
from velosweep.values import Device, Lane

MODEL_BYTES = {f"model-{size}.gguf": size * 10**9 for size in (1, 2, 5, 8, 14, 40)}


@dataclass(frozen=True)
class Load:
    """Blocks, and what each takes, by the group's identity."""

    groups: tuple[ServerGroup, ...]
    seconds: dict[int, float]

    def ideal_s(self, lanes: int) -> float:
        """The least time it can take: all work over all lanes, or the longest group."""
        return max(sum(self.seconds.values()) / lanes, *self.seconds.values())


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
    """What velosweep does before anything is measured: identities, then groups."""
    return plan_groups(identify(jobs, {}), lanes=lanes)


def load_of(groups: tuple[ServerGroup, ...], seed: int) -> Load:
    """The groups with how long each takes."""
    chance = random.Random(seed)
    seconds = {}
    for group in groups:
        first = group.jobs[0]
        size, runs, servers = MODEL_BYTES[first.model_pair.main_model], count_measurements(group), len(group.servers)
        loading_s = servers * (0.5 + size / 2e9)
        seconds[id(group)] = loading_s + runs * first.n_predict * size / 3e12 * chance.lognormvariate(0, 0.3)
    return Load(groups=groups, seconds=seconds)


def gpu_lanes(count: int) -> list[Lane]:
    """Lanes of one GPU each."""
    return [Lane(number=number, devices=(Device(kind="cuda", name="GPU", index=number),)) for number in range(count)]


def simulate(load: Load, lanes: int) -> float:
    """Share of ideal, in virtual time."""
    queue = LaneQueue(load.groups, lanes=gpu_lanes(lanes), model_bytes=MODEL_BYTES.__getitem__)
    free = [(0.0, lane) for lane in range(lanes)]
    end = 0.0
    while free:
        now, lane = heapq.heappop(free)
        groups = queue.take(lane)
        if not groups:
            end = max(end, now)
        else:
            heapq.heappush(free, (now + sum(load.seconds[id(group)] for group in groups), lane))
    return load.ideal_s(lanes) / end
