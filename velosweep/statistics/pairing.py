"""Which runs belong together: rows of samples arranged into jobs, passes and prompts, each with its vanilla partner.

An *owner* is a job or a baseline: whoever a series of runs belongs to. A *pass* is one iteration of one launch in one
block on one machine; a *slot* is a pass and a prompt. Of several runs of a slot the latest successful attempt counts.
A speculative run's partner is the vanilla run of the same slot and attempt if that was successful, else the slot's
latest successful one. Nothing here depends on the order of rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from velosweep.errors import StorageError
from velosweep.records import JobRecord
from velosweep.statistics.columns import Columns, combined_key
from velosweep.values import Mode, Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The counted (not warm-up) runs of one job or baseline in one mode, sorted by slot, success and attempt.

    `rows` index the table; `slots` and `keys` (slot and rank in one number) are as long. `latest`: positions (into
    them) of the run of each slot that counts: the latest successful attempt, else the latest.
    """

    sweep_id: str
    job_id: str
    mode: Mode
    rows: Any
    slots: Any
    keys: Any
    latest: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRows:
    """One job's runs as arrays of row indices (passes x prompts), -1 where there is none.

    `vanilla[k, p]` is the partner of `speculative[k, p]`. A vanilla-only job has all -1 in `speculative`.
    `others` are attempts that a later one replaced; `all_vanilla` every latest vanilla run, paired or not.
    """

    job_id: str
    prompts: Any
    speculative: Any
    vanilla: Any
    others: Any
    all_vanilla: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedRuns:
    """All owners of a table. `slot = pass * prompt_count + prompt`.

    A run's rank is its attempt, plus `attempts` if it went well; ranks have the number base `2 * attempts`.
    """

    columns: Columns
    owners: tuple[Owner, ...]
    prompt: Any
    prompt_count: int
    attempts: int


def arrange(columns: Columns) -> IndexedRuns:
    """Sort the counted rows by owner, slot and attempt. Raises StorageError for an unknown mode."""
    rows = np.flatnonzero(columns.integer("warmup") == 0)
    prompt = columns.text("prompt_id").codes + 1
    prompt_count = len(columns.text("prompt_id").values) + 1
    place = [columns.text(name).codes for name in ("host", "device", "engine")]
    numbers = [columns.integer(name) for name in ("block", "launch", "iteration")]
    passes = combined_key([*place, *numbers])
    if len(passes) and int(passes.max()) >= 2**32:  # too large to be combined with others: their ranks are not
        passes = np.unique(passes, return_inverse=True)[1]
    slot = passes * prompt_count + prompt
    attempt = columns.integer("attempt")
    attempts = int(attempt.max()) + 1 if len(attempt) else 1
    rank = attempt + attempts * columns.ended_well()
    owner = combined_key([columns.text("sweep_id").codes, columns.text("job_id").codes, _modes(columns)])
    order = columns.integer("order")
    rows = rows[np.lexsort((order[rows], rank[rows], slot[rows], owner[rows]))]
    starts = np.flatnonzero(np.diff(owner[rows], prepend=-1))
    ends = np.append(starts[1:], len(rows))[: len(starts)]
    owners = []
    for start, end in zip(starts, ends, strict=True):
        own, first = rows[start:end], int(rows[start])
        slots = slot[own]
        owners.append(
            Owner(
                sweep_id=columns.text("sweep_id").at(first) or "",
                job_id=columns.text("job_id").at(first) or "",
                mode=Mode(columns.text("mode").at(first)),
                rows=own,
                slots=slots,
                keys=slots * 2 * attempts + rank[own],
                latest=np.flatnonzero(np.append(slots[1:] != slots[:-1], True)),
            )
        )
    return IndexedRuns(
        columns=columns, owners=tuple(owners), prompt=prompt, prompt_count=prompt_count, attempts=attempts
    )


def _modes(columns: Columns) -> Any:
    text = columns.text("mode")
    unknown = set(text.values) - {mode.value for mode in Mode}
    if unknown or (text.codes < 0).any():
        named = ", ".join(sorted(unknown)) or "null"
        raise StorageError(f"Samples of mode {named}", remedy=f"mode is {' or '.join(mode.value for mode in Mode)}")
    return text.codes


