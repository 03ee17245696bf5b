"""What an earlier run of the same sweep measured, and the plan that goes on from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from velosweep.measuring.prepare import Prepared
from velosweep.planning.measurements import RunKey, sample_key
from velosweep.planning.server_groups import ServerGroup, plan_groups, plan_with_earlier
from velosweep.results.journal import read_journal
from velosweep.results.paths import SweepPaths
from velosweep.values import Sample, decode_speed

OutputKey = tuple[str, str]
"""Baseline id and prompt id."""


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """What is remembered of a good sample: a sweep keeps tens of thousands of these, and the journal all the rest."""

    predicted_tokens: int
    predicted_ms: float
    total_ms: float

    @classmethod
    def of(cls, sample: Sample) -> "CompletedRun":
        return cls(sample.predicted_tokens or 0, sample.predicted_ms or 0.0, sample.total_time_ms or 0.0)

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, as `Sample.tokens_per_second`; 0 where the time is unknown."""
        return decode_speed(self.predicted_tokens, self.predicted_ms) or 0.0


@dataclass(frozen=True, kw_only=True)
class EarlierResults:
    """What an earlier run of this sweep left."""

    done: dict[RunKey, CompletedRun] = field(default_factory=dict)  # good samples
    outputs: dict[OutputKey, tuple[int, ...]] = field(default_factory=dict)  # the tokens of vanilla
    refused: dict[tuple[str, str], str] = field(default_factory=dict)  # why, by job id and prompt id
    next_order: int = 0
    groups: dict[str, tuple[str, int]] = field(default_factory=dict)  # each job's, as (baseline id, number)


def plan(
    prepared: Prepared, earlier: Mapping[str, tuple[str, int]] | None = None, *, search: bool = False
) -> tuple[ServerGroup, ...]:
    """Groups of servers that are loaded together, as memory and the number of lanes allow; `earlier` ones are kept.

    `search`: one group for all jobs of a baseline, whose servers make room for each other.
    """
    if search:
        return plan_groups(prepared.jobs, resident_servers=lambda job: len(prepared.jobs) + 1)
    memory = prepared.memory_estimates(prepared.lanes[0])
    return plan_with_earlier(
        prepared.jobs, earlier or {}, lanes=len(prepared.lanes), resident_servers=memory.resident_servers
    )


def plan_as_data(groups: Sequence[ServerGroup]) -> list[list[object]]:
    """The groups as the journal keeps them: baseline id, number and job ids of each."""
    return [[group.jobs[0].baseline_id, group.number, [job.id for job in group.jobs]] for group in groups]


def earlier_progress(paths: SweepPaths) -> EarlierResults:
    """What the journal holds. Raises StorageError."""
    contents = read_journal(paths.journal)

    def noted(kind: str) -> list[Mapping[str, Any]]:
        return [event.data for event in contents.events if event.kind == kind]

    done = {sample_key(sample): CompletedRun.of(sample) for sample in contents.samples if sample.is_counted}
    outputs = {(one["baseline_id"], one["prompt_id"]): tuple(one["tokens"]) for one in noted("output")}
    refused = {(job_id, one["prompt_id"]): one["error"] for one in noted("refused") for job_id in one["job_ids"]}
    next_order = max((sample.order for sample in contents.samples), default=-1) + 1
    groups = {  # of the last plan that each job was part of
        job_id: (baseline_id, number)
        for one in noted("plan")
        for baseline_id, number, job_ids in one["blocks"]
        for job_id in job_ids
    }
    return EarlierResults(done=done, outputs=outputs, refused=refused, next_order=next_order, groups=groups)
