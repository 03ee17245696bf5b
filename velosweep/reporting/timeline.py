"""Samples in the order they were taken, as arrays: what the figures over time are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from velosweep.reporting.safe import plot_text
from velosweep.statistics.columns import Columns, Text, dense

if TYPE_CHECKING:
    import pyarrow as pa


_COLUMNS = (
    "model_pair", "speculation", "n_draft", "prompt_id", "iteration", "order", "warmup", "status", "error",
    "tokens_per_second", "started_at", "gpu_temperature_c", "gpu_clock_mhz", "gpu_power_w", "load_average", "cpu_busy",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """All runs with a start, in the order taken: arrays of one value a run.

    `columns`: the same rows. `second` since the first run; `rate` tok/s, NaN where there is none; `relative` per cent
    from the median of the run's arm and prompt (of its arm, where the prompt is its own), 0 where there is none.
    Masks: `counted` runs are averaged, `warm` ran well but are warm-ups, `bad` did not end well.
    """

    columns: Columns
    pair: Text
    prompt: Text
    n_draft: Any
    second: Any
    rate: Any
    relative: Any
    counted: Any
    warm: Any
    bad: Any

    def name(self, row: int) -> str:
        """The arm of a run, in words."""
        return f"{self.pair_of(row)}, {self.arm(row)}"

    def arm(self, row: int) -> str:
        """`name` without its pair."""
        return f"n_draft {self.n_draft[row]}" if self.n_draft[row] else "vanilla"

    def pair_of(self, row: int) -> str:
        """A pair's name, safe for Plotly."""
        return plot_text(str(self.pair.at(row)))


def timeline(samples: pa.Table) -> Timeline | None:
    """Order a table of samples by start; None where no run has one. Columns may be missing."""
    import numpy as np
    import pyarrow as pa

    unordered = Columns(table=samples.select([name for name in _COLUMNS if name in samples.column_names]))
    started, order = unordered.microseconds("started_at"), unordered.integer("order")
    known = np.flatnonzero(started != np.iinfo(np.int64).min)
    if not len(known):
        return None
    taken = known[np.lexsort((order[known], started[known]))]
    columns = Columns(table=unordered.table.take(pa.array(taken, pa.int64())))
    rate = columns.number("tokens_per_second")
    status = columns.text("status")
    ok = np.array([*(value == "ok" for value in status.values), True])[status.codes]
    warmup = columns.integer("warmup") != 0
    runs_well = ok & ~np.isnan(rate)
    pair, prompt, n_draft = columns.text("model_pair"), columns.text("prompt_id"), columns.integer("n_draft")
    arm = dense([pair.codes, columns.text("speculation").codes, n_draft])
    counted = runs_well & ~warmup
    return Timeline(
        columns=columns,
        pair=pair,
        prompt=prompt,
        n_draft=n_draft,
        second=np.round((started[taken] - started[taken[0]]) / 1e6, 2),
        rate=rate,
        relative=_relative(rate, counted, dense([arm, prompt.codes]), arm),
        counted=counted,
        warm=runs_well & warmup,
        bad=~ok,
    )


def _relative(rate: Any, counted: Any, arm_and_prompt: Any, arm: Any) -> Any:
    """Per cent from the median of the counted runs of the same arm and prompt, else of the same arm."""
    import numpy as np

    median = _medians(rate, counted, arm_and_prompt)
    median = np.where(median > 0, median, _medians(rate, counted, arm))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(median > 0, 100 * (rate / median - 1), 0.0)


def _medians(rate: Any, counted: Any, group: Any) -> Any:
    """For each row the median of its group's counted rows, NaN where there are none."""
    import numpy as np

    codes = np.unique(group, return_inverse=True)[1]
    order = np.lexsort((rate, codes))
    order = order[counted[order]]
    size = np.bincount(codes[counted], minlength=codes.max() + 1)
    begin = np.concatenate([[0], np.cumsum(size)[:-1]])
    found = np.full(len(size), np.nan)
    some = size > 0
    ranked = rate[order]
    low, high = begin[some] + (size[some] - 1) // 2, begin[some] + size[some] // 2
    found[some] = (ranked[low] + ranked[high]) / 2
    return found[codes]
