"""How a model on a hub is written, apart from the path of a file."""

import os
import re
from typing import NamedTuple

_NAME = r"[A-Za-z0-9_][\w.-]*"
_HUB = re.compile(rf"hf://(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[^/:]+))?(?:/(?P<file>.+)|:(?P<tag>{_NAME}))?")
_AS_LLAMA_CPP = re.compile(rf"(?P<repo>{_NAME}/{_NAME}):(?P<tag>{_NAME})")


class HubReference(NamedTuple):
    """A file of a repository, or one of its quantisations (`tag`); neither: the usual one."""

    repo: str
    revision: str | None = None
    file: str | None = None
    tag: str | None = None


def hub_reference(text: str) -> HubReference | None:
    """What `hf://owner/repo[@revision]/file.gguf`, `hf://owner/repo:TAG` or `owner/repo:TAG` names; None for others."""
    match = _HUB.fullmatch(text) or _AS_LLAMA_CPP.fullmatch(text)
    return None if match is None else HubReference(**match.groupdict())


def is_local(reference: str) -> bool:
    """Whether a reference is the path of a file here; one that exists always is."""
    return "://" not in reference and (hub_reference(reference) is None or os.path.exists(reference))  # noqa: PTH110


def reference_name(reference: str) -> str:
    """A short name for a model: the file's without its ending, or the repository's and its quantisation."""
    last = re.split(r"[/\\]", reference)[-1] or reference
    return last[:-5] if last.lower().endswith(".gguf") else last
