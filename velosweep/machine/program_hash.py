"""Hashes of programs, taken once: cached in the user's cache folder by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from velosweep.errors import StorageError
from velosweep.files import explained, make_folder, write_text

_CHUNK = 1 << 20


def file_sha256(path: Path, *, cache: Path | None = None) -> str | None:
    """SHA-256 of a program, None for a folder. `cache`: the file to remember hashes in (default: the user's cache).

    Raises StorageError where the program can't be read. A cache that can't be read or written is done without.
    """
    if path.is_dir():
        return None
    remembered = cache or default_cache()
    with explained(path, doing="read"):
        status = path.stat()
    key = f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}"
    known = _read(remembered)
    if key not in known:
        known[key] = _digest(path)
        _write(remembered, known)
    return known[key]


def default_cache() -> Path:
    """Where hashes are remembered between runs."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("velosweep")) / "program-hashes.json"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with explained(path, doing="read"), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read(cache: Path) -> dict[str, str]:
    try:
        content = json.loads(cache.read_text("utf-8"))
    except (OSError, ValueError):  # not there yet, or damaged: it is only a cache
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)}


def _write(cache: Path, known: dict[str, str]) -> None:
    try:
        make_folder(cache.parent)
        write_text(cache, json.dumps(known, indent=0, sort_keys=True), durable=False)
    except StorageError:  # a home that can't be written costs a hash a run, no more
        return
