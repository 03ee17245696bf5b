"""Whether an adaptive protocol has measured a server often enough: sequential stopping, decided between runs.

Stopping as soon as a 95 % interval looks narrow covers only 88 to 92 %. With a look every second pair from the
sixth on, and t at 97 % both to stop and to report, the worst coverage found by simulation is 95.2 %: that interval is
reported as 95 %.
"""

import math
from collections.abc import Mapping, Sequence

from velosweep.config.settings import Adaptive
from velosweep.measuring.resuming import CompletedRun
from velosweep.planning.measurements import RunKey, launch_iterations
from velosweep.planning.server_groups import ServerGroup
from velosweep.statistics.intervals import t_ratio

CompletedRuns = Mapping[RunKey, CompletedRun]


def converged(
    done: CompletedRuns, group: ServerGroup, owner: str, launch: int, before: int | None = None, *, took_s: float = 0.0
) -> bool:
    """Whether the pairs of a job, the `owner`, in a launch (of iterations earlier than `before`) say stop.

    Or, once they are enough for a look, that the group `took_s` longer than it may. False unless the protocol is
    adaptive.
    """
    first = group.jobs[0]
    adaptive = first.protocol.adaptive
    if adaptive is None or first.skip_vanilla:
        return False
    vanilla = iteration_speeds(done, group, first.baseline_id, launch, before)
    speculative = iteration_speeds(done, group, owner, launch, before)
    pairs = min(len(vanilla), len(speculative))
    if adaptive.budget_s is not None and took_s > adaptive.budget_s and pairs >= adaptive.min_pairs:
        return True
    return measured_enough(vanilla[:pairs], speculative[:pairs], adaptive)


def iteration_speeds(
    done: CompletedRuns, group: ServerGroup, owner: str, launch: int, before: int | None = None
) -> list[float]:
    """Tokens per second over all prompts, of each complete iteration so far in order; `owner`: as of measurements."""
    speeds, prompts = [], group.jobs[0].prompts.prompts
    for iteration in launch_iterations(group.jobs[0], launch):
        if before is not None and iteration >= before:
            break
        runs = [done.get((owner, group.number, launch, iteration, prompt.id)) for prompt in prompts]
        good = [run for run in runs if run is not None and run.predicted_ms]
        if len(good) < len(runs):
            break
        steps = sum(run.predicted_tokens - 1 for run in good)
        speeds.append(steps / sum(run.predicted_ms for run in good) * 1000)
    return speeds


def measured_enough(vanilla: Sequence[float], speculative: Sequence[float], adaptive: Adaptive) -> bool:
    """Judge the pairs so far: `vanilla[i]` and `speculative[i]` are the tokens per second of one pair (or pass).

    True at a look (`min_pairs`, then every `look_every`) whose relative half-width is at most `target` or, with
    `until_sure`, whose interval does not hold 1, and at `max_pairs`.
    """
    pairs = len(vanilla)
    if pairs >= adaptive.max_pairs:
        return True
    if pairs < adaptive.min_pairs or (pairs - adaptive.min_pairs) % adaptive.look_every:
        return False
    if not all((*vanilla, *speculative)):
        return False  # a run of no tokens has no ratio
    logs = [math.log(s / v) for v, s in zip(vanilla, speculative, strict=True)]
    interval = t_ratio(logs, confidence=adaptive.confidence).interval
    if interval is None:
        return False
    sure = interval.low > 1 or interval.high < 1
    return interval.half_width <= adaptive.target or (adaptive.until_sure and sure)
