"""Columns of samples as arrays, also of tables that other programs wrote."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from velosweep.errors import StorageError
from velosweep.statistics.columns import Columns, combined_key, sample_columns

NAN = float("nan")


def _column(values, kind=None):
    """A table of one column in two chunks."""
    half = len(values) // 2
    parts = [pa.array(part, kind or pa.array(values).type) for part in (values[:half], values[half:])]
    return Columns(pa.table({"x": pa.chunked_array(parts)}))


def test_numbers_have_nan_for_null():
    np.testing.assert_array_equal(_column([1, None, 3]).number("x"), [1.0, NAN, 3.0])
    np.testing.assert_array_equal(_column([True, None, False]).number("x"), [1.0, NAN, 0.0])


def test_integers_have_a_default_for_null():
    columns = _column([1, None, 3])

    assert columns.integer("x").tolist() == [1, 0, 3]
    assert columns.integer("x", -5).tolist() == [1, -5, 3]
    assert _column([True, None, False]).integer("x").tolist() == [1, 0, 0]


def test_a_missing_or_empty_column_has_only_defaults():
    columns = _column([None, None], pa.int32())

    for name in ("x", "missing"):
        assert not columns.has(name)
        np.testing.assert_array_equal(columns.number(name), [NAN, NAN])
        assert columns.integer(name, 7).tolist() == [7, 7]
        assert columns.integer(name).dtype == np.int64
        assert columns.microseconds(name).tolist() == [-(2**63)] * 2
        assert (columns.text(name).codes.tolist(), columns.text(name).values) == ([-1, -1], ())
        assert columns.lists(name) is None
    assert _column([None, 1]).has("x")


def test_times_are_microseconds_whatever_their_unit_and_zone():
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
    expected = (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)

    for kind, factor in (("us", 1), ("ns", 1000)):
        for zone in ("UTC", "Europe/Berlin"):
            table = pa.table({"x": pa.array([expected * factor, None]).cast(pa.timestamp(kind, tz=zone))})
            assert Columns(table).microseconds("x").tolist() == [expected, -(2**63)]
    finer = pa.table({"x": pa.array([expected * 1000 + 999]).cast(pa.timestamp("ns", tz="UTC"))})
    assert Columns(finer).microseconds("x").tolist() == [expected]


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_codes_of_texts_are_in_sorted_order(kind):
    text = _column(["b", "a", None, "c", "b"], kind).text("x")

    assert text.values == ("a", "b", "c")
    assert text.codes.tolist() == [1, 0, -1, 2, 1]
    assert [text.at(row) for row in range(3)] == ["b", "a", None]
    assert (text.code("c"), text.code("z")) == (2, -2)


def test_lists_are_flat_values_with_offsets():
    offsets, values = _column([[1, 2], None, [], [3]]).lists("x")

    assert offsets.tolist() == [0, 2, 2, 2, 3]
    assert values.tolist() == [1, 2, 3]


def test_rows_without_a_status_ended_well():
    columns = Columns(pa.table({"status": ["ok", "failed", None, "invalid"]}))

    assert columns.ended_well().tolist() == [True, False, True, False]
    assert Columns(pa.table({"x": [1, 2]})).ended_well().tolist() == [True, True]


def test_a_column_is_made_once():
    columns = _column([1, None, 3])

    assert columns.number("x") is columns.number("x")
    assert columns.integer("x") is columns.integer("x")
    assert columns.text("x") is columns.text("x")


def test_missing_columns_are_named_with_all_that_are_needed():
    with pytest.raises(StorageError, match="no column mode, iteration") as caught:
        sample_columns(
            pa.table({name: [1] for name in ("job_id", "tokens_per_second", "time_to_first_token_ms", "total_time_ms")})
        )

    assert "job_id, mode, iteration" in str(caught.value.remedy)


@pytest.mark.parametrize(
    "arrays",
    [
        [[3, 1, 2], [0, 0, 0]],
        [[1, 1, 0, 0], [5, -5, 5, -5]],
        [[2**40, 0, -(2**40), 2**40], [1, 2, 3, 0]],
        [[2**62, -(2**62)], [2**62, -(2**62)], [1, 0]],
        [[i * 2**19 for i in (1, 0, 1, 0)]] * 4,
        [[0, 2**20 - 1, 5]] * 4,
        [[0, 2**20, 5]] * 2,
        [[], []],
    ],
)
def test_a_dense_code_orders_rows_as_the_tuples_do(arrays):
    codes = combined_key([np.array(array, dtype=np.int64) for array in arrays]).tolist()

    rows = list(zip(*arrays, strict=True))
    assert sorted(range(len(rows)), key=lambda i: codes[i]) == sorted(range(len(rows)), key=lambda i: rows[i])
    assert len(set(codes)) == len(set(rows))


def test_an_integer_of_any_size_is_a_number() -> None:
    table = pa.table({"memory_bytes": pa.array([1 << 62, None], pa.int64())})

    assert Columns(table).number("memory_bytes")[0] == float(1 << 62)