_CONTRACT = frozenset(field.name for field in fields(Sample))


class Baselines:
    """Finds the vanilla owner of a job: its own id, its record's baseline id, else by what the columns say."""

    def __init__(self, arrangement: IndexedRuns) -> None:
        self._arrangement = arrangement
        self.by_id: dict[tuple[str, str], int] = {}
        self._by_signature: dict[tuple[object, ...], list[int]] = {}
        self._settings = [name for name in arrangement.columns.table.column_names if name not in _CONTRACT]
        for index, owner in enumerate(arrangement.owners):
            if owner.mode is Mode.VANILLA:
                self.by_id[owner.sweep_id, owner.job_id] = index
                self._by_signature.setdefault(_signature(arrangement.columns, owner), []).append(index)

    def find(self, owner: Owner, record: JobRecord | None) -> tuple[int | None, bool]:
        """Index of the vanilla owner (None: there is none), and whether several fitted equally."""
        for job_id in (owner.job_id, record.baseline_id if record else None):
            if job_id is not None and (owner.sweep_id, job_id) in self.by_id:
                return self.by_id[owner.sweep_id, job_id], False
        if record is not None and record.skip_vanilla:
            return None, False
        fitting = self._by_signature.get(_signature(self._arrangement.columns, owner), [])
        fitting = [index for index in fitting if self._set_alike(self._arrangement.owners[index], owner)]
        if len(fitting) < 2:
            return next(iter(fitting), None), False
        owners = self._arrangement.owners
        return max(fitting, key=lambda index: len(np.intersect1d(owner.slots, owners[index].slots))), True

    def _set_alike(self, vanilla: Owner, owner: Owner) -> bool:
        """Whether a job has the values that vanilla runs have in columns of settings, which follow the contract's."""
        columns, places = self._arrangement.columns, (int(vanilla.rows[0]), int(owner.rows[0]))
        values = ([columns.text(name).at(place) for place in places] for name in self._settings)
        return all(theirs is None or theirs == own for theirs, own in values)


