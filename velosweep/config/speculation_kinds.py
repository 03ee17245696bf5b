"""The kinds of speculation: what each is called, what it needs and keeps, and what it can be set to.

A llama.cpp may know more kinds than this table: `kind_of` makes one of any name, and the program decides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from velosweep.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeculationKind:
    """One way to propose tokens.

    `parameters`: its own settings with llama.cpp's defaults of October 2026, which are always given, so that a default
    that changes in another build changes no result; `optional_parameters` have none.
    """

    name: str  # velosweep's
    llama_cpp: str  # that of `--spec-type`
    draft_settings: bool = False  # whether the settings of drafting (n_draft, p_min, devices, …) apply to it
    needs_draft_model: bool = False
    may_have_draft_model: bool = False
    keeps_state: bool = False  # it learns across requests, so that each iteration needs a fresh server
    parameters: Mapping[str, int] = field(default_factory=dict)
    optional_parameters: tuple[str, ...] = ()
    draft_lengths: tuple[str, ...] = ()  # parameters that bound its drafts: n_draft, where the program has them
    fixed_length: int | None = None  # what it drafts whatever it is told

    @property
    def takes_draft_model(self) -> bool:
        """Whether a draft model file that is named is used."""
        return self.needs_draft_model or self.may_have_draft_model


def _lookup_kind(name: str, *, keeps_state: bool = False) -> SpeculationKind:
    prefix = name.replace("-", "_")
    return SpeculationKind(
        name=name,
        llama_cpp=name,
        keeps_state=keeps_state,
        parameters={f"{prefix}.size_n": 12, f"{prefix}.size_m": 48, f"{prefix}.min_hits": 1},
        draft_lengths=(f"{prefix}.size_m",),
    )


KINDS: Mapping[str, SpeculationKind] = {
    kind.name: kind
    for kind in (
        SpeculationKind(name="draft", llama_cpp="draft-simple", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-eagle3", llama_cpp="draft-eagle3", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-dflash", llama_cpp="draft-dflash", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-dspark", llama_cpp="draft-dspark", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-mtp", llama_cpp="draft-mtp", draft_settings=True, may_have_draft_model=True),
        _lookup_kind("ngram-simple"),
        _lookup_kind("ngram-map-k", keeps_state=True),
        _lookup_kind("ngram-map-k4v", keeps_state=True),
        SpeculationKind(
            name="ngram-mod",
            llama_cpp="ngram-mod",
            keeps_state=True,
            parameters={"ngram_mod.n_match": 24, "ngram_mod.n_min": 48, "ngram_mod.n_max": 64},
            draft_lengths=("ngram_mod.n_max",),
        ),
        SpeculationKind(
            name="ngram-cache",
            llama_cpp="ngram-cache",
            keeps_state=True,
            optional_parameters=("ngram_cache.static", "ngram_cache.dynamic"),
            fixed_length=8,
        ),
    )
}
_BY_LLAMA_CPP = {kind.llama_cpp: kind for kind in KINDS.values()}


def kind_of(name: str) -> SpeculationKind:
    """The kind of this name, ours or llama.cpp's; one that isn't in the table is told by its name.

    A `draft-…` takes the settings of drafting and a draft model where one is named. Any other may learn across
    requests, and calls the length of its drafts as the others do.
    """
    known = KINDS.get(name) or _BY_LLAMA_CPP.get(name)
    if known is not None:
        return known
    drafts, prefix = name.startswith("draft-"), name.replace("-", "_")
    return SpeculationKind(
        name=name,
        llama_cpp=name,
        draft_settings=drafts,
        may_have_draft_model=drafts,
        keeps_state=not drafts,
        draft_lengths=() if drafts else (f"{prefix}.n_max", f"{prefix}.size_m"),
    )


def kind_names(key: str, value: Any) -> tuple[str, ...]:
    """The kinds of a list of names, each once, under our names. Raises ConfigError for what can be no name."""
    if not isinstance(value, list):
        raise ConfigError(f"{key} is {value!r}", remedy=f"write a list: {key}=[draft]")
    for name in value:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", str(name)) or name == "none":
            known = ", ".join(KINDS)
            raise ConfigError(
                f"{key} has {name!r}", remedy=f"choose from {known}, or what --spec-type knows; [] is none"
            )
    return tuple(dict.fromkeys(kind_of(str(name)).name for name in value))
