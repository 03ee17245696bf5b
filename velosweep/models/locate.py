"""Where a model is: a path, or a file of a Hugging Face repository in its usual cache."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from velosweep.errors import ModelFileError, install_extra
from velosweep.models.model_checks import part_names

_HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)")
_MOST_PARTS = 1000


def resolve_model(reference: str, *, key: str) -> str:
    """Absolute path of the file that `reference` names; `hf://owner/repo[@revision]/file.gguf` is fetched if need be.

    Of a split model on the hub all parts are fetched. `key` is the configuration key for messages. Raises
    ModelFileError where it can't be fetched; whether a local file is there is checked by `model_checks.check_model`.
    """
    if not reference.startswith("hf://"):
        return _local(reference, key)
    match = _HUB.fullmatch(reference)
    if match is None:
        raise ModelFileError(f"{key} is {reference!r}", remedy="write hf://owner/repo/file.gguf")
    paths = [_fetched(match["repo"], file, match["revision"], reference, key) for file in _parts(match["file"])]
    return paths[0]


def _local(reference: str, key: str) -> str:
    if not reference.strip() or "\0" in reference:
        raise ModelFileError(f"{key} is {reference!r}", remedy="give the path of a GGUF file")
    try:
        return str(Path(reference).expanduser().absolute())
    except RuntimeError as error:  # a ~user that isn't there
        raise ModelFileError(f"{key} is {reference!r}: {error}", remedy="write the whole path") from error


def _parts(file: str) -> list[str]:
    """The file, and where its name says that it is the first part of several, the others."""
    names = part_names(file)
    return names if names[:1] == [file] and len(names) <= _MOST_PARTS else [file]


def _fetched(repo: str, file: str, revision: str | None, reference: str, key: str) -> str:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise ModelFileError(
            f"{key} is {reference!r}, and huggingface_hub is not installed", remedy=install_extra("hf")
        ) from error
    expected: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, ValueError, *_transport_errors())
    try:
        return str(Path(hf_hub_download(repo, file, revision=revision)).absolute())
    except expected as error:
        cause = _cause(error)
        raise ModelFileError(
            f"{key}: {file} of hf://{repo} can't be fetched: {cause}", remedy=_remedy(type(error).__name__)
        ) from error


def _transport_errors() -> Iterator[type[Exception]]:
    """What the hub's HTTP library raises: httpx, of either name; of requests, before it, they are OSErrors."""
    for name in ("httpx", "httpx2"):
        with suppress(ImportError):
            yield importlib.import_module(name).HTTPError


def _cause(error: Exception) -> str:
    """The first line that says something; the hub's messages begin with a status and a request id."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Request ID" not in line]
    return lines[0] if lines else f"{type(error).__name__} {str(error).strip()}".strip()


def _remedy(kind: str) -> str:
    remedies = {
        "GatedRepoError": "ask for access on its page and log in with `hf auth login` or set HF_TOKEN",
        "EntryNotFoundError": "check the file's name",
        "RemoteEntryNotFoundError": "check the file's name",
        "RevisionNotFoundError": "check the revision after the @",
        "RepositoryNotFoundError": "check the repository's name; for a private one set HF_TOKEN",
        "LocalEntryNotFoundError": "check the network and HF_ENDPOINT, or give the path of a file you have",
    }
    return remedies.get(kind, "check the name, the network, HF_TOKEN and the free space of the cache (HF_HOME)")
