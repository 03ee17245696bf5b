"""Where other programs keep models: one reader a program, by its documented layout. Each yields its GGUF files."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from velosweep.config.keys import expanded

_LARGEST_NOTE = 1 << 22
_HUB_PREFIX = "models--"
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_OLLAMA_DIGEST = re.compile(r"sha256[:-][0-9a-z]{1,64}")
_OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")  # where the Linux service runs as a user of its own
_OLLAMA_LIBRARY = ("registry.ollama.ai", "library")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """`name`: what the store calls the model; `store`: the program, or the folder where it lies."""

    path: Path
    name: str
    store: str


def hugging_face_files(home: Path, environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """Of Hugging Face's cache: huggingface.co/docs/huggingface_hub/guides/manage-cache.

    Builds of llama.cpp from 2026 on keep what -hf fetches there.
    """
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    base = Path(environment.get("HF_HOME") or cache / "huggingface")
    yield from _hub_files(expanded(str(environment.get("HF_HUB_CACHE") or base / "hub")), "Hugging Face")


def _hub_files(hub: Path, store: str) -> Iterator[StoredFile]:
    """Of `models--OWNER--REPO/snapshots/REVISION/FILE`; of several revisions the one of `main`, else any."""
    for repository in sorted(hub.glob(f"{_HUB_PREFIX}*")):
        owner_and_name = repository.name.removeprefix(_HUB_PREFIX).replace("--", "/")
        current = note_text(repository / "refs" / "main").strip()
        found: dict[str, StoredFile] = {}
        for revision in sorted((repository / "snapshots").glob("*"), key=lambda folder: folder.name != current):
            for file in gguf_files(revision, store):
                found.setdefault(file.name, file)
        for name, file in found.items():
            yield StoredFile(path=file.path, name=f"{owner_and_name}/{name}", store=store)


def llama_cpp_files(home: Path, environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """Of llama.cpp's cache: `OWNER_REPO_FILE.gguf`, from 2026 on as Hugging Face has it where $LLAMA_CACHE is set."""
    folder = llama_cpp_cache(home, environment)
    yield from gguf_files(folder, "llama.cpp", depth=1)
    yield from _hub_files(folder, "llama.cpp")


def llama_cpp_cache(home: Path, environment: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where llama.cpp keeps what it fetched (common/common.cpp, fs_get_cache_directory)."""
    if folder := environment.get("LLAMA_CACHE"):
        return Path(folder)
    if platform == "darwin":
        return home / "Library" / "Caches" / "llama.cpp"
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local") / "llama.cpp"
    return Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"


def lm_studio_files(home: Path, _environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """Of LM Studio's folder: `models/PUBLISHER/MODEL/FILE.gguf` (lmstudio.ai/docs/basics/import-model).

    The one that its settings name, the usual one and that of versions before 0.3.
    """
    own = Path(note_text(home / ".lmstudio-home-pointer").strip() or home / ".lmstudio")
    folders = [own / "models", home / ".cache" / "lm-studio" / "models"]
    match note_json(own / "settings.json"):
        case {"downloadsFolder": str(chosen)} if chosen:
            folders.insert(0, Path(chosen))
    for folder in dict.fromkeys(folders):
        yield from gguf_files(folder, "LM Studio")


def ollama_files(home: Path, environment: Mapping[str, str], service: Path = _OLLAMA_SERVICE) -> Iterator[StoredFile]:
    """Of Ollama's folder, called as Ollama lists them: `llama3.1:8b`.

    `manifests/HOST/NAMESPACE/MODEL/TAG` are JSON, `blobs/sha256-…` the layers that they name
    (github.com/ollama/ollama/blob/main/docs/faq.md, and its package `manifest` for the layers' media types).
    """
    chosen = environment.get("OLLAMA_MODELS")
    for folder in [expanded(chosen)] if chosen else [home / ".ollama" / "models", service]:
        manifests = folder / "manifests"
        for file in sorted(filter(is_file, manifests.glob("*/*/*/*"))):
            for digest in _ollama_layers(file):
                blob = folder / "blobs" / digest.replace(":", "-")
                if is_file(blob):
                    yield StoredFile(path=blob, name=_ollama_name(file.relative_to(manifests).parts), store="Ollama")


def _ollama_layers(manifest: Path) -> list[str]:
    """The digests of a manifest's model layers, each a name in its store; none of a file that is no manifest."""
    match note_json(manifest):
        case {"layers": [*layers]}:
            models = [one for one in layers if isinstance(one, dict) and one.get("mediaType") == _OLLAMA_MODEL]
            digests = [model.get("digest") for model in models]
            return [digest for digest in digests if isinstance(digest, str) and _OLLAMA_DIGEST.fullmatch(digest)]
    return []


def _ollama_name(parts: tuple[str, ...]) -> str:
    host, namespace, model, tag = parts
    if (host, namespace) == _OLLAMA_LIBRARY:
        return f"{model}:{tag}"
    return f"{namespace}/{model}:{tag}" if host == _OLLAMA_LIBRARY[0] else f"{host}/{namespace}/{model}:{tag}"


STORES = (llama_cpp_files, hugging_face_files, lm_studio_files, ollama_files)


def home_folder() -> Path:
    """The person's home folder; one that isn't there where there is none, so that stores are found by variables."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


def gguf_files(folder: Path, store: str, *, depth: int = 3) -> Iterator[StoredFile]:
    """The GGUF files of a folder and of folders in it, so many levels deep, called by their path in it.

    Hidden folders are left out; a folder that can't be read has none.
    """
    try:
        entries = sorted(folder.iterdir())
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return
    for path in entries:
        if path.suffix.lower() == ".gguf" and is_file(path):
            yield StoredFile(path=path, name=path.name, store=store)
        elif depth > 1 and not path.name.startswith(".") and os.path.isdir(path):  # noqa: PTH112 (raises nothing)
            for inner in gguf_files(path, store, depth=depth - 1):
                yield StoredFile(path=inner.path, name=f"{path.name}/{inner.name}", store=store)


def is_file(path: Path) -> bool:
    """Whether a regular file is there that can be asked for; `Path.is_file` raises where that is forbidden."""
    return os.path.isfile(path)  # noqa: PTH113


def note_text(path: Path) -> str:
    """What a program wrote into a small file of its store; empty where it is no text, no file, or not small."""
    try:
        return path.read_text(encoding="utf-8") if is_file(path) and path.stat().st_size <= _LARGEST_NOTE else ""
    except (OSError, ValueError):
        return ""


def note_json(path: Path) -> object:
    """As `note_text`, parsed; None for what is no JSON."""
    try:
        return json.loads(note_text(path))
    except (ValueError, RecursionError):
        return None
