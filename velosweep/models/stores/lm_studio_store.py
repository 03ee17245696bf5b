"""LM Studio's folder: `models/PUBLISHER/MODEL/FILE.gguf` (lmstudio.ai/docs/basics/import-model)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from velosweep.models.stores.stored_file import StoredFile, gguf_files, note_json, note_text

STORE = "LM Studio"


def stored_files(home: Path, environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """The GGUF files of the folder that its settings name, of the usual one and of that of versions before 0.3."""
    del environment
    own = Path(note_text(home / ".lmstudio-home-pointer").strip() or home / ".lmstudio")
    folders = [own / "models", home / ".cache" / "lm-studio" / "models"]
    match note_json(own / "settings.json"):
        case {"downloadsFolder": str(chosen)} if chosen:
            folders.insert(0, Path(chosen))
    for folder in dict.fromkeys(folders):
        yield from gguf_files(folder, STORE)
