"""The models on this machine: in folders that were named and in the stores of other programs, each file once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from velosweep.errors import NotALanguageModelError, VelosweepError
from velosweep.models.gguf_model import GgufInfo, Tokens
from velosweep.models.model_checks import check_model
from velosweep.models.model_stores import STORES, StoredFile, gguf_files


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundModel:
    """A model that llama.cpp could load, its name and where it was found."""

    file: StoredFile
    header: GgufInfo

    @property
    def path(self) -> str:
        return str(self.file.path)


def list_files(folders: Sequence[Path], home: Path, environment: Mapping[str, str]) -> Iterator[StoredFile]:
    """Every GGUF file of the folders, then of the stores."""
    for folder in folders:
        yield from gguf_files(folder, str(folder))
    for files_of_store in STORES:
        yield from files_of_store(home, environment)


def read_models(
    files: Sequence[StoredFile], *, on_progress: Callable[[str], None] = lambda text: None
) -> tuple[list[FoundModel], list[str]]:
    """The models among the files, and in words why others are none.

    Files that several names lead to count once, under the first name. What is no language model (a projector for
    images, a vocabulary alone), and later parts of a split one, are left out without a word.
    """
    distinct: dict[tuple[int, int], StoredFile] = {}
    for file in files:
        try:
            status = file.path.stat()
        except OSError:  # gone since it was listed
            continue
        distinct.setdefault((status.st_dev, status.st_ino), replace(file, path=file.path.absolute()))
    if len(distinct) > 1:
        on_progress(f"Reading the headers of {len(distinct)} models …")
    vocabularies: dict[Tokens, Tokens] = {}
    found, refused = [], []
    for file in distinct.values():
        try:
            header = check_model(file.path, key="the model")
        except NotALanguageModelError:
            continue
        except VelosweepError as error:
            refused.append(error.message)
            continue
        if not header.parameters:
            continue
        shared = vocabularies.setdefault(header.tokens, header.tokens)
        found.append(FoundModel(file=file, header=replace(header, tokens=shared)))
    return found, refused
