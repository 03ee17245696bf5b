"""What can speed a main model up: draft models and heads that fit it, and kinds of speculation that need no file."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from velosweep.config.speculation_kinds import KINDS
from velosweep.errors import PairError
from velosweep.models.found_models import FoundModel
from velosweep.models.gguf_model import GgufInfo
from velosweep.models.model_checks import check_heads, check_pair, fingerprint

_USUAL_RATIO = 0.1  # size of a draft model over its main model's that most reported gains have
_OF_HEADS = 0.5  # as promising as a draft model that is some 2.7 times larger or smaller than the usual one
_LARGEST_RATIO = 0.7  # a draft this large costs nearly what it saves


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A kind of speculation, with the file that drafts where it needs one; `longest`: drafts are cut to so many tokens.

    `ratio`: the file's size over the main model's.
    """

    kind: str
    draft: FoundModel | None = None
    ratio: float | None = None
    longest: int | None = None

    @property
    def priority(self) -> float:
        """Larger is more promising, before anything was measured: draft models by size, heads among them, draftless."""
        if self.kind == "draft":
            return 1 / (1 + abs(math.log((self.ratio or 1.0) / _USUAL_RATIO)))
        return _OF_HEADS if self.kind.startswith("draft-") else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Misfit:
    """A model that was found and can't draft, and why."""

    model: FoundModel
    why: str


def find_candidates(
    main: GgufInfo, found: Iterable[FoundModel], known_kinds: Sequence[str]
) -> tuple[list[Candidate], list[Misfit]]:
    """Everything that fits the main model, the most promising of each kind first; and what of `found` does not.

    `known_kinds`: those that the program has, by llama.cpp's names; empty: not known, and all are taken. Raises
    PairError where `main` is no model itself.
    """
    able = {kind.name: kind for kind in KINDS.values() if not known_kinds or kind.llama_cpp in known_kinds}
    if main.head is not None and main.head.heads_only:
        raise PairError(
            f"{main.path} holds heads for {main.head.kind}, not a model",
            remedy="name the model that they are made for; they are found in its folder",
        )
    candidates = [Candidate(kind=name) for name, kind in able.items() if not kind.draft_settings]
    own = main.head
    if own is not None and own.kind in able:
        candidates.append(Candidate(kind=own.kind, longest=own.longest))
    misfits: list[Misfit] = []
    seen = {fingerprint(main.path)}
    for model in found:
        if model.file.path.samefile(main.path):
            continue
        try:
            kind = fitting_kind(main, model.header)
        except PairError as error:
            misfits.append(Misfit(model=model, why=error.why))
            continue
        if kind not in able:
            misfits.append(Misfit(model=model, why=f"this llama.cpp does not know {kind}"))
        elif (content := fingerprint(model.path)) not in seen:
            seen.add(content)
            head = model.header.head
            candidates.append(
                Candidate(
                    kind=kind,
                    draft=model,
                    ratio=model.header.size_bytes / main.size_bytes,
                    longest=head.longest if head is not None and kind != "draft" else None,
                )
            )
    of_kind = Counter[str]()

    def turn(candidate: Candidate) -> tuple[bool, int]:  # the second of a kind comes after the first of each
        of_kind[candidate.kind] += 1
        return (not candidate.priority, of_kind[candidate.kind])

    return sorted(sorted(candidates, key=lambda candidate: -candidate.priority), key=turn), misfits


def fitting_kind(main: GgufInfo, draft: GgufInfo) -> str:
    """The kind of speculation by which `draft` drafts for `main`. Raises PairError where it can't, or is too large."""
    head = draft.head
    if head is not None and head.heads_only:
        if head.kind == "draft-mtp" and draft.architecture not in (main.architecture, f"{main.architecture}-assistant"):
            raise PairError(f"its heads are made for {draft.architecture.removesuffix('-assistant')}")
        check_heads([head.kind], main, draft)
        return head.kind
    ratio = draft.size_bytes / main.size_bytes
    if ratio >= _LARGEST_RATIO:
        raise PairError(f"it has {100 * ratio:.0f} % of the main model's size")
    check_pair(main, draft)
    return "draft"
