"""sweep.json: what was asked, on which machine, how each job ended; made from samples alone where it is gone.

And what follows from it: the exit status, and the return values that Hydra gets for its jobs.
"""

import json
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from velosweep.errors import ExitStatus, MismatchError, SchemaError, StorageError
from velosweep.files import as_storage_error, write_text
from velosweep.planning.job_settings import overridden_settings
from velosweep.records import Environment, JobRecord, SweepRecord
from velosweep.results.parquet_files import check_schema, to_plain
from velosweep.results.paths import SweepPaths, is_sweep
from velosweep.units import plural
from velosweep.values import Mode

if TYPE_CHECKING:
    import pyarrow as pa


def write_record(path: Path, record: SweepRecord) -> None:
    """Write sweep.json atomically. Raises StorageError."""
    content = {"schema_version": record.schema_version, **to_plain(record)}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(path: Path) -> SweepRecord:
    """Read sweep.json. Raises StorageError where it is missing or damaged, SchemaError for a newer program's."""
    if not path.is_file():
        raise StorageError(f"No {path.name} in {path.parent}", remedy="name the folder of a sweep")
    try:
        with as_storage_error(path, doing="read"):
            content = json.loads(path.read_text("utf-8"))
        check_schema(path, content["schema_version"])
        for job in content["jobs"]:
            job.setdefault("settings", overridden_settings(job["overrides"]))  # a sweep before these were kept
        content.setdefault("shared_out", SweepPaths(path.parent).groups.is_dir())  # likewise
        record: SweepRecord = _from_plain(SweepRecord, content)
        return record
    except (SchemaError, StorageError):
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            remedy="restore it from a copy, or move it away: report and collate then go by the samples alone",
        ) from error


def refuse_job_folder(folder: Path) -> None:
    """Raise MismatchError for the folder of a job of a sweep: another sweep there would replace the job's files."""
    for root in filter(is_sweep, folder.parents):
        jobs: Sequence[JobRecord] = ()
        with suppress(StorageError):  # damaged, or somebody else's file of this name
            jobs = read_record(SweepPaths(root).record).jobs
        if any(root / job.directory == folder for job in jobs):
            raise MismatchError(
                f"{folder} is the folder of a job of the sweep {root}, whose results would be written over",
                remedy="choose another hydra.run.dir (with -m hydra.sweep.dir)",
            )


_hints = lru_cache(typing.get_type_hints)


@lru_cache
def _generic(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


def _from_plain(kind: Any, value: dict[str, Any]) -> Any:
    """The inverse of `to_plain`; keys that `kind` doesn't know are left out, absent ones take their default.

    Raises TypeError or ValueError for what doesn't fit.
    """
    return kind(**{name: _decode(hint, value[name]) for name, hint in _hints(kind).items() if name in value})


def _decode(hint: Any, value: Any) -> Any:
    if type(value) is hint:
        return value
    origin, arguments = _generic(hint)
    if origin in (Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not types.NoneType]
        return None if value is None else _decode(kinds[0], value)
    if origin is Mapping:
        return dict(value)
    if origin is tuple:
        return tuple(_decode(arguments[0], item) for item in value)
    if is_dataclass(hint):
        return _from_plain(hint, value)
    if hint is datetime:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint):
        raise TypeError(f"expected {hint.__name__}, found {value!r}")
    return value


_KEYS = ["job_id", "mode", "prompt_id"]
_FIRST = ["sweep_id", "job_num", "model_pair", "main_model", "draft_model", "speculation", "n_draft", "n_predict"]
_FIRST += ["concurrency", "depth", "prompt_set", "started_at", "host", "device", "engine", "llama_cpp_build"]


def record_from_samples(table: "pa.Table", keys: Mapping[str, str]) -> SweepRecord:
    """One job a `job_id` of speculative rows, in order of `job_num`; what samples don't say stays at its default.

    `keys`: the setting of each column beside the contract's.
    """
    grouped = table.group_by(_KEYS, use_threads=False)
    firsts = grouped.aggregate([*((name, "first") for name in (*_FIRST, *keys)), ("iteration", "max")])
    rows: list[dict[str, Any]] = [
        {name.removesuffix("_first"): row[name] for name in row} for row in firsts.to_pylist()
    ]
    chosen = [row for row in rows if row["mode"] == Mode.SPECULATIVE.value] or rows
    by_job = groupby(sorted(chosen, key=lambda row: row["job_id"] or ""), key=lambda row: row["job_id"] or "")
    jobs = sorted((list(members) for _, members in by_job), key=lambda members: members[0]["job_num"] or 0)
    first = chosen[0] if chosen else {}
    started = [row["started_at"] for row in chosen if row["started_at"] is not None]
    return SweepRecord(
        sweep_id=first.get("sweep_id") or "",
        created_at=min(started) if started else datetime.fromtimestamp(0, timezone.utc),
        command=(),
        single=len(jobs) == 1,
        jobs=tuple(_job(number, members, keys) for number, members in enumerate(jobs)),
        environment=Environment(
            velosweep="unknown",
            python="unknown",
            host=first.get("host") or "unknown",
            system="unknown",
            cpu=first.get("device") or "unknown",
            physical_cores=0,
            logical_cores=0,
            memory_bytes=0,
            devices=(),
            engine=first.get("engine") or "unknown",
            program=None,
            program_sha256=None,
            llama_cpp_build=first.get("llama_cpp_build") or "unknown",
        ),
    )


