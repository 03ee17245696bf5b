"""Where a model is: a path, or a file of a Hugging Face repository in its usual cache."""

from __future__ import annotations

import re
from pathlib import Path

from velosweep.errors import ModelFileError

_HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)")


def resolve_model(reference: str, *, key: str) -> str:
    """Absolute path of the file that `reference` names; `hf://owner/repo[@revision]/file.gguf` is fetched if need be.

    `key` is the configuration key for messages. Raises ModelFileError where it can't be fetched; whether a local
    file is there is checked by `engines.gguf.check_model`.
    """
    if not reference.startswith("hf://"):
        return str(Path(reference).expanduser().absolute())
    match = _HUB.fullmatch(reference)
    if match is None:
        raise ModelFileError(f"{key} is {reference!r}", remedy="write hf://owner/repo/file.gguf")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ModelFileError(
            f"{key} is {reference!r}, and huggingface_hub is not installed", remedy="pip install 'velosweep[hf]'"
        ) from error
    try:
        return str(hf_hub_download(match["repo"], match["file"], revision=match["revision"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(
            f"{key}: {reference} can't be fetched: {reason}", remedy="check the name, your network and HF_TOKEN"
        ) from error
