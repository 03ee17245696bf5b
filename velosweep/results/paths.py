"""The names of a sweep's files, in one place: no other module spells one."""

import hashlib
import os
import re
from pathlib import Path

from velosweep.config.settings import Job
from velosweep.errors import StorageError
from velosweep.records import JobRecord

SAMPLES = "samples.parquet"
RESULTS = "results.parquet"
RECORD = "sweep.json"
JOURNAL = "journal.jsonl"
GROUP_FOLDER = ".groups"
COMPARISON = "comparison.html"

_UNSAFE = re.compile(r"[^\w.-]+")


def safe_name(text: str) -> str:
    """`text` as one harmless component of a path: letters and digits of any script, `._-`, never hidden, at most 100
    characters. What had to be changed ends in a hash, so that no two texts come to one name."""
    name = _UNSAFE.sub("_", text).lstrip(".").encode()[:200].decode(errors="ignore")[:100]
    if name and name == text:
        return name
    return f"{name[:87]}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


class JobPaths:
    """The files of one job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.summary = root / "summary.json"  # the specification's object
        self.samples = root / SAMPLES  # the rows that it was computed from

    def prompt(self, prompt_id: str) -> Path:
        """The specification's object for one prompt."""
        return self.root / "prompts" / f"{safe_name(prompt_id)}.json"


class SweepPaths:
    """The files of one sweep. For a single job the sweep is that job and its directory is `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / RECORD  # what was asked, where it ran, how each job ended
        self.journal = root / JOURNAL  # each sample as it came; all derived files are made from it
        self.samples = root / SAMPLES  # one row a run, every job
        self.results = root / RESULTS  # one row a job and prompt, and one a job
        self.summaries = root / "summaries.json"  # the jobs' summaries, a JSON array
        self.tuner = root / "tuner.parquet"  # every decision of `hydra/sweeper=tune`, with its evidence
        self.report = root / "report.html"  # one page, no network
        self.comparison = root / COMPARISON  # with an earlier sweep
        self.groups = root / GROUP_FOLDER  # only of a sweep that was shared out over machines: a sweep each
        self.lock = root / "lock"  # held by the one process that writes the sweep
        self._jobs: dict[str, JobPaths] = {}

    def log(self, server_id: str, launch: int) -> Path:
        """What a server wrote during one launch."""
        return self.root / "logs" / f"{safe_name(server_id)}-{launch}.log"

    def job_directory(self, job: Job | JobRecord) -> Path:
        """Where a job's files go. Raises StorageError for a directory outside the sweep's folder, or a link's."""
        relative = Path(job.directory)
        parts = relative.parts
        folders = (os.path.join(self.root, *parts[:depth]) for depth in range(1, len(parts) + 1))  # noqa: PTH118 (fast)
        if relative.is_absolute() or ".." in parts or any(map(os.path.islink, folders)):
            raise StorageError(
                f"A job's directory {job.directory!r} lies outside its sweep {self.root}",
                remedy="choose hydra.sweep.subdir below hydra.sweep.dir",
            )
        return self.root / relative

    def job(self, job: Job | JobRecord) -> JobPaths:
        """The files of one job. Raises as `job_directory`, which is asked once."""
        if job.directory not in self._jobs:
            self._jobs[job.directory] = JobPaths(self.job_directory(job))
        return self._jobs[job.directory]


def is_sweep(folder: Path) -> bool:
    """Whether `folder` is the root of a sweep."""
    return (folder / RECORD).is_file()
