"""What the driver does with groups that are measured elsewhere: a mirror of each, and the display of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from velosweep.config.settings import Job, RunSettings, Sweep
from velosweep.hydra_app.groups import SERVER_GROUPS_A_GROUP, Gathered, Group, group_folder
from velosweep.hydra_app.remote_journal import JournalReplica, ResumeState
from velosweep.measuring.events import Event, Observer, RunEnded, RunStarted
from velosweep.planning.identity import identify, speculative_server, vanilla_server
from velosweep.planning.server_groups import WARMUP_PROMPT, Measurement
from velosweep.values import Mode, Sample, Status

Answer = Callable[[str, ResumeState], None]
"""Sends an attempt, by its name, what it can go on with."""


class Gathering(AbstractContextManager["Gathering"]):
    """Journals and shows what workers send; one thread's. All methods raise StorageError."""

    def __init__(self, groups: Sequence[Group], root: Path, settings: RunSettings) -> None:
        self._root = root
        self._settings = settings
        self._shown = {group.name: ShownGroup(group, number) for number, group in enumerate(groups)}
        self._mirrors: dict[str, JournalReplica] = {}
        self._observe: Observer | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Gathering:
        from velosweep.reporting.progress import make_observer
        from velosweep.reporting.screen import make_console

        with ExitStack() as stack:
            for name, shown in self._shown.items():
                mirror = JournalReplica(group_folder(self._root, shown.group))
                self._mirrors[name] = stack.enter_context(mirror)
            earlier = [sample for mirror in self._mirrors.values() for sample in mirror.earlier]
            verbosity = self._settings.verbosity
            self._observe = stack.enter_context(
                make_observer(
                    Sweep(id="", root=str(self._root), jobs=tuple(j for s in self._shown.values() for j in s.jobs)),
                    console=make_console(),
                    quiet=verbosity < 0,
                    verbose=verbosity > 0,
                    done=sum(sample.status is Status.OK and not sample.warmup for sample in earlier),
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, message: Mapping[str, Any], answer: Answer) -> None:
        """Take what a worker's wire sent: `group`, `attempt`, `kind` and `content`."""
        mirror = self._mirrors[message["group"]]
        attempt, content = message["attempt"], message["content"]
        if message["kind"] == "begin":
            answer(attempt, mirror.begin(attempt))
        elif message["kind"] == "afresh":
            mirror.afresh(attempt)
        elif message["kind"] == "record":
            mirror.record(attempt, content)
        elif (sample := mirror.line(attempt, content)) is not None:
            self._show(message["group"], sample)

    def complete(self, group: Group, gathered: Gathered) -> None:
        """A group is done: keep what has not come by itself, and its record."""
        for sample in self._mirrors[group.name].complete(gathered.record, gathered.samples):
            self._show(group.name, sample)

    def _show(self, group: str, sample: Sample) -> None:
        if self._observe is None:
            return
        try:
            for event in self._shown[group].events(sample):
                self._observe(event)
        except OSError:  # a terminal that is gone must not end a night's measuring
            self._observe = None


class ShownGroup:
    """A group's samples as the events that a lane of this machine would have shown."""

    def __init__(self, group: Group, number: int) -> None:
        self.group = group
        self.jobs = identify(group.jobs, {})
        self._number = number
        self._by_num: dict[int | None, Job] = {job.num: job for job in self.jobs}

    def events(self, sample: Sample) -> Iterator[Event]:
        """The start and the end of the sample's run."""
        measurement = self._measurement(sample)
        yield RunStarted(lane=self._number, measurement=measurement)
        yield RunEnded(lane=self._number, measurement=measurement, sample=sample)

    def _measurement(self, sample: Sample) -> Measurement:
        job = self._by_num.get(sample.job_num, self.jobs[0])  # a shared vanilla run is no single job's
        server = vanilla_server(job) if sample.mode is Mode.VANILLA else speculative_server(job)
        prompts = {prompt.id: prompt for prompt in job.prompts.prompts}
        return Measurement(
            server=server or vanilla_server(job),
            job=job,
            prompt=prompts.get(sample.prompt_id, WARMUP_PROMPT),
            iteration=sample.iteration,
            launch=sample.launch,
            group=self._number * SERVER_GROUPS_A_GROUP + sample.block,
            warmup=sample.warmup,
        )
