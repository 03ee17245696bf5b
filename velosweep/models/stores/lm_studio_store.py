"""LM Studio's folder: `models/PUBLISHER/MODEL/FILE.gguf` (lmstudio.ai/docs/basics/import-model)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from velosweep.models.stores.stored_file import StoredFile, gguf_files

STORE = "LM Studio"


def stored_files(home: Path, environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """The GGUF files of the folder that its settings name, of the usual one and of that of versions before 0.3."""
    del environment
    own = home / ".lmstudio"
    with suppress(OSError):
        own = Path((home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip() or own)
    folders = [own / "models", home / ".cache" / "lm-studio" / "models"]
    with suppress(OSError, ValueError, AttributeError):
        chosen = json.loads((own / "settings.json").read_text(encoding="utf-8")).get("downloadsFolder")
        if isinstance(chosen, str) and chosen:
            folders.insert(0, Path(chosen))
    for folder in dict.fromkeys(folders):
        yield from gguf_files(folder, STORE)
