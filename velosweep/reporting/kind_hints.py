"""What helps a speculation that is accepted too little or costs too much, in the words that fit its kind."""

from dataclasses import dataclass

from velosweep.config.speculation_kinds import KINDS, kind_of


@dataclass(frozen=True, kw_only=True, slots=True)
class KindHints:
    """Remedies that begin a sentence. `better`: for drafts that are accepted too little; `faster`: for drafting that
    costs too much, None where drafting costs nothing worth naming; `instead`: where nothing is known.
    `takes_length`: whether n_draft changes anything.
    """

    better: str
    faster: str | None
    instead: str
    takes_length: bool = True


_OTHERS = "speculation=draft with a small model of the same family"
_DRAFT = KindHints(
    better="A draft of the same model family, or one made for this model",
    faster="A faster draft (smaller, more quantised, or a head)",
    instead="Trying different model pairs",
)
_HEAD = KindHints(
    better="A head trained for this very main model (its fine-tune, too)",
    faster="A faster head (smaller, or more quantised)",
    instead=f"Another head for this main model, or {_OTHERS}",
)
_MTP = KindHints(
    better="Heads trained with this very main model (its fine-tune, too) and not quantised hard",
    faster="Faster heads (more quantised, or in a smaller file of their own)",
    instead=f"{_OTHERS[0].upper()}{_OTHERS[1:]}, or an n-gram kind where text repeats",
)
_NGRAM = KindHints(
    better="Prompts whose answers repeat text (code to edit, documents to quote), or longer matches before it drafts",
    faster=None,
    instead=f"Prompts whose answers repeat text, or {_OTHERS}",
)
_UNKNOWN = KindHints(
    better="Another speculation", faster="Cheaper drafts", instead=f"Another speculation, such as {_OTHERS}"
)
_BY_KIND = {
    "draft": _DRAFT,
    "draft-mtp": _MTP,
    **dict.fromkeys(("draft-eagle3", "draft-dflash", "draft-dspark"), _HEAD),
}


def kind_hints(speculation: str) -> KindHints:
    """Those of a `speculation` column. Of several kinds that have a draft model the first; of n-gram kinds theirs."""
    names = speculation.partition(" (")[0].split("+")
    if all(kind_of(name).fixed_length is not None for name in names):
        return KindHints(better=_NGRAM.better, faster=None, instead=_NGRAM.instead, takes_length=False)
    drafting = next((name for name in names if kind_of(name).draft_settings), None)
    if drafting is None:
        return _NGRAM if all(name in KINDS for name in names) else _UNKNOWN
    return _BY_KIND.get(drafting, _UNKNOWN)
