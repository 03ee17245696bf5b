"""The runs of a table of samples: which count, their figures as arrays, and the series that comparisons are made of.

A job's figures are made of usable runs, in pairs where there are pairs, of prompts that went well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from velosweep.statistics.acceptance import Counts
from velosweep.statistics.columns import Columns, combined_key
from velosweep.statistics.comparison import ModeStatistics, Statistics
from velosweep.statistics.intervals import mean_stddev
from velosweep.statistics.pairing import JobRows
from velosweep.values import Mode

_ROUND = ("block", "launch", "iteration", "attempt")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One mode's counted figures of several comparisons: arrays, comparisons x passes.

    `time` orders the passes as they were measured; `launch` is of each pass, the same for all comparisons.
    """

    tokens_per_second: Any
    time_to_first_token_ms: Any
    total_time_ms: Any
    time: Any
    launch: Any

    def statistics(self) -> list[ModeStatistics | None]:
        """The specification's figures of each comparison; None for no runs."""
        if not len(self.launch):
            return [None] * len(self.time)
        metrics = (self.tokens_per_second, self.time_to_first_token_ms, self.total_time_ms)
        several = bool((self.launch != self.launch[0]).any())
        launches = self.independent_logs().tolist() if several else [()] * len(self.time)
        return [
            ModeStatistics(
                tokens_per_second=speed, time_to_first_token_ms=first, total_time_ms=total, launch_logs=tuple(logs)
            )
            for speed, first, total, logs in zip(*map(_statistics, metrics), launches, strict=True)
        ]

    def independent_logs(self) -> Any:
        """Log tokens per second: comparisons x passes, or x launches, as means, where there are several.

        Runs of one launch share what its start has of its own.
        """
        logs, launches = np.log(self.tokens_per_second), np.unique(self.launch)
        if len(launches) < 2:
            return logs
        return np.stack([logs[:, self.launch == one].mean(axis=1) for one in launches], axis=1)