def _signature(columns: Columns, owner: Owner) -> tuple[object, ...]:
    """What a vanilla series must share with a job to be its baseline, when no baseline id says so."""
    row = int(owner.rows[0])
    texts = ("main_model", "prompt_set", "device", "host", "engine", "llama_cpp_build")
    return (
        owner.sweep_id,
        *(columns.text(name).at(row) for name in texts),
        int(columns.integer("n_predict")[row]),
        int(columns.integer("concurrency", 1)[row]),
        int(columns.integer("depth")[row]),
        float(columns.number("temperature")[row]) if columns.has("temperature") else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundJob:
    """A job's owners by index: its own runs (None: vanilla only) and its baseline (None: there is none)."""

    record: JobRecord | None
    speculative: int | None
    vanilla: int | None
    ambiguous: bool = False


def find_jobs(arrangement: IndexedRuns, records: Mapping[str, JobRecord]) -> list[FoundJob]:
    """Every job that has runs, by (job number, id): those with speculative runs, and the vanilla-only ones.

    Two kinds have vanilla runs only: a record that asks for no speculation, and a vanilla series that no job with runs
    uses as its baseline. The latter becomes the jobs whose records name it as their baseline, else a job of its own.
    """
    index = Baselines(arrangement)
    found = []
    for number, owner in enumerate(arrangement.owners):
        if owner.mode is Mode.SPECULATIVE:
            record = records.get(owner.job_id)
            vanilla, ambiguous = index.find(owner, record)
            found.append(FoundJob(record=record, speculative=number, vanilla=vanilla, ambiguous=ambiguous))
    seen = {owner.job_id for owner in arrangement.owners if owner.mode is Mode.SPECULATIVE}
    sweeps = sorted({owner.sweep_id for owner in arrangement.owners})
    for record in records.values():
        if record.id not in seen and record.n_draft == 0:
            places = [(sweep, name) for sweep in sweeps for name in (record.id, record.baseline_id)]
            vanilla = next((index.by_id[place] for place in places if place in index.by_id), None)
            if vanilla is not None:
                found.append(FoundJob(record=record, speculative=None, vanilla=vanilla))
    used = {job.vanilla for job in found}
    for number, owner in enumerate(arrangement.owners):
        if owner.mode is Mode.VANILLA and number not in used:
            without = [r for r in records.values() if r.baseline_id == owner.job_id and r.id not in seen]
            found += [FoundJob(record=record, speculative=None, vanilla=number) for record in without or (None,)]
    return sorted(found, key=lambda job: _place(arrangement, job))


def _place(arrangement: IndexedRuns, job: FoundJob) -> tuple[float, str, str]:
    owner = arrangement.owners[_either(job)]
    number = arrangement.columns.number("job_num")[int(owner.rows[0])]
    if job.record is not None:
        return (job.record.num, owner.sweep_id, job.record.id)
    return (float(number) if number == number else float("inf"), owner.sweep_id, owner.job_id)


def _either(job: FoundJob) -> int:
    leading = job.speculative if job.speculative is not None else job.vanilla
    if leading is None:
        raise ValueError("a job has at least one kind of runs")
    return leading


def job_rows(arrangement: IndexedRuns, job: FoundJob) -> JobRows:
    """The rows of one job from those of its owners."""
    speculative = None if job.speculative is None else arrangement.owners[job.speculative]
    vanilla = None if job.vanilla is None else arrangement.owners[job.vanilla]
    record = job.record
    leading = arrangement.owners[_either(job)]
    latest = leading.latest
    rows, slots = leading.rows[latest], leading.slots[latest]
    number = slots // arrangement.prompt_count  # sorted, as slots are
    pass_of = np.cumsum(np.diff(number, prepend=number[:1]) > 0)
    prompts = _prompt_order(arrangement, rows, record)
    column_of = np.zeros(arrangement.prompt_count, dtype=np.int64)
    column_of[prompts] = np.arange(len(prompts))
    where = (pass_of, column_of[slots % arrangement.prompt_count])
    own, partners = np.full((2, int(pass_of[-1]) + 1, len(prompts)), -1, dtype=np.int64)
    all_vanilla = np.zeros(0, dtype=np.int64)
    if vanilla is not None:
        all_vanilla = vanilla.rows[vanilla.latest]
        partner = _partners(vanilla, leading.keys[latest], slots, arrangement.attempts)
        partners[where] = np.where(partner >= 0, vanilla.rows[partner], -1)
    if speculative is not None:
        own[where] = rows
    return JobRows(
        job_id=record.id if record else leading.job_id,
        prompts=prompts,
        speculative=own,
        vanilla=partners,
        others=np.delete(leading.rows, latest),
        all_vanilla=all_vanilla,
    )


def _partners(vanilla: Owner, keys: Any, slots: Any, attempts: int) -> Any:
    """Positions in `vanilla.rows`: the good run of the same slot and attempt, else the slot's latest, else -1."""
    if np.array_equal(vanilla.keys, keys):
        return np.arange(len(keys))  # as where nothing failed
    base = 2 * attempts
    wanted = slots * base + attempts + keys % attempts
    at = np.searchsorted(vanilla.keys, wanted, side="right") - 1
    last = np.searchsorted(vanilla.keys, (slots + 1) * base) - 1
    # Where there is none before, -1 is the last one, which is of a later slot.
    latest = np.where(vanilla.slots[last] == slots, last, -1)
    return np.where(vanilla.keys[at] == wanted, at, latest)


def _prompt_order(arrangement: IndexedRuns, rows: Any, record: JobRecord | None) -> Any:
    """Prompt codes as the record lists them, else as they were first measured (by `order`, then by id)."""
    codes = arrangement.prompt[rows]
    present = np.unique(codes)
    if record is not None and record.prompt_ids:
        rank = {prompt: index for index, prompt in enumerate(record.prompt_ids)}
        names = arrangement.columns.text("prompt_id").values
        last = len(rank)
        return np.array(sorted(present, key=lambda code: (rank.get(names[code - 1], last) if code else last, code)))
    first = np.full(int(present[-1]) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, arrangement.columns.integer("order")[rows])
    return present[np.lexsort((present, first[present]))]
