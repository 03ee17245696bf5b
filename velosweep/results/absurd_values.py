"""Values in somebody's samples.parquet that no run can have: refused before anything is computed of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velosweep.errors import StorageError
from velosweep.values import Mode, Status

_MOST = 1e15  # milliseconds, tokens, bytes (a petabyte), whatever: squares and sums of it are numbers still
_LEAST = 1e-9  # above 0: so are quotients
_LATEST = 253_370_764_800_000_000  # microseconds: the year 9999, which Python's dates do not exceed
_PARALLEL = (("batch_tokens", "batch_ms"), ("stream_tokens_per_second", "stream_first_token_ms"))
_SIGNED = ("seed", "temperature", "gpu_temperature_c", "first_divergence")


def refuse_absurd(path: Path, samples: pa.Table) -> None:
    """Raise StorageError naming the column of `samples` (the contract's columns) and the value that can't be.

    What a run that counts says must be a figure; of others it is enough that it can be computed with.
    """
    status: Any = samples["status"]
    counted = status.fill_null(Status.OK.value).to_numpy() == Status.OK.value
    for name, wrong in _wrong(samples, counted):
        if wrong.any():
            found: Any = samples[name][int(wrong.argmax())]
            value = found.value if pa.types.is_timestamp(found.type) else found.as_py()
            raise StorageError(
                f"{path} has {str(value)[:80]!r} in the column {name}, which no run can have",
                remedy="what is not known is null there; correct it, or leave that sweep out",
            )


def _wrong(samples: pa.Table, counted: Any) -> Iterator[tuple[str, Any]]:
    """Each column, and a mask of its rows that can't be."""
    modes: Any = pc.is_in(samples["mode"], value_set=pa.array([mode.value for mode in Mode]))
    yield "mode", ~modes.to_numpy()
    yield "iteration", samples["iteration"].is_null().to_numpy()
    for field in samples.schema:
        column: Any = samples[field.name].combine_chunks()
        if pa.types.is_timestamp(field.type):
            ticks = column.cast(pa.int64()).fill_null(0).to_numpy()
            yield field.name, (ticks < 0) | (ticks > _LATEST)
        elif pa.types.is_list(field.type):
            rows, values = pc.list_parent_indices(column).to_numpy(), column.flatten()
            mask = np.zeros(len(column), dtype=bool)
            mask[
                rows[_no_figure(values, counted[rows], field.name) | values.is_null().to_numpy(zero_copy_only=False)]
            ] = True
            yield field.name, mask
        elif pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            yield field.name, _no_figure(column, counted, field.name)
    for one, other in _PARALLEL:
        lengths = [pc.list_value_length(samples[name]).fill_null(0).to_numpy() for name in (one, other)]
        yield one, lengths[0] != lengths[1]


def _no_figure(values: Any, counted: Any, name: str) -> Any:
    """Mask of the values that are not finite, beyond all measure or, of runs that count, below 0; null is none."""
    numbers = values.cast(pa.float64(), safe=False).fill_null(0).to_numpy()
    beyond = ~(np.abs(numbers) <= _MOST)  # NaN is not, either
    return beyond if name in _SIGNED else beyond | (counted & (numbers < _LEAST) & (numbers != 0))
