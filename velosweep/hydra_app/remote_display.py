"""One progress display for all groups that are measured on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from velosweep.config.settings import Job, RunSettings, Sweep
from velosweep.hydra_app.groups import SERVER_GROUPS_A_GROUP, RemoteGroup
from velosweep.measuring.events import RunEnded, RunStarted
from velosweep.planning.identity import identify, speculative_server, vanilla_server
from velosweep.planning.server_groups import WARMUP_PROMPT, Measurement
from velosweep.reporting.console import make_console
from velosweep.reporting.progress import ProgressDisplay
from velosweep.values import Mode, Sample, Status

ShowSample = Callable[[RemoteGroup, Sample], None]


@contextmanager
def display_of(
    groups: Sequence[RemoteGroup], root: Path, settings: RunSettings, earlier: Sequence[Sample]
) -> Iterator[ShowSample]:
    """A function that shows a group's sample as a run of a lane. `earlier`: samples that the groups already have."""
    jobs = {group.name: identify(group.jobs, {}) for group in groups}
    lanes = {group.name: number for number, group in enumerate(groups)}
    closed = False
    with ProgressDisplay(
        Sweep(id="", root=str(root), jobs=tuple(job for own in jobs.values() for job in own)),
        console=make_console(),
        verbosity=settings.verbosity,
        done=sum(sample.status is Status.OK and not sample.warmup for sample in earlier),
    ) as observe:

        def show(group: RemoteGroup, sample: Sample) -> None:
            nonlocal closed
            if closed:
                return
            lane = lanes[group.name]
            measurement = _measurement(jobs[group.name], sample, first_block=lane * SERVER_GROUPS_A_GROUP)
            try:
                observe(RunStarted(lane=lane, measurement=measurement))
                observe(RunEnded(lane=lane, measurement=measurement, sample=sample))
            except OSError:  # a closed terminal must not end the sweep
                closed = True

        yield show


def _measurement(jobs: Sequence[Job], sample: Sample, *, first_block: int) -> Measurement:
    """The measurement that gave this sample; `jobs` are its group's."""
    job = next((job for job in jobs if job.num == sample.job_num), jobs[0])  # a vanilla run belongs to all jobs
    server = vanilla_server(job) if sample.mode is Mode.VANILLA else speculative_server(job)
    prompts = {prompt.id: prompt for prompt in job.prompts.prompts}
    return Measurement(
        server=server or vanilla_server(job),
        job=job,
        prompt=prompts.get(sample.prompt_id, WARMUP_PROMPT),
        iteration=sample.iteration,
        launch=sample.launch,
        group=first_block + sample.block,
        warmup=sample.warmup,
    )
