"""Samples in the order they were taken, as arrays: what the figures over time are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from velosweep.reporting.escaping import plot_text

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = (
    "model_pair", "speculation", "n_draft", "prompt_id", "iteration", "order", "warmup", "status", "error",
    "tokens_per_second", "started_at", "gpu_temperature_c", "gpu_clock_mhz", "gpu_power_w", "load_average", "cpu_busy",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """All runs with a start, in the order taken: a table of samples, and arrays of one value a run.

    `second` since the first run; `rate` tok/s, NaN where there is none; `relative` per cent from the median of the
    run's setting and prompt (of its setting, for a prompt that is not counted), 0 where there is none. `pair` is a code
    that orders the model pairs by name. Masks: `counted` runs are averaged, `warm` ran well but are warm-ups, `bad`
    did not end well.
    """

    table: pa.Table
    pair: Any
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
        return plot_text(str(self.at("model_pair", row)))

    def at(self, name: str, row: int) -> Any:
        """A sample's value, None where the column is missing."""
        return self.table[name][row].as_py() if name in self.table.column_names else None


def timeline(samples: pa.Table) -> Timeline | None:
    """Order a table of samples by start; None where no run has one. Columns may be missing."""
    import numpy as np
    import pyarrow.compute as pc

    table = samples.select([name for name in _COLUMNS if name in samples.column_names])
    if "started_at" not in table.column_names:
        return None
    table = table.filter(pc.is_valid(table["started_at"]))
    if not table.num_rows:
        return None
    order = [name for name in ("started_at", "order") if name in table.column_names]
    table = table.sort_by([(name, "ascending") for name in order])
    seconds = numbers(table, "started_at") / 1e6
    rate, n_draft = numbers(table, "tokens_per_second"), np.nan_to_num(numbers(table, "n_draft")).astype(np.int64)
    ok = _codes(table, "status", ["ok"]) == 0
    warmup = np.nan_to_num(numbers(table, "warmup")) != 0
    runs_well = ok & ~np.isnan(rate)
    pair = _codes(table, "model_pair")
    setting = _combined(_combined(pair, _codes(table, "speculation")), n_draft)
    counted = runs_well & ~warmup
    return Timeline(
        table=table,
        pair=pair,
        n_draft=n_draft,
        second=np.round(seconds - seconds[0], 2),
        rate=rate,
        relative=_relative(rate, counted, _combined(setting, _codes(table, "prompt_id")), setting),
        counted=counted,
        warm=runs_well & warmup,
        bad=~ok,
    )


def numbers(table: pa.Table, name: str) -> Any:
    """A column as float64, NaN for null and for a missing column; a time as microseconds."""
    import numpy as np
    import pyarrow as pa

    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table[name]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return column.cast(pa.float64(), safe=False).to_numpy()


def _codes(table: pa.Table, name: str, known: list[str] | None = None) -> Any:
    """The place of each text in `known`, else among the column's own in sorted order; -1 for others and for null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names:
        return np.full(table.num_rows, -1)
    column = table[name].cast(pa.string())
    texts = known or sorted(text for text in pc.unique(column).to_pylist() if text is not None)
    return pc.index_in(column, pa.array(texts, pa.string())).fill_null(-1).to_numpy()


def _combined(codes: Any, more: Any) -> Any:
    """Codes that tell rows apart by both arrays."""
    import numpy as np

    pairs = codes.astype(np.int64) * (int(more.max()) + 2) + more
    return np.unique(pairs, return_inverse=True)[1]


def _relative(rate: Any, counted: Any, setting_and_prompt: Any, setting: Any) -> Any:
    """Per cent from the median of the counted runs of the same setting and prompt, else of the same setting."""
    import numpy as np

    median = _medians(rate, counted, setting_and_prompt)
    median = np.where(median > 0, median, _medians(rate, counted, setting))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(median > 0, 100 * (rate / median - 1), 0.0)


def _medians(rate: Any, counted: Any, codes: Any) -> Any:
    """For each row the median of the counted rows with its code, NaN where there are none."""
    import numpy as np

    order = np.lexsort((rate, codes))
    ranked = rate[order[counted[order]]]
    size = np.bincount(codes[counted], minlength=codes.max() + 1)
    begin = np.cumsum(size) - size
    some = size > 0
    low, high = begin[some] + (size[some] - 1) // 2, begin[some] + size[some] // 2
    found = np.full(len(size), np.nan)
    found[some] = (ranked[low] + ranked[high]) / 2
    return found[codes]
