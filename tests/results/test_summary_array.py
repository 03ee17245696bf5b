"""summaries.json is the same whether it is written as a whole or in parts, in whatever order they come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from velosweep.errors import StorageError
from velosweep.results import summary_array
from velosweep.results.summary_array import array_of, array_parts, item_size, write_array_part, writing_summaries


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files to a part."""
    monkeypatch.setattr(summary_array, "_PART_FILES", 2)


def summary_files(folder: Path, count: int) -> list[tuple[Path, int]]:
    files = []
    for number in range(count):
        content = json.dumps({"n_draft": number, "samples": [0.5] * number}, indent=2).encode() + b"\n"
        file = folder / f"{number}.json"
        file.write_bytes(content)
        files.append((file, item_size(content)))
    return files


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_parts_written_in_any_order_are_the_whole(tmp_path: Path, count: int) -> None:
    files = summary_files(tmp_path, count)
    with writing_summaries(tmp_path / "whole.json") as add:
        for file, _ in files:
            add(file.read_bytes())

    parts = array_parts(files)
    with array_of(tmp_path / "parts.json", parts) as beside:
        for part in reversed(parts):
            write_array_part(beside, part)

    assert (tmp_path / "whole.json").read_bytes() == (tmp_path / "parts.json").read_bytes()
    assert [value["n_draft"] for value in json.loads((tmp_path / "parts.json").read_bytes())] == list(range(count))
    assert (tmp_path / "parts.json").read_bytes().startswith(b'[\n  {\n    "n_draft": 0' if count else b"[]\n")
    assert len(parts) == (count + 1) // 2


def test_a_summary_that_was_changed_meanwhile_is_told(tmp_path: Path) -> None:
    files = summary_files(tmp_path, 5)
    parts = array_parts(files)
    files[3][0].write_text("{}")

    with array_of(tmp_path / "array.json", parts) as beside:
        write_array_part(beside, parts[0])

        with pytest.raises(StorageError, match="changed meanwhile"):
            write_array_part(beside, parts[1])
