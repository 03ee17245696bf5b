"""llama.cpp's cache: `OWNER_REPO_FILE.gguf` in $LLAMA_CACHE, else in the system's folder for caches.

As common/common.cpp has it (fs_get_cache_directory).

Builds from 2026 on keep files as Hugging Face does, in its cache, or in $LLAMA_CACHE where that is set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from velosweep.models.stores.hugging_face_store import hub_files
from velosweep.models.stores.stored_file import StoredFile, gguf_files

STORE = "llama.cpp"


def stored_files(home: Path, environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """The GGUF files of the cache."""
    folder = cache_folder(home, environment)
    yield from gguf_files(folder, STORE, depth=1)
    yield from hub_files(folder, STORE)


def cache_folder(home: Path, environment: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where llama.cpp keeps what it fetched."""
    if folder := environment.get("LLAMA_CACHE"):
        return Path(folder)
    if platform == "darwin":
        return home / "Library" / "Caches" / "llama.cpp"
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / "llama.cpp"
    return Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"
