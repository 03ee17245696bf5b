"""Where a model is: a path, or a file of a Hugging Face repository in its usual cache."""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from pathlib import Path

from velosweep.errors import ModelFileError, install_extra
from velosweep.models.model_checks import part_names

_HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)")
_MOST_PARTS = 1000
_REMEDIES = {
    "GatedRepoError": "ask for access on its page and log in with `hf auth login` or set HF_TOKEN",
    "EntryNotFoundError": "check the file's name",
    "RemoteEntryNotFoundError": "check the file's name",
    "RevisionNotFoundError": "check the revision after the @",
    "RepositoryNotFoundError": "check the repository's name; for a private one set HF_TOKEN",
    "LocalEntryNotFoundError": "check the network and HF_ENDPOINT, or give the path of a file you have",
}


def resolve_model(reference: str, *, key: str) -> str:
    """Absolute path of the file that `reference` names; `hf://owner/repo[@revision]/file.gguf` is fetched if need be.

    Of a split model on the hub all parts are fetched. `key` is the configuration key for messages. Raises
    ModelFileError where it can't be fetched; whether a local file is there is checked by `model_checks.check_model`.
    """
    if not reference.startswith("hf://"):
        if not reference.strip() or "\0" in reference:
            raise ModelFileError(f"{key} is {reference!r}", remedy="give the path of a GGUF file")
        try:
            return str(Path(reference).expanduser().absolute())
        except RuntimeError as error:  # a ~user that isn't there
            raise ModelFileError(f"{key} is {reference!r}: {error}", remedy="write the whole path") from error
    match = _HUB.fullmatch(reference)
    if match is None:
        raise ModelFileError(f"{key} is {reference!r}", remedy="write hf://owner/repo/file.gguf")
    files = part_names(match["file"])
    if files[:1] != [match["file"]] or len(files) > _MOST_PARTS:  # not the first part of several
        files = [match["file"]]
    paths = [_fetched(match["repo"], file, match["revision"], reference, key) for file in files]
    return paths[0]


def _fetched(repo: str, file: str, revision: str | None, reference: str, key: str) -> str:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise ModelFileError(
            f"{key} is {reference!r}, and huggingface_hub is not installed", remedy=install_extra("hf")
        ) from error
    expected: list[type[Exception]] = [HfHubHTTPError, OSError, ValueError]
    for name in ("httpx", "httpx2"):  # the hub's HTTP library; the errors of requests, before it, are OSErrors
        with suppress(ImportError):
            expected.append(importlib.import_module(name).HTTPError)
    try:
        return str(Path(hf_hub_download(repo, file, revision=revision)).absolute())
    except tuple(expected) as error:
        # The first line that says something: the hub's messages begin with a status and a request id.
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Request ID" not in line]
        cause = lines[0] if lines else f"{type(error).__name__} {error}".strip()
        others = "check the name, the network, HF_TOKEN and the free space of the cache (HF_HOME)"
        raise ModelFileError(
            f"{key}: {file} of hf://{repo} can't be fetched: {cause}",
            remedy=_REMEDIES.get(type(error).__name__, others),
        ) from error
