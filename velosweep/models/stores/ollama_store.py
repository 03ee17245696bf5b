"""Ollama's folder: `manifests/HOST/NAMESPACE/MODEL/TAG` are JSON, `blobs/sha256-…` the layers that they name.

github.com/ollama/ollama/blob/main/docs/faq.md (where), and its package `manifest` (the layers' media types).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from velosweep.config.keys import expanded
from velosweep.models.stores.stored_file import StoredFile

STORE = "Ollama"
_MODEL = "application/vnd.ollama.image.model"
_SERVICE = Path("/usr/share/ollama/.ollama/models")  # where the Linux service runs as a user of its own
_LIBRARY = ("registry.ollama.ai", "library")


def stored_files(home: Path, environment: Mapping[str, str], service: Path = _SERVICE) -> Iterator[StoredFile]:
    """The model layers of every manifest, called as Ollama lists them: `llama3.1:8b`."""
    chosen = environment.get("OLLAMA_MODELS")
    for folder in [expanded(chosen)] if chosen else [home / ".ollama" / "models", service]:
        manifests = folder / "manifests"
        for file in sorted(path for path in manifests.glob("*/*/*/*") if path.is_file()):
            for digest in _layers(file):
                blob = folder / "blobs" / digest.replace(":", "-")
                if blob.is_file():
                    yield StoredFile(path=blob, name=_name(file.relative_to(manifests).parts), store=STORE)


def _layers(manifest: Path) -> list[str]:
    """The digests of a manifest's model layers; none of a file that is no manifest."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        return [str(layer["digest"]) for layer in content["layers"] if layer["mediaType"] == _MODEL]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _name(parts: tuple[str, ...]) -> str:
    host, namespace, model, tag = parts
    if (host, namespace) == _LIBRARY:
        return f"{model}:{tag}"
    return f"{namespace}/{model}:{tag}" if host == _LIBRARY[0] else f"{host}/{namespace}/{model}:{tag}"