def _statistics(x: Any) -> list[Statistics]:
    mean, stddev = mean_stddev(x)
    deviations = stddev.tolist() if x.shape[1] > 1 else [None] * len(x)
    rows = zip(mean.tolist(), deviations, x.min(axis=1).tolist(), x.max(axis=1).tolist(), x.tolist(), strict=True)
    return [Statistics(mean=m, stddev=sd, min=low, max=high, samples=tuple(all_)) for m, sd, low, high, all_ in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """All runs of a table of samples, an array entry a row.

    `usable`: ended well with sound figures; `failed`: failed or timed out; `invalid`: the rest. `tokens`: what
    decoding produced. `rounds`: the main model's steps, of which `drafting_rounds` had a draft to verify.
    `measuring_round`: the same for runs of one attempt at one round of all servers. `time`: seconds that order the runs
    as they were measured. `finished_us`: since 1970, negative where unknown. Methods take arrays of row numbers,
    comparisons x passes, all of them there.
    """

    columns: Columns
    usable: Any
    failed: Any
    invalid: Any
    tokens: Any
    rounds: Any
    drafting_rounds: Any
    measuring_round: Any
    time: Any
    finished_us: Any

    def series(self, rows: Any) -> Series:
        """The figures of runs of one prompt, as they were measured. `rows`: comparisons x passes."""
        columns = self.columns
        return Series(
            tokens_per_second=columns.number("tokens_per_second")[rows],
            time_to_first_token_ms=columns.number("time_to_first_token_ms")[rows],
            total_time_ms=columns.number("total_time_ms")[rows],
            time=self.time[rows],
            launch=columns.integer("launch")[rows[0]],
        )

    def suite_series(self, rows: Any) -> Series:
        """The figures of passes over a prompt set: its tokens over its time. `rows`: comparisons x passes x prompts."""
        columns = self.columns
        tokens = self.tokens[rows]
        seconds = tokens / columns.number("tokens_per_second")[rows]
        return Series(
            tokens_per_second=tokens.sum(axis=2) / seconds.sum(axis=2),
            time_to_first_token_ms=columns.number("time_to_first_token_ms")[rows].mean(axis=2),
            total_time_ms=columns.number("total_time_ms")[rows].sum(axis=2),
            time=self.time[rows].mean(axis=2),
            launch=columns.integer("launch")[rows[0, :, 0]],
        )

    def suite_speedup(self, vanilla: Any, speculative: Any) -> list[float]:
        """Sum of vanilla times over sum of speculative times, at vanilla's tokens. Comparisons x passes x prompts."""
        speed = self.columns.number("tokens_per_second")
        # A prompt's passes lie together in memory: see intervals.
        vanilla, speculative = (np.ascontiguousarray(rows.swapaxes(1, 2)) for rows in (vanilla, speculative))
        tokens = self.tokens[vanilla].mean(axis=2)
        before, after = ((tokens * (1 / speed[rows]).mean(axis=2)).sum(axis=1) for rows in (vanilla, speculative))
        return list((before / after).tolist())

    def decode_ms(self, rows: Any) -> Any:
        """How long each run decoded, in the shape of `rows`."""
        return self.tokens[rows] / self.columns.number("tokens_per_second")[rows] * 1000

    def by_mode(self, rows: Any) -> tuple[Any, Any]:
        """The rows that are vanilla's, and the others."""
        mode = self.columns.text("mode")
        vanilla = mode.codes[rows] == mode.code(Mode.VANILLA.value)
        return rows[vanilla], rows[~vanilla]

    def counts(self, rows: Any) -> list[Counts | None]:
        """Draft counts of each comparison, a mean over its runs; None where they aren't known of every run."""
        if not rows.shape[1]:
            return [None] * len(rows)
        columns = self.columns
        figures = (columns.number("draft_tokens"), columns.number("accepted_tokens"), self.rounds, self.drafting_rounds)
        means = [figure[rows].mean(axis=1) for figure in figures]
        known: Any = np.isfinite(means).all(axis=0)
        found = [
            Counts(drafted=d, accepted=a, rounds=r, drafting_rounds=of_drafts, per_position=positions)
            for d, a, r, of_drafts, positions in zip(
                *(mean.tolist() for mean in means), self._per_position(rows), strict=True
            )
        ]
        return [counts if known[p] else None for p, counts in enumerate(found)]

    def _per_position(self, rows: Any) -> list[tuple[float, ...] | None]:
        """Mean accepted counts by draft position of each comparison; None unless each of its runs has them.

        Each as long as its own runs' lists: a position that can't be drafted is no position at which nothing was
        accepted.
        """
        lists = self.columns.lists("accepted_per_position")
        if lists is None:
            return [None] * len(rows)
        offsets, values = lists
        starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
        place = np.arange(int(lengths.max()))
        index = np.minimum(starts[..., None] + place, len(values) - 1)
        counts = np.where(place < lengths[..., None], values[index], 0).mean(axis=1)
        shortest, longest = lengths.min(axis=1).tolist(), lengths.max(axis=1).tolist()
        return [
            tuple(row[:length]) if least else None
            for row, least, length in zip(counts.tolist(), shortest, longest, strict=True)
        ]

    def energy_j_per_token(self, rows: Any) -> list[float | None]:
        """Joules over generated tokens of each comparison's runs; None where energy was not read of every run.

        And of several streams: their tokens are counted while all are busy, their joules over the whole run.
        """
        if not self.columns.has("energy_j") or (self.columns.integer("concurrency", 1)[rows] > 1).any():
            return [None] * len(rows)
        joules, tokens = (self.columns.number(name)[rows].sum(axis=1) for name in ("energy_j", "predicted_tokens"))
        with np.errstate(invalid="ignore", divide="ignore"):
            per_token = (joules / tokens).tolist()
        return [x if math.isfinite(x) else None for x in per_token]

    def memory_bytes(self, rows: Any) -> int | None:
        """The most that the servers of these runs held; None where it isn't known."""
        held = self.columns.number("memory_bytes")[rows]
        known = held[np.isfinite(held)]
        return int(known.max()) if len(known) else None

    def finished(self, modes: Sequence[Any]) -> list[datetime | None]:
        """When the last of each comparison's runs ended: the same whenever it is computed. `modes`: rows of each."""
        ends = np.max([self.finished_us[rows].max(axis=1, initial=-1) for rows in modes], axis=0)
        return [_EPOCH + timedelta(microseconds=us) if us >= 0 else None for us in ends.tolist()]


def runs_of(columns: Columns) -> Runs:
    """Which rows count, and the figures that aren't a column as they are."""
    speed = columns.number("tokens_per_second")
    first, total = columns.number("time_to_first_token_ms"), columns.number("total_time_ms")
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(speed) & (speed > 0) & np.isfinite(first) & (first >= 0) & np.isfinite(total) & (total > 0)
    status = columns.text("status")
    failed = np.isin(status.codes, [status.code("failed"), status.code("timeout")])
    usable = columns.ended_well() & sound
    predicted = columns.number("predicted_tokens") - 1  # the first token comes with the prompt
    asked = np.maximum(columns.integer("n_predict") - 1, 1).astype(float)
    rounds, drafting = columns.number("rounds"), columns.number("drafting_rounds")
    # Rows without `drafting_rounds` may be of before November 2026: then `rounds` counts only those that drafted.
    every = np.where(np.isfinite(drafting), rounds, np.fmax(rounds, predicted - columns.number("accepted_tokens")))
    started = columns.microseconds("started_at")
    known = started > np.iinfo(np.int64).min
    if known.all() and len(known):
        time = (started - int(started.min())) / 1e6
    else:
        time = columns.integer("order" if columns.has("order") else "iteration").astype(float)
    took = np.where(usable, total * 1000, 0).astype(np.int64)
    return Runs(
        columns=columns,
        usable=usable,
        failed=failed,
        invalid=~failed & ~usable,
        tokens=np.where(np.isfinite(predicted) & (predicted > 0), predicted, asked),
        rounds=every,
        drafting_rounds=np.where(np.isfinite(drafting), drafting, np.where(np.isfinite(rounds), rounds, every)),
        measuring_round=combined_key([columns.text("host").codes, *(columns.integer(name) for name in _ROUND)]),
        time=time,
        finished_us=started + took,
    )


def used_rows(runs: Runs, job: JobRows) -> tuple[Any, Any, bool]:
    """(vanilla, speculative, paired): rows that are averaged, passes x prompts, -1 where none.

    Where any pair has two usable halves only pairs count; else all usable runs of both modes, unpaired.
    """
    vanilla, speculative = (
        np.where((cube >= 0) & runs.usable[cube], cube, -1) for cube in (job.vanilla, job.speculative)
    )
    both = (vanilla >= 0) & (speculative >= 0)
    if both.any():
        return np.where(both, vanilla, -1), np.where(both, speculative, -1), True
    if (job.speculative < 0).all():
        return vanilla, speculative, False
    # No vanilla run is of a speculative one's pass: they make passes of their own, of the same server group.
    group = runs.columns.integer("block")
    rows = job.all_vanilla[runs.usable[job.all_vanilla]]
    rows = rows[np.isin(group[rows], group[present_rows(job.speculative)])]
    codes = runs.columns.text("prompt_id").codes[rows] + 1
    columns = [rows[codes == prompt] for prompt in job.prompts]
    vanilla = np.full((max(map(len, columns)), len(columns)), -1, dtype=np.int64)
    for p, column in enumerate(columns):
        vanilla[: len(column), p] = column
    return vanilla, speculative, False


def suite_prompts(runs: Runs, job: JobRows, vanilla: Any, speculative: Any) -> Any:
    """Mask of the prompts over which passes are compared: all, but for those whose failures cost more than they give.

    A prompt that failed for good leaves no whole pass. Of the prompts with a failed run those with the fewest good ones
    are left out, so many that the whole passes hold the most runs. `vanilla`, `speculative`: the used rows, passes x
    prompts, -1 where none.
    """
    there = (speculative if (speculative >= 0).any() else vanilla) >= 0
    failed = [(cube >= 0) & ~runs.usable[cube] for cube in (job.vanilla, job.speculative)]
    suspects = np.flatnonzero((failed[0] | failed[1]).any(axis=0))
    worst_first = suspects[np.lexsort((-suspects, there[:, suspects].sum(axis=0)))]
    masks = [~np.isin(np.arange(len(job.prompts)), worst_first[:out]) for out in range(len(suspects) + 1)]
    return max(masks, key=lambda mask: int(there[:, mask].all(axis=1).sum() * mask.sum()))


def present_rows(rows: Any) -> Any:
    """The rows that are there."""
    return rows[rows >= 0]


def all_rows(job: JobRows) -> Any:
    """Every counted run of a job: its own, their partners, and attempts that were repeated."""
    return present_rows(np.concatenate([job.speculative.ravel(), job.vanilla.ravel(), job.others]))
