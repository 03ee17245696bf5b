"""Hashes of programs, taken once: cached in the user's cache folder by path, size and time of change."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from velosweep.errors import StorageError
from velosweep.files import explained, file_sha256, make_folder, write_text


def cached_sha256(path: Path, *, cache: Path | None = None) -> str | None:
    """SHA-256 of a program, None for a folder. `cache`: the file to remember hashes in (default: the user's cache).

    Raises StorageError where the program can't be read. A cache that can't be read or written is done without.
    """
    import platformdirs

    if path.is_dir():
        return None
    cache = cache or Path(platformdirs.user_cache_dir("velosweep")) / "program-hashes.json"
    with explained(path, doing="read"):
        status = path.stat()
        key = f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}"
        known = _read(cache)
        if key in known:
            return known[key]
        known[key] = file_sha256(path)
    with suppress(StorageError):
        make_folder(cache.parent)
        write_text(cache, json.dumps(known, indent=0, sort_keys=True), durable=False)
    return known[key]


def _read(cache: Path) -> dict[str, str]:
    try:
        content = json.loads(cache.read_text("utf-8"))
    except (OSError, ValueError):  # not there yet, or damaged
        return {}
    items = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}
