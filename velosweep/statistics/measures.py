"""One comparison's figures as arrays: per prompt, or per pass over a whole prompt set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from velosweep.statistics.acceptance import Counts
from velosweep.statistics.columns import Columns
from velosweep.statistics.comparison import ModeStatistics, Statistics
from velosweep.statistics.pairing import JobRows
from velosweep.values import Mode

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
METRICS = ("tokens_per_second", "time_to_first_token_ms", "total_time_ms")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmSeries:
    """One mode's counted figures of several comparisons at once: arrays (passes x comparisons) in pass order.

    `time` orders the runs as they were measured; `launch` is the same for all comparisons. A comparison's values lie
    together in memory, so that sums over them don't depend, to the last bit, on what else is in the arrays.
    `alike`: for each comparison the first one of the same runs, as jobs of a baseline have; None if there are none.
    """

    tokens_per_second: Any
    time_to_first_token_ms: Any
    total_time_ms: Any
    time: Any
    launch: Any
    alike: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.tokens_per_second)

    def statistics(self) -> list[ModeStatistics | None]:
        """The specification's figures of each comparison; None for no runs."""
        return self.once(_statistics)

    def once(self, work: Callable[[ArmSeries], Sequence[T]]) -> list[T]:
        """What `work` says of each comparison of a series, asked once for those of the same runs."""
        if self.alike is None:
            return list(work(self))
        leads = sorted(set(self.alike))
        place = {lead: index for index, lead in enumerate(leads)}
        said = work(self._of(leads))
        return [said[place[lead]] for lead in self.alike]

    def _of(self, comparisons: Sequence[int]) -> ArmSeries:
        import numpy as np

        arrays = (np.asfortranarray(getattr(self, name)[:, comparisons]) for name in (*METRICS, "time"))
        speed, first, total, time = arrays
        return ArmSeries(
            tokens_per_second=speed,
            time_to_first_token_ms=first,
            total_time_ms=total,
            time=time,
            launch=self.launch,
        )


