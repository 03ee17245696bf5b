"""Ollama's folder: `manifests/HOST/NAMESPACE/MODEL/TAG` are JSON, `blobs/sha256-…` the layers that they name.

github.com/ollama/ollama/blob/main/docs/faq.md (where), and its package `manifest` (the layers' media types).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from velosweep.config.keys import expanded
from velosweep.models.stores.stored_file import StoredFile, is_file, note_json

STORE = "Ollama"
_MODEL = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256[:-][0-9a-z]{1,64}")
_SERVICE = Path("/usr/share/ollama/.ollama/models")  # where the Linux service runs as a user of its own
_LIBRARY = ("registry.ollama.ai", "library")


def stored_files(home: Path, environment: Mapping[str, str], service: Path = _SERVICE) -> Iterator[StoredFile]:
    """The model layers of every manifest, called as Ollama lists them: `llama3.1:8b`."""
    chosen = environment.get("OLLAMA_MODELS")
    for folder in [expanded(chosen)] if chosen else [home / ".ollama" / "models", service]:
        manifests = folder / "manifests"
        for file in sorted(filter(is_file, manifests.glob("*/*/*/*"))):
            for digest in _layers(file):
                blob = folder / "blobs" / digest.replace(":", "-")
                if is_file(blob):
                    yield StoredFile(path=blob, name=_name(file.relative_to(manifests).parts), store=STORE)


def _layers(manifest: Path) -> list[str]:
    """The digests of a manifest's model layers, each a name in its store; none of a file that is no manifest."""
    match note_json(manifest):
        case {"layers": [*layers]}:
            digests = [layer.get("digest") for layer in layers if isinstance(layer, dict) and _is_model(layer)]
            return [digest for digest in digests if isinstance(digest, str) and _DIGEST.fullmatch(digest)]
    return []


def _is_model(layer: Mapping[str, object]) -> bool:
    return layer.get("mediaType") == _MODEL


def _name(parts: tuple[str, ...]) -> str:
    host, namespace, model, tag = parts
    if (host, namespace) == _LIBRARY:
        return f"{model}:{tag}"
    return f"{namespace}/{model}:{tag}" if host == _LIBRARY[0] else f"{host}/{namespace}/{model}:{tag}"
