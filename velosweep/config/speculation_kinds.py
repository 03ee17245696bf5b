"""The kinds of speculation: what each is called, what it needs and keeps, and what it can be set to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeculationKind:
    """One way to propose tokens.

    `name` is velosweep's, `llama_cpp` that of llama.cpp's `--spec-type`. `draft_settings`: whether the settings of
    drafting (n_draft, p_min, devices, …) apply to it. `keeps_state`: it learns across requests, so that each iteration
    needs a fresh server. `parameters`: its own settings with llama.cpp's defaults of October 2026, which are always
    given, so that a default that changes in another build changes no result; `optional_parameters` have none.
    `draft_length`: the parameter that bounds its drafts; n_draft sets it.
    """

    name: str
    llama_cpp: str
    draft_settings: bool = False
    needs_draft_model: bool = False
    keeps_state: bool = False
    parameters: Mapping[str, int] = field(default_factory=dict)
    optional_parameters: tuple[str, ...] = ()
    draft_length: str | None = None


def _lookup_kind(name: str) -> SpeculationKind:
    prefix = name.replace("-", "_")
    return SpeculationKind(
        name=name,
        llama_cpp=name,
        parameters={f"{prefix}.size_n": 12, f"{prefix}.size_m": 48, f"{prefix}.min_hits": 1},
        draft_length=f"{prefix}.size_m",
    )


KINDS: Mapping[str, SpeculationKind] = {
    kind.name: kind
    for kind in (
        SpeculationKind(name="draft", llama_cpp="draft-simple", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-eagle3", llama_cpp="draft-eagle3", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-dflash", llama_cpp="draft-dflash", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-dspark", llama_cpp="draft-dspark", draft_settings=True, needs_draft_model=True),
        SpeculationKind(name="draft-mtp", llama_cpp="draft-mtp", draft_settings=True),
        _lookup_kind("ngram-simple"),
        _lookup_kind("ngram-map-k"),
        _lookup_kind("ngram-map-k4v"),
        SpeculationKind(
            name="ngram-mod",
            llama_cpp="ngram-mod",
            keeps_state=True,
            parameters={"ngram_mod.n_match": 24, "ngram_mod.n_min": 48, "ngram_mod.n_max": 64},
            draft_length="ngram_mod.n_max",
        ),
        SpeculationKind(
            name="ngram-cache",
            llama_cpp="ngram-cache",
            keeps_state=True,
            optional_parameters=("ngram_cache.static", "ngram_cache.dynamic"),
        ),
    )
}
