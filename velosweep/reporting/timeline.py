"""Samples in the order they were taken, as arrays: what the figures over time are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from velosweep.reporting.escaping import plot_text
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

    `second` since the first run; `rate` tok/s, NaN where there is none; `relative` per cent from the median of the
    run's setting and prompt (of its setting, for a prompt that is not counted), 0 where there is none. Masks: `counted`
    runs are averaged, `warm` ran well but are warm-ups, `bad` did not end well.
    """

    columns: Columns
    pair: Text
    n_draft: Any
    second: Any
    rate: Any
    relative: Any
    counted: Any
    warm: Any
    bad: Any

    def name(self, row: int) -> str:
        """The setting of a run, in words."""
        return f"{self.pair_name(row)}, {self.setting(row)}"

    def setting(self, row: int) -> str:
        """`name` without its pair."""
        return f"n_draft {self.n_draft[row]}" if self.n_draft[row] else "vanilla"

    def pair_name(self, row: int) -> str:
        """A pair's name, safe for Plotly."""
        return plot_text(str(self.pair.at(row)))


def timeline(samples: pa.Table) -> Timeline | None:
    """Order a table of samples by start; None where no run has one. Columns may be missing."""
    import numpy as np
    import pyarrow as pa

    unordered = Columns(samples.select([name for name in _COLUMNS if name in samples.column_names]))
    started, order = unordered.microseconds("started_at"), unordered.integer("order")
    known = np.flatnonzero(started != np.iinfo(np.int64).min)
    if not len(known):
        return None
    taken = known[np.lexsort((order[known], started[known]))]
    columns = Columns(unordered.table.take(pa.array(taken, pa.int64())))
    rate, ok, warmup = columns.number("tokens_per_second"), columns.ended_well(), columns.integer("warmup") != 0
    pair, n_draft = columns.text("model_pair"), columns.integer("n_draft")
    setting = dense([pair.codes, columns.text("speculation").codes, n_draft])
    setting_and_prompt = dense([setting, columns.text("prompt_id").codes])
    runs_well = ok & ~np.isnan(rate)
    counted = runs_well & ~warmup
    median = _medians(rate, counted, setting_and_prompt)
    median = np.where(median > 0, median, _medians(rate, counted, setting))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(median > 0, 100 * (rate / median - 1), 0.0)
    return Timeline(
        columns=columns,
        pair=pair,
        n_draft=n_draft,
        second=np.round((started[taken] - started[taken[0]]) / 1e6, 2),
        rate=rate,
        relative=relative,
        counted=counted,
        warm=runs_well & warmup,
        bad=~ok,
    )


def _medians(rate: Any, counted: Any, group: Any) -> Any:
    """For each row the median of its group's counted rows, NaN where there are none."""
    import numpy as np

    codes = np.unique(group, return_inverse=True)[1]
    order = np.lexsort((rate, codes))
    ranked = rate[order[counted[order]]]
    size = np.bincount(codes[counted], minlength=codes.max() + 1)
    begin, some = np.cumsum(size) - size, size > 0
    low, high = begin[some] + (size[some] - 1) // 2, begin[some] + size[some] // 2
    found = np.full(len(size), np.nan)
    found[some] = (ranked[low] + ranked[high]) / 2
    return found[codes]
