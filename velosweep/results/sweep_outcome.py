"""How a sweep ended: the exit status, and the return values that Hydra gets for its jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from velosweep.errors import ExitStatus
from velosweep.records import SweepRecord

Summary = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOutcome:
    """How a sweep ended. `summaries[i]` is job i's summary.json as a mapping, None where it failed; `errors[i]` why."""

    exit_status: int
    summaries: tuple[Summary | None, ...]
    errors: tuple[str | None, ...]

    @classmethod
    def of(
        cls, summaries: Sequence[Summary | None], errors: Sequence[str | None], *, interrupted: bool = False
    ) -> SweepOutcome:
        """The outcome of these jobs: interrupted, nothing, some or all measured."""
        if interrupted:
            status = ExitStatus.INTERRUPTED
        elif all(summary is None for summary in summaries):
            status = ExitStatus.NOTHING_MEASURED
        elif any(error is not None for error in errors):
            status = ExitStatus.SOME_FAILED
        else:
            status = ExitStatus.OK
        return cls(exit_status=int(status), summaries=tuple(summaries), errors=tuple(errors))

    @classmethod
    def of_sweep(
        cls,
        record: SweepRecord,
        summaries: Iterable[Summary | None],
        *,
        asked: Collection[str] | None = None,
        interrupted: bool = False,
    ) -> SweepOutcome:
        """The outcome of a sweep's jobs, or only of those `asked` for by id; `summaries` in the record's order."""
        may_be_unmeasured = record.tuner is not None and not interrupted  # a search needs few of its candidates
        found: list[tuple[Summary | None, str | None]] = []
        for job, summary in zip(record.jobs, summaries, strict=True):
            if asked is not None and job.id not in asked:
                continue
            own_mode = "vanilla" if job.speculation == "none" else "speculative"
            measured = summary if summary is not None and summary[own_mode] else None
            unmeasured = None if measured is not None or may_be_unmeasured else "nothing was measured"
            found.append((measured, job.error or unmeasured))
        return cls.of([summary for summary, _ in found], [error for _, error in found], interrupted=interrupted)
