"""Prompts that a group's servers can't or won't run, found out without running them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

from velosweep.errors import RequestRefused, RunFailed
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring.lane_context import LaneContext
from velosweep.measuring.resident_servers import ResidentServer, request_of
from velosweep.measuring.resuming import CompletedRun
from velosweep.measuring.sample_rows import make_sample
from velosweep.planning.measurements import Measurement, Round, RunKey, launch_iterations, round_of
from velosweep.planning.server_groups import ServerGroup


def refused_rounds(server: ResidentServer, group: ServerGroup, launch: int) -> list[tuple[Round, RequestRefused]]:
    """The first round of each prompt that can't be measured, with the reason: `server` is asked without running it."""
    first, refused = group.jobs[0], []
    for prompt in first.prompts.prompts:
        round_ = round_of(group, group.servers_with_jobs, prompt, launch_iterations(first, launch)[0], launch)
        try:
            server.session.check_request(request_of(round_[0]))
        except RequestRefused as error:
            refused.append((round_, error))
        except RunFailed:
            break  # the runs will tell what is the matter with it
    return refused


def record_refusal(context: LaneContext, measurement: Measurement, error: RequestRefused) -> None:
    """Record as a failed run what was not asked for. Raises StorageError."""
    context.monitor.begin()
    started_at, conditions = datetime.now(timezone.utc), context.monitor.end()
    sample = make_sample(context, measurement, request_of(measurement), error, conditions, started_at=started_at)
    context.recorder.sample(measurement, sample)


def ran_well_before(
    server: ServerConfig, group: ServerGroup, measurement: Measurement, done: Mapping[RunKey, CompletedRun]
) -> bool:
    """Whether a server has a good run of another prompt in this launch."""
    return any(
        replace(measurement, server=server, job=job, prompt=prompt, iteration=iteration).key in done
        for own, job in group.servers_with_jobs
        if own.id == server.id
        for prompt in job.prompts.prompts
        if prompt.id != measurement.prompt.id
        for iteration in range(1, measurement.iteration + 1)
    )
