"""Jobs whose files were written while their sweep went on, so that its end has only the rest to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from velosweep.records import JobRecord
from velosweep.results.chunks import Chunk
from velosweep.results.parts import Done, Setting, work_on
from velosweep.results.row_order import in_canonical_order, owner_ranges
from velosweep.results.samples_file import samples_to_table
from velosweep.values import Sample

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecomputedResults:
    """All jobs of one or more baselines, worked out from all rows that their owners had then: `rows[owner]` each."""

    jobs: tuple[JobRecord, ...]
    rows: Mapping[str, int]
    done: Done

    def stands(self, jobs: Mapping[str, JobRecord], rows: Mapping[str, int]) -> bool:
        """Whether the sweep still asks the same of these jobs (`jobs`, by id) and their owners have no other rows.

        Rows are only ever added to a journal, so that their numbers tell.
        """
        return all(job.id in jobs and _asked(jobs[job.id]) == _asked(job) for job in self.jobs) and all(
            rows.get(owner, 0) == self.rows.get(owner, 0) for owner in owners(self.jobs)
        )


def ready(setting: Setting, jobs: Sequence[JobRecord], samples: Sequence[Sample]) -> PrecomputedResults:
    """Compare jobs and write the files of each, as `derive` would; `samples`: all of theirs. Raises StorageError."""
    table = in_canonical_order(samples_to_table(samples))
    return PrecomputedResults(
        jobs=tuple(jobs),
        rows=Counter(sample.job_id for sample in samples),
        done=work_on(setting, Chunk(jobs=tuple(jobs), table=table)),
    )


def owners(jobs: Sequence[JobRecord]) -> set[str]:
    """The `job_id`s of all rows that these jobs' figures come from."""
    return {owner for job in jobs for owner in (job.id, job.baseline_id)}


def rows_by_owner(table: pa.Table) -> dict[str, int]:
    """How many rows each `job_id` of a table in canonical order has."""
    return {owner: count for owner, (_, count) in owner_ranges(table).items()}


def _asked(job: JobRecord) -> JobRecord:
    """The record but for how the job ended."""
    return replace(job, state="pending", error=None)
