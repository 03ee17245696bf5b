"""Models of Hugging Face repositories: found in its own cache or llama.cpp's, else fetched into the former."""

import importlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from velosweep.config.keys import expanded
from velosweep.config.model_references import HubReference, hub_reference, is_local
from velosweep.errors import ModelFileError, install_extra
from velosweep.models.model_stores import (
    home_folder,
    hugging_face_files,
    is_file,
    llama_cpp_cache,
    llama_cpp_files,
    note_json,
)

_PART_NAME = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MOST_PARTS = 1000
# As common/download.cpp has it: what -hf takes where no quantisation is named, and files that it takes for no model.
_USUAL_TAGS = ("Q4_K_M", "Q8_0")
_NO_MODEL = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
_TAG = re.compile(r"[-.]([A-Z0-9]*\d[A-Z0-9_]*|BF16|MXFP4)(?:-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)
_WRITE = "write hf://owner/repo/file.gguf, or owner/repo:Q4_K_M"
_REMEDIES = {
    "GatedRepoError": "ask for access on its page and log in with `hf auth login` or set HF_TOKEN",
    "EntryNotFoundError": "check the file's name",
    "RemoteEntryNotFoundError": "check the file's name",
    "RevisionNotFoundError": "check the revision after the @",
    "RepositoryNotFoundError": "check the repository's name; for a private one set HF_TOKEN",
    "LocalEntryNotFoundError": "check the network and HF_ENDPOINT, or give the path of a file you have",
}


def part_names(name: str) -> list[str]:
    """The names of all parts of a split model by the name of one of them; the name itself where it isn't one."""
    match = _PART_NAME.fullmatch(name)
    if match is None:
        return [name]
    return [f"{match['prefix']}-{number:05d}-of-{match['count']}.gguf" for number in range(1, int(match["count"]) + 1)]


def resolve_model(reference: str, *, key: str) -> str:
    """Absolute path of the file that `reference` names: a path, or a model of a hub (`config.model_references`).

    One that neither Hugging Face's cache nor llama.cpp's has is fetched, all parts of a split one. `key` is the
    configuration key for messages. Raises ModelFileError where it can't be fetched; whether a local file is there is
    checked by `check_model`.
    """
    if is_local(reference):
        if not reference.strip() or "\0" in reference:
            raise ModelFileError(f"{key} is {reference!r}", remedy="give the path of a GGUF file")
        return str(expanded(reference).absolute())
    asked = hub_reference(reference)
    if asked is None:
        raise ModelFileError(f"{key} is {reference!r}", remedy=_WRITE)
    if asked.revision is None and (here := _cached(asked)) is not None:
        return str(here.absolute())
    file = asked.file or _listed_file(asked, reference, key)
    names = part_names(file)
    if names[:1] != [file] or len(names) > _MOST_PARTS:  # not the first part of several
        names = [file]
    paths = [_fetched(asked, name, reference, key) for name in names]
    return paths[0]


def choose_file(files: Iterable[str], tag: str | None) -> str | None:
    """The file of a repository that `-hf owner/repo[:tag]` takes, by llama.cpp's own rule; None where it takes none."""
    models = [
        file
        for file in sorted(files)
        if file.endswith(".gguf") and not any(word in file.rpartition("/")[2] for word in _NO_MODEL)
        if (part := _PART_NAME.fullmatch(file)) is None or int(part["number"]) == 1
    ]
    for wanted in (tag,) if tag else _USUAL_TAGS:
        found = next((file for file in models if re.search(f"{re.escape(wanted)}[.-]", file, re.IGNORECASE)), None)
        if found is not None:
            return found
    return None if tag else next(iter(models), None)


def _cached(asked: HubReference) -> Path | None:
    """The file in one of the caches, whole."""
    home = home_folder()
    stored = (*llama_cpp_files(home, os.environ), *hugging_face_files(home, os.environ))
    prefix = f"{asked.repo}/"
    paths = {one.name.removeprefix(prefix): one.path for one in reversed(stored) if one.name.startswith(prefix)}
    paths |= _kept_flat(llama_cpp_cache(home, os.environ), asked)
    name = asked.file or choose_file(paths, asked.tag)
    path = paths.get(name) if name else None
    return path if path and all(path.with_name(part).exists() for part in part_names(path.name)) else None


def _kept_flat(folder: Path, asked: HubReference) -> dict[str, Path]:
    """The repository's files that llama.cpp kept before 2026, as `OWNER_REPO_FILE`, by name.

    Whose a file is follows from no such name alone: `manifest=OWNER=REPO=TAG.json` tells.
    """
    names = {asked.file} if asked.file else set()
    for manifest in folder.glob(f"manifest={asked.repo.replace('/', '=')}=*.json"):
        match note_json(manifest):
            case {"ggufFile": {"rfilename": str(name)}}:
                names.add(name)
    paths = {name: folder / f"{asked.repo}/{name}".replace("/", "_") for name in names if name}
    return {name: path for name, path in paths.items() if is_file(path)}


def _listed_file(asked: HubReference, reference: str, key: str) -> str:
    """The file that a repository has for what was asked. Raises ModelFileError."""
    what = f"the files of hf://{asked.repo}"
    files: Sequence[str] = _ask(
        lambda hub: hub.HfApi().list_repo_files(asked.repo, revision=asked.revision), what, reference, key
    )
    found = choose_file(files, asked.tag)
    if found is None:
        tags = dict.fromkeys(match[1].upper() for file in files if (match := _TAG.search(file)))
        has = f"it has {', '.join(tags)}" if tags else "it has no GGUF file that is a model"
        raise ModelFileError(
            f"{key} is {reference!r}, and hf://{asked.repo} has no such file; {has}",
            remedy=f"choose one of these; {_WRITE}",
        )
    return found


def _fetched(asked: HubReference, file: str, reference: str, key: str) -> str:
    what = f"{file} of hf://{asked.repo}"
    path = _ask(lambda hub: hub.hf_hub_download(asked.repo, file, revision=asked.revision), what, reference, key)
    return str(Path(path).absolute())


def _ask(question: Callable[[Any], Any], what: str, reference: str, key: str) -> Any:
    """What the hub answers, asked through its package. Raises ModelFileError."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ModelFileError(
            f"{key} is {reference!r}, and huggingface_hub is not installed", remedy=install_extra("hf")
        ) from error
    errors = importlib.import_module("huggingface_hub.errors")
    expected: list[type[Exception]] = [OSError, ValueError, errors.HfHubHTTPError]
    for name in ("httpx", "httpx2"):  # the hub's HTTP library; the errors of requests, before it, are OSErrors
        with suppress(ImportError):
            expected.append(importlib.import_module(name).HTTPError)
    try:
        return question(hub)
    except tuple(expected) as error:
        # The first line that says something: the hub's messages begin with a status and a request id.
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Request ID" not in line]
        cause = lines[0] if lines else f"{type(error).__name__} {error}".strip()
        others = "check the name, the network, HF_TOKEN and the free space of the cache (HF_HOME)"
        raise ModelFileError(
            f"{key}: {what} can't be fetched: {cause}", remedy=_REMEDIES.get(type(error).__name__, others)
        ) from error
