"""The synthetic model pair: llama models with random weights whose draft is right as often as one likes.

The target's blocks from `kept_layers` on have their two output projections scaled by eps. At eps = 0 it
computes exactly what its first `kept_layers` blocks compute, and a draft of those blocks is always
accepted, while the target still pays for every block; a larger eps lowers the acceptance. Times are real,
text is not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from velosweep.config.settings import SyntheticShape
from velosweep.errors import StorageError
from velosweep.files import file_sha256, write_text
from velosweep.models.synthetic.shape import DEFAULT_SHAPE, SMALLEST_VOCABULARY, check_shape, file_stem, pair_paths
from velosweep.models.synthetic.tensors import write_model
from velosweep.models.synthetic.weights import Pool

__all__ = ["DEFAULT_SHAPE", "ensure_pair", "pair_paths", "write_pair"]


def write_pair(shape: SyntheticShape, main_path: Path, draft_path: Path) -> None:
    """Write both files, in bounded memory, replacing what is there. Raises ConfigError for an impossible shape."""
    check_shape(shape)
    pool = Pool(shape.seed, shape.type, largest=shape.width * max(shape.width, shape.feed_forward, SMALLEST_VOCABULARY))
    write_model(shape, shape.layers, pool, main_path)
    write_model(shape, shape.kept_layers, pool, draft_path)


def ensure_pair(
    shape: SyntheticShape, folder: Path | None = None, on_progress: Callable[[str], None] | None = None
) -> tuple[Path, Path]:
    """The pair's files, written first if they are missing or damaged; safe where several processes ask at once.

    `folder`: by default the user's cache. A file is taken as it is while its size and time of change are the
    recorded ones; else its SHA-256 must be. Raises StorageError if it can't be written.
    """
    from filelock import FileLock

    check_shape(shape)
    folder = folder or _cache_folder()
    paths = pair_paths(shape, folder)
    seal = folder / f"{file_stem(shape)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _sealed(seal, paths):
            return paths
        with FileLock(str(seal.with_suffix(".lock"))):
            if not _sealed(seal, paths) and not _reseal(seal, paths):
                if on_progress:
                    on_progress(f"writing the synthetic model pair to {folder}")
                _write_beside_and_move(shape, paths, seal)
    except OSError as error:
        raise StorageError(
            f"The synthetic model pair can't be written to {folder}: {error.strerror or error}",
            remedy="free some space, or name a folder that can be written: --out of synth, else XDG_CACHE_HOME",
        ) from error
    return paths


def _cache_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("velosweep", appauthor=False)) / "synthetic"


# ---------------------------------------------------------------- the cache


def _write_beside_and_move(shape: SyntheticShape, paths: tuple[Path, Path], seal: Path) -> None:
    parts = [path.with_name(f"{path.name}.{os.getpid()}.part") for path in paths]
    try:
        write_pair(shape, parts[0], parts[1])
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
        _write_seal(seal, paths)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _sealed(seal: Path, paths: tuple[Path, Path]) -> bool:
    """Whether both files have the recorded size and time."""
    record = _read_seal(seal)
    try:
        return all(record.get(path.name, {}).get("stat") == _stat(path) for path in paths)
    except OSError:
        return False


def _reseal(seal: Path, paths: tuple[Path, Path]) -> bool:
    """Whether both files, though touched or copied, have the recorded hash; then the record is renewed."""
    record = _read_seal(seal)
    same = all(path.is_file() and record.get(path.name, {}).get("sha256") == file_sha256(path) for path in paths)
    if same:
        _write_seal(seal, paths)
    return same


def _read_seal(seal: Path) -> dict[str, dict[str, object]]:
    """The record, empty if it is missing or unreadable: then the files are written anew."""
    try:
        record = json.loads(seal.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = record.items() if isinstance(record, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _write_seal(seal: Path, paths: tuple[Path, Path]) -> None:
    record = {path.name: {"stat": _stat(path), "sha256": file_sha256(path)} for path in paths}
    write_text(seal, json.dumps(record, indent=1), durable=False)


def _stat(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
