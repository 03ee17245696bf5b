"""Hugging Face's cache: `hub/models--OWNER--REPO/snapshots/REVISION/FILE`.

huggingface.co/docs/huggingface_hub/guides/manage-cache; builds of llama.cpp from 2026 on keep what -hf fetches there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from velosweep.config.keys import expanded
from velosweep.models.stores.stored_file import StoredFile, gguf_files, note_text

_PREFIX = "models--"


def stored_files(home: Path, environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """The GGUF files of the cache; of several revisions of a file the one that `main` refers to, else any."""
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    base = Path(environment.get("HF_HOME") or cache / "huggingface")
    yield from hub_files(expanded(str(environment.get("HF_HUB_CACHE") or base / "hub")), "Hugging Face")


def hub_files(hub: Path, store: str) -> Iterator[StoredFile]:
    """As `stored_files`, of one folder with that layout."""
    for repository in sorted(hub.glob(f"{_PREFIX}*")):
        owner_and_name = repository.name.removeprefix(_PREFIX).replace("--", "/")
        current = note_text(repository / "refs" / "main").strip()
        found: dict[str, StoredFile] = {}
        for revision in sorted((repository / "snapshots").glob("*"), key=lambda folder: folder.name != current):
            for file in gguf_files(revision, store):
                found.setdefault(file.name, file)
        for name, file in found.items():
            yield StoredFile(path=file.path, name=f"{owner_and_name}/{name}", store=store)
