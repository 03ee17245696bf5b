"""A program's hash is taken once, and the cache of hashes is never more than a cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from velosweep.errors import StorageError
from velosweep.machine.environment import cached_sha256


def test_a_programs_hash_is_taken_anew_only_when_the_file_changed(tmp_path: Path) -> None:
    program, cache = tmp_path / "program", tmp_path / "cache" / "hashes.json"
    program.write_bytes(b"one")
    first = cached_sha256(program, cache=cache)
    cache.write_text(cache.read_text().replace(str(first), "remembered"))

    assert cached_sha256(program, cache=cache) == "remembered"

    program.write_bytes(b"other")

    assert cached_sha256(program, cache=cache) not in {first, "remembered"}


def test_a_damaged_hash_cache_is_done_without(tmp_path: Path) -> None:
    program, cache = tmp_path / "program", tmp_path / "hashes.json"
    program.write_bytes(b"one")
    cache.write_text("[1, 2")

    assert len(cached_sha256(program, cache=cache) or "") == 64
    assert cached_sha256(tmp_path, cache=cache) is None


def test_a_program_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"Can't read .*absent"):
        cached_sha256(tmp_path / "absent", cache=tmp_path / "hashes.json")