def _statistics(series: ArmSeries) -> list[ModeStatistics | None]:
    if not len(series):
        return [None] * series.tokens_per_second.shape[1]
    metrics = [array_statistics(getattr(series, metric)) for metric in METRICS]
    return [
        ModeStatistics(tokens_per_second=speed, time_to_first_token_ms=first, total_time_ms=total)
        for speed, first, total in zip(*metrics, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """The runs' figures that analysis needs, by row of the table; made once for all jobs."""

    columns: Columns
    usable: Any
    failed: Any
    invalid: Any
    tokens: Any
    rounds: Any
    time: Any
    finished_us: Any
    _positions: tuple[Any, Any] | None = field(default=None)

    def series(self, cube: Any) -> ArmSeries:
        """The figures of each comparison. `cube`: rows, passes x comparisons, all there."""
        columns = self.columns
        return ArmSeries(
            tokens_per_second=_picked(columns.number("tokens_per_second"), cube),
            time_to_first_token_ms=_picked(columns.number("time_to_first_token_ms"), cube),
            total_time_ms=_picked(columns.number("total_time_ms"), cube),
            time=_picked(self.time, cube),
            launch=columns.integer("launch")[cube[:, 0]],
            alike=_alike(cube),
        )

    def suite(self, cube: Any) -> ArmSeries:
        """The figures of whole passes: the suite's tokens over its time. `cube`: passes x comparisons x prompts."""
        import numpy as np

        columns = self.columns
        tokens = self.tokens[cube]
        seconds = tokens / columns.number("tokens_per_second")[cube]
        return ArmSeries(
            tokens_per_second=np.asfortranarray(tokens.sum(axis=2) / seconds.sum(axis=2)),
            time_to_first_token_ms=np.asfortranarray(columns.number("time_to_first_token_ms")[cube].mean(axis=2)),
            total_time_ms=np.asfortranarray(columns.number("total_time_ms")[cube].sum(axis=2)),
            time=np.asfortranarray(self.time[cube].mean(axis=2)),
            launch=columns.integer("launch")[cube[:, 0, 0]],
            alike=_alike(cube),
        )

    def pass_log_ratios(self, vanilla: Any, speculative: Any) -> Any:
        """Mean over prompts of each complete pass's log ratios, passes x comparisons."""
        import numpy as np

        tps = self.columns.number("tokens_per_second")
        return np.asfortranarray(np.log(tps[speculative] / tps[vanilla]).mean(axis=2))

    def suite_speedup(self, vanilla: Any, speculative: Any) -> list[float | None]:
        """Sum of vanilla times over sum of speculative times, at equal tokens (vanilla's) for each prompt."""
        if not len(vanilla):
            return [None] * vanilla.shape[1]
        tps = self.columns.number("tokens_per_second")
        tokens = _picked(self.tokens, vanilla).mean(axis=0)
        before, after = (
            (tokens * (1 / _picked(tps, cube)).mean(axis=0)).sum(axis=1) for cube in (vanilla, speculative)
        )
        return list((before / after).tolist())

    def by_mode(self, rows: Any) -> tuple[Any, Any]:
        """The rows that are vanilla's, and the others."""
        text = self.columns.text("mode")
        vanilla = (
            text.codes[rows] == text.values.index(Mode.VANILLA.value) if Mode.VANILLA.value in text.values else rows < 0
        )
        return rows[vanilla], rows[~vanilla]

    def counts(self, cube: Any) -> list[Counts | None]:
        """Draft counts of each prompt's runs, a mean over its repeats; None where they aren't known of every run."""
        import numpy as np

        if not len(cube):
            return [None] * cube.shape[1]
        columns = self.columns
        sums = [
            _picked(x, cube).mean(axis=0)
            for x in (columns.number("draft_tokens"), columns.number("accepted_tokens"), self.rounds)
        ]
        known: Any = np.isfinite(sums).all(axis=0)
        positions = self._per_position(cube) if known.any() else None
        return [
            Counts(drafted=d, accepted=a, rounds=r, per_position=None if positions is None else positions[p])
            if known[p]
            else None
            for p, (d, a, r) in enumerate(zip(*(x.tolist() for x in sums), strict=True))
        ]

    def _per_position(self, cube: Any) -> list[tuple[float, ...]] | None:
        """Mean accepted counts by draft position of each prompt; None unless every run has them.

        Each as long as its own runs' lists: jobs of other draft lengths may stand in the same cube, and a position that
        can't be drafted is no position at which nothing was accepted.
        """
        import numpy as np

        if self._positions is None:
            return None
        offsets, values = self._positions
        starts, lengths = offsets[cube], offsets[cube + 1] - offsets[cube]
        if not int(lengths.min()):
            return None
        longest = np.arange(int(lengths.max()))
        index = starts[..., None] + longest
        there = longest < lengths[..., None]
        counts = np.where(there, values[np.minimum(index, len(values) - 1)], 0).mean(axis=0)
        own = lengths.max(axis=0).tolist()
        return [tuple(row[:length]) for row, length in zip(counts.tolist(), own, strict=True)]

    def energy_j_per_token(self, cube: Any) -> list[float | None]:
        """Joules over generated tokens of each prompt's runs; None where energy was not read of every run."""

        if not len(cube) or not self.columns.has("energy_j"):
            return [None] * cube.shape[1]
        joules, tokens = (
            _picked(self.columns.number(name), cube).sum(axis=0) for name in ("energy_j", "predicted_tokens")
        )
        joules = joules / tokens
        return [x if math.isfinite(x) else None for x in joules.tolist()]

    def finished(self, cubes: Sequence[Any]) -> list[datetime | None]:
        """When the last of each prompt's runs ended: the same whenever it is computed."""
        ends = [self.finished_us[cube].max(axis=0) for cube in cubes if len(cube)]
        if not ends:
            return [None] * cubes[0].shape[1]
        latest = ends[0] if len(ends) == 1 else ends[0].clip(min=ends[1])
        return [_EPOCH + timedelta(microseconds=us) if us >= 0 else None for us in latest.tolist()]


def _picked(values: Any, cube: Any) -> Any:
    """`values[cube]`, the first axis lying together in memory (see ArmSeries)."""
    import numpy as np

    return np.asfortranarray(values[cube])


def _alike(cube: Any) -> list[int] | None:
    """See ArmSeries; the second axis of `cube` is the comparisons'."""
    first: dict[bytes, int] = {}
    alike = [first.setdefault(cube[:, p].tobytes(), p) for p in range(cube.shape[1])]
    return alike if len(first) < len(alike) else None


def measures_of(columns: Columns) -> Measures:
    """Which rows count, and the figures that aren't a column as they are."""
    import numpy as np

    tps = columns.number("tokens_per_second")
    first, total = columns.number("time_to_first_token_ms"), columns.number("total_time_ms")
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(tps) & (tps > 0) & np.isfinite(first) & (first >= 0) & np.isfinite(total) & (total > 0)
    ok, failed = _states(columns)
    predicted = columns.number("predicted_tokens") - 1
    rounds = columns.number("rounds")
    counted = np.where(np.isfinite(rounds), rounds, predicted - columns.number("accepted_tokens"))
    finished = columns.microseconds("started_at")
    known = finished > np.iinfo(np.int64).min
    return Measures(
        columns=columns,
        usable=ok & sound,
        failed=failed,
        invalid=~failed & ~(ok & sound),
        tokens=_tokens(columns, predicted),
        rounds=counted,
        time=_time(columns, finished, known),
        finished_us=np.where(
            known, finished + np.where(np.isfinite(total), total * 1000, 0).astype(np.int64), finished
        ),
        _positions=columns.lists("accepted_per_position"),
    )


def _states(columns: Columns) -> tuple[Any, Any]:
    """Masks of rows that ended well, and of those that failed or timed out (the rest is invalid)."""
    import numpy as np

    status = columns.text("status")
    code = {value: index for index, value in enumerate(status.values)}
    ok = (status.codes == code.get("ok", -2)) | (status.codes == -1)
    return ok, np.isin(status.codes, [code.get("failed", -2), code.get("timeout", -2)])


def _tokens(columns: Columns, predicted: Any) -> Any:
    """Tokens that decoding produced: predicted - 1; where that is unknown as many as were asked for."""
    import numpy as np

    asked = np.maximum(columns.integer("n_predict", 2) - 1, 1).astype(float)
    return np.where(np.isfinite(predicted) & (predicted > 0), predicted, asked)


def _time(columns: Columns, started: Any, known: Any) -> Any:
    """Seconds from the first run; where no times are recorded the order, else the iteration."""
    if len(known) and known.all():
        return (started - int(started.min())) / 1e6
    return (columns.integer("order") if columns.has("order") else columns.integer("iteration")).astype(float)


def array_statistics(x: Any) -> list[Statistics]:
    """The specification's figures of each column of an array with at least one row, by two passes."""
    import numpy as np

    n = len(x)
    mean = x.sum(axis=0) / n
    deviation = x - mean
    stddev = np.sqrt((deviation * deviation).sum(axis=0) / (n - 1)).tolist() if n > 1 else [None] * x.shape[1]
    columns = zip(mean.tolist(), stddev, x.min(axis=0).tolist(), x.max(axis=0).tolist(), x.T.tolist(), strict=True)
    return [Statistics(mean=m, stddev=s, min=low, max=high, samples=tuple(all_)) for m, s, low, high, all_ in columns]


def used_cubes(measures: Measures, job: JobRows) -> tuple[Any, Any, bool]:
    """(vanilla, speculative, paired): rows that are averaged, passes x prompts, -1 where none.

    Where any pair has two usable halves only pairs count; else all usable runs of both modes, unpaired.
    """
    import numpy as np

    both = (job.speculative >= 0) & (job.vanilla >= 0)
    both &= measures.usable[job.speculative] & measures.usable[job.vanilla]
    if both.any():
        return np.where(both, job.vanilla, -1), np.where(both, job.speculative, -1), True
    speculative = _usable(measures, job.speculative)
    if (job.speculative < 0).all():
        return _usable(measures, job.vanilla), speculative, False
    return _stacked(measures, job), speculative, False


def _usable(measures: Measures, cube: Any) -> Any:
    import numpy as np

    return np.where((cube >= 0) & measures.usable[cube], cube, -1)


def _stacked(measures: Measures, job: JobRows) -> Any:
    """Vanilla runs that pair with nothing, a column for each prompt."""
    import numpy as np

    rows = job.all_vanilla[measures.usable[job.all_vanilla]]
    codes = measures.columns.text("prompt_id").codes[rows] + 1
    columns = [rows[codes == prompt] for prompt in job.prompts]
    cube = np.full((max((len(column) for column in columns), default=0), len(columns)), -1, dtype=np.int64)
    for p, column in enumerate(columns):
        cube[: len(column), p] = column
    return cube


def complete(vanilla: Any, speculative: Any, *, paired: bool) -> tuple[Any, Any]:
    """The passes in which every prompt was measured."""
    full_vanilla, full_speculative = (vanilla >= 0).all(axis=1), (speculative >= 0).all(axis=1)
    if paired:
        full_vanilla = full_speculative = full_vanilla & full_speculative
    return vanilla[full_vanilla], speculative[full_speculative]
