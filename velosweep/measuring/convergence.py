"""Whether an adaptive protocol has measured a server often enough, from the good runs so far."""

from __future__ import annotations

from collections.abc import Mapping

from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring.resuming import CompletedRun
from velosweep.planning.server_groups import Key, ServerGroup, launch_iterations
from velosweep.statistics.stopping import measured_enough

CompletedRuns = Mapping[Key, CompletedRun]


def converged(
    done: CompletedRuns, group: ServerGroup, server: ServerConfig, launch: int, before: int | None = None
) -> bool:
    """Whether a speculative server's pairs of a launch (of iterations earlier than `before`) say stop.

    False unless the protocol is adaptive.
    """
    adaptive = group.jobs[0].protocol.adaptive
    if adaptive is None or group.vanilla is None:
        return False
    vanilla = suite_speeds(done, group, None, launch, before)
    speculative = suite_speeds(done, group, server, launch, before)
    pairs = min(len(vanilla), len(speculative))
    return measured_enough(vanilla[:pairs], speculative[:pairs], adaptive)


def suite_speeds(
    done: CompletedRuns, group: ServerGroup, server: ServerConfig | None, launch: int, before: int | None = None
) -> list[float]:
    """Tokens per second over all prompts, of each complete iteration so far in order; `server` None: vanilla."""
    job = next((j for j, own in zip(group.jobs, group.speculative, strict=True) if own == server), group.jobs[0])
    owner = job.baseline_id if server is None else job.id
    speeds = []
    for iteration in launch_iterations(job, launch):
        if before is not None and iteration >= before:
            break
        runs = [done.get((owner, group.number, launch, iteration, prompt.id)) for prompt in job.prompts.prompts]
        good = [run for run in runs if run is not None and run.predicted_ms]
        if len(good) < len(runs):
            break
        steps = sum(run.predicted_tokens - 1 for run in good)
        speeds.append(steps / sum(run.predicted_ms for run in good) * 1000)
    return speeds