def _job(number: int, rows: list[dict[str, Any]], keys: Mapping[str, str]) -> JobRecord:
    first = rows[0]
    num = number if first["job_num"] is None else first["job_num"]
    return JobRecord(
        id=first["job_id"] or "",
        num=num,
        baseline_id="",
        directory=str(num),
        overrides=(),
        model_pair=first["model_pair"] or "",
        main_model=first["main_model"] or "",
        draft_model=first["draft_model"],
        speculation=first["speculation"] or "draft",
        n_draft=first["n_draft"] or 0,
        n_predict=first["n_predict"] or 0,
        concurrency=first["concurrency"] or 1,
        depth=first["depth"] or 0,
        prompt_set=first["prompt_set"] or "",
        settings={key: first[name] for name, key in keys.items() if first[name] is not None},
        prompt_ids=tuple(sorted(row["prompt_id"] or "" for row in rows)),
        iterations=max(row["iteration_max"] for row in rows),
        state="done",
    )


Summary = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOutcome:
    """How a sweep ended. `summaries[i]` is job i's summary.json as a mapping, None where it failed; `errors[i]` why."""

    exit_status: int
    summaries: tuple[Summary | None, ...]
    errors: tuple[str | None, ...]

    @property
    def why(self) -> str | None:
        """Why the exit status is not 0, in a sentence; None where it is."""
        failed = [error for error in self.errors if error is not None]
        first = f": {failed[0]}" if failed else ""
        if self.exit_status == ExitStatus.INTERRUPTED:
            measured = any(summary is not None for summary in self.summaries)
            return (
                "Interrupted; everything measured is saved" if measured else "Interrupted before anything was measured"
            )
        if self.exit_status == ExitStatus.NOTHING_MEASURED:
            return f"Nothing could be measured{first}"
        if self.exit_status == ExitStatus.SOME_FAILED:
            return f"{len(failed)} of {plural(len(self.errors), 'setting')} failed or failed in part{first}"
        return None

    @classmethod
    def of(
        cls, summaries: Sequence[Summary | None], errors: Sequence[str | None], *, interrupted: bool = False
    ) -> "SweepOutcome":
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
    def together(cls, outcomes: Sequence["SweepOutcome"]) -> "SweepOutcome":
        """The outcome of all jobs of several, at least one, that ended one after the other."""
        statuses = {outcome.exit_status for outcome in outcomes}
        status = ExitStatus.INTERRUPTED if ExitStatus.INTERRUPTED in statuses else ExitStatus.SOME_FAILED
        return cls(
            exit_status=int(status) if len(statuses) > 1 else outcomes[0].exit_status,
            summaries=tuple(chain.from_iterable(outcome.summaries for outcome in outcomes)),
            errors=tuple(chain.from_iterable(outcome.errors for outcome in outcomes)),
        )

    @classmethod
    def of_sweep(
        cls,
        record: SweepRecord,
        summaries: Iterable[Summary | None],
        *,
        asked: Collection[str] | None = None,
        interrupted: bool = False,
    ) -> "SweepOutcome":
        """The outcome of a sweep's jobs, or only of those `asked` for by id; `summaries` in the record's order.

        Twins of a job come to the same, each in its own place by its number.
        """
        may_be_unmeasured = record.tuner is not None and not interrupted  # a search needs few of its candidates
        found: dict[int, tuple[Summary | None, str | None]] = {}
        for job, summary in zip(record.jobs, summaries, strict=True):
            if asked is not None and job.id not in asked:
                continue
            own_mode = "vanilla" if job.speculation == "none" else "speculative"
            measured = summary if summary is not None and summary[own_mode] else None
            unmeasured = None if measured is not None or may_be_unmeasured else "nothing was measured"
            found |= dict.fromkeys((job.num, *job.twins), (measured, job.error or unmeasured))
        ended = [found[num] for num in sorted(found)]
        return cls.of([summary for summary, _ in ended], [error for _, error in ended], interrupted=interrupted)
