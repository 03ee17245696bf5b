"""One run: ask a loaded server, read the machine around it, record what came of it."""

from __future__ import annotations

from datetime import datetime, timezone

from velosweep.errors import RunFailed, RunTimeout
from velosweep.llama_cpp.engine import Generation, Request
from velosweep.measuring.events import RunEnded, RunStarted
from velosweep.measuring.lane_context import LaneContext
from velosweep.measuring.resident_servers import ResidentServers
from velosweep.planning.server_groups import Measurement
from velosweep.values import Sample

# A run may take this many times the slowest good one of its kind, and this much more, before it counts as hung.
_TIMEOUT_FACTOR = 10.0
_TIMEOUT_FLOOR_S = 5.0


def take_run(
    context: LaneContext, servers: ResidentServers, measurement: Measurement, *, shared: bool, attempt: int = 0
) -> Sample | None:
    """The recorded sample, of whatever status; None where the run was given up because an end at once was asked for.

    The measurement's server must be loaded; it is ended if it hung or died. `shared`: several jobs use its vanilla
    runs. Raises StorageError where the sample can't be recorded.
    """
    loaded = servers.get(measurement.server)
    if loaded is None:
        raise ValueError(f"the server of {measurement.key} is not loaded")
    job, session, lane = measurement.job, loaded.session, context.lane.number
    request = Request(
        prompt=measurement.prompt,
        n_predict=job.protocol.warmup_tokens if measurement.iteration == 0 else job.n_predict,
        sampling=job.sampling,
        chat=job.prompts.chat and measurement.iteration > 0,  # a warm-up says nothing that needs a template
    )
    slowest_s, timeout_s = context.recorder.slowest_s(measurement), job.protocol.run_timeout_s
    if slowest_s is not None:
        timeout_s = min(timeout_s, slowest_s * _TIMEOUT_FACTOR + _TIMEOUT_FLOOR_S)
    context.recorder.event(RunStarted(lane=lane, measurement=measurement))
    started_at = datetime.now(timezone.utc)
    context.monitor.begin()
    outcome: Generation | RunFailed
    try:
        with context.stop.closing(session.close):
            outcome = session.generate(request, timeout_s=timeout_s)
    except RunFailed as error:
        outcome = error
    conditions = context.monitor.end()
    if context.stop.at_once and isinstance(outcome, RunFailed):
        return None
    if isinstance(outcome, RunTimeout) or not session.alive:
        servers.close(measurement.server)
    sample = context.samples.make(
        measurement, request, outcome, conditions, started_at=started_at, attempt=attempt, shared=shared
    )
    context.recorder.sample(measurement, sample)
    context.recorder.event(RunEnded(lane=lane, measurement=measurement, sample=sample))
    return sample
