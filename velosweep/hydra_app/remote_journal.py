"""What a worker without a shared disk sends: the driver stores each line of its journal and shows each sample.

When the worker is lost, the next one gets the driver's copy and continues from there.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from velosweep.config.settings import RunSettings
from velosweep.files import make_folder, write_bytes, write_text
from velosweep.hydra_app.remote import SERVER_GROUP_NUMBER_STRIDE, RemoteGroup
from velosweep.measuring.events import RunEnded, RunStarted
from velosweep.planning.identity import identify, speculative_server, vanilla_server
from velosweep.planning.measurements import WARMUP_PROMPT, Measurement
from velosweep.reporting.console import make_console
from velosweep.reporting.progress import ProgressDisplay
from velosweep.results.journal import Journal, read_journal, row_to_sample
from velosweep.results.paths import SweepPaths
from velosweep.values import Mode, Sample, Status


def sweep_files(folder: Path) -> dict[str, bytes]:
    """The journal and sweep.json of `folder` by name. Raises OSError."""
    paths = SweepPaths(folder)
    return {path.name: path.read_bytes() for path in (paths.journal, paths.record)}


def write_sweep_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what `sweep_files` read into `folder`, so that a sweep there resumes. Raises StorageError."""
    make_folder(folder)
    for name, content in files.items():
        write_bytes(folder / name, content)


def line_sender(folder: Path, send: Callable[[str | bytes], None]) -> Callable[[bytes], None]:
    """An `on_line` for `run_sweep` in `folder`: sends each journal line, and sweep.json's text before the first."""
    record, sent = SweepPaths(folder).record, False

    def on_line(line: bytes) -> None:
        nonlocal sent
        if not sent and record.is_file():
            send(record.read_text(encoding="utf-8"))
            sent = True
        send(line)

    return on_line


class JournalReplica:
    """A group's folder on the driver. All methods raise StorageError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths = SweepPaths(folder)
        self._journal = Journal(self._paths.journal, lock=self._paths.lock)

    def files(self) -> dict[str, bytes] | None:
        """What has arrived so far; None before the record has, without which no worker can resume."""
        return sweep_files(self.folder) if self._paths.record.is_file() else None

    def samples(self) -> tuple[Sample, ...]:
        """The samples that have arrived so far."""
        return read_journal(self._paths.journal).samples

    def take(self, content: str | bytes) -> Sample | None:
        """Store what `line_sender` sent; returns the sample if it is one."""
        if isinstance(content, str):
            write_text(self._paths.record, content)
            return None
        row = json.loads(content)
        if row["kind"] == "journal":  # the header line, which our file has already
            return None
        self._journal.copy(content)
        return row_to_sample(row) if row["kind"] == "sample" else None

    def put_aside(self) -> None:
        """Start over with an empty journal; the old one is kept under another name."""
        self.close()
        number = sum(1 for _ in self.folder.glob("journal-*.jsonl"))
        self._paths.journal.rename(self._paths.journal.with_name(f"journal-{number}.jsonl"))
        self._paths.record.unlink(missing_ok=True)
        self._journal = Journal(self._paths.journal, lock=self._paths.lock)

    def close(self) -> None:
        """Close the journal, so that others may write it."""
        self._journal.close()


@contextmanager
def display_of(
    groups: Sequence[RemoteGroup], root: Path, settings: RunSettings, earlier: Sequence[Sample]
) -> Iterator[Callable[[RemoteGroup, Sample], None]]:
    """A function that shows a group's sample as a run of a lane. `earlier`: samples that the groups already have."""
    jobs = {group.name: identify(group.jobs, {}) for group in groups}
    lanes = {group.name: number for number, group in enumerate(groups)}
    with ProgressDisplay(
        [job for own in jobs.values() for job in own],
        console=make_console(),
        verbosity=settings.verbosity,
        done=sum(sample.status is Status.OK and not sample.warmup for sample in earlier),
    ) as observe:

        def show(group: RemoteGroup, sample: Sample) -> None:
            lane, own = lanes[group.name], jobs[group.name]
            job = next((job for job in own if job.num == sample.job_num), own[0])  # a vanilla run belongs to all jobs
            server = None if sample.mode is Mode.VANILLA else speculative_server(job)
            prompts = {prompt.id: prompt for prompt in job.prompts.prompts}
            measurement = Measurement(
                server=server or vanilla_server(job),
                job=job,
                prompt=prompts.get(sample.prompt_id, WARMUP_PROMPT),
                iteration=sample.iteration,
                launch=sample.launch,
                group=lane * SERVER_GROUP_NUMBER_STRIDE + sample.block,
                warmup=sample.warmup,
            )
            with suppress(OSError):  # a closed terminal must not end the sweep
                observe(RunStarted(lane=lane, measurement=measurement))
                observe(RunEnded(lane=lane, measurement=measurement, sample=sample))

        yield show
