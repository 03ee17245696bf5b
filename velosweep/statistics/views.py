"""What series of runs say, many comparisons at once: figures, ratio, findings and acceptance of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from velosweep.statistics import acceptance, evidence
from velosweep.statistics.comparison import Acceptance, Finding, ModeStatistics
from velosweep.statistics.measures import ArmSeries, Measures
from velosweep.statistics.ratio import Ratio, over_passes, unpaired

Cubes = tuple[Any, Any]
"""Rows of vanilla and of speculative runs, passes x comparisons (of suites: x prompts), all there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """How a job was measured. `paired`: there are pairs; `not_paired`: see evidence.why_not_paired; `target`: the
    half-width that an adaptive job was to reach."""

    paired: bool
    not_paired: str
    target: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one comparison says, but for the job's parameters."""

    vanilla: ModeStatistics | None
    speculative: ModeStatistics | None
    ratio: Ratio
    findings: tuple[Finding, ...]
    acceptance: Acceptance | None
    pairs: int
    finished_at: datetime | None
    energy_vanilla: float | None
    energy_speculative: float | None


def views_of_prompts(
    measures: Measures, cubes: Cubes, n_drafts: Sequence[int], design: Design
) -> tuple[list[View], list[acceptance.Counts | None]]:
    """A view of each column of `cubes` with its draft counts. `n_drafts`: each column's."""
    import numpy as np

    counts = measures.counts(cubes[1])
    estimates = [
        None if c is None else acceptance.estimate([c], n_draft) for c, n_draft in zip(counts, n_drafts, strict=True)
    ]
    arms = measures.series(cubes[0]), measures.series(cubes[1])
    d = np.log(arms[1].tokens_per_second / arms[0].tokens_per_second) if design.paired else None
    tokens = [measures.columns.number(name)[cubes[1]] for name in ("draft_tokens", "accepted_tokens")]
    jumps = evidence.jump_findings(*tokens)
    return list(_views(measures, arms, d, cubes, estimates, jumps, design)), counts


def views_of_suites(
    measures: Measures, cubes: Cubes, estimates: Sequence[Acceptance | None], design: Design
) -> list[View]:
    """A view of each whole prompt set: a pass over it is one sample. `cubes`: passes x comparisons x prompts."""
    arms = measures.suite(cubes[0]), measures.suite(cubes[1])
    d = measures.pass_log_ratios(*cubes) if design.paired else None
    tokens = [measures.columns.number(name)[cubes[1]].sum(axis=2) for name in ("draft_tokens", "accepted_tokens")]
    # rows of all its prompts count as a suite's runs
    runs = tuple(cube.swapaxes(1, 2).reshape(-1, cube.shape[1]) for cube in cubes)
    jumps = evidence.jump_findings(*tokens)
    return list(_views(measures, arms, d, (runs[0], runs[1]), estimates, jumps, design))


def with_findings(view: View, *, before: Sequence[Finding] = (), after: Sequence[Finding] = ()) -> View:
    """The view with findings of its job."""
    return replace(view, findings=(*before, *view.findings, *after)) if before or after else view


def _views(
    measures: Measures,
    arms: tuple[ArmSeries, ArmSeries],
    d: Any,
    cubes: Cubes,
    estimates: Sequence[Acceptance | None],
    jumps: Sequence[list[Finding]],
    design: Design,
) -> Iterator[View]:
    """Views of comparisons whose series are `arms` (columns alike); `cubes` are the rows behind each."""
    if d is None:
        ratios = [unpaired(*arms, p) for p in range(len(estimates))]
    else:
        ratios = over_passes(*arms, d, adaptive=design.target is not None)
    series = evidence.series_and_pair_findings(*arms, ratios, design.target, design.not_paired)
    outputs = evidence.output_findings(measures, cubes[1], None if d is None else cubes[0])
    vanilla, speculative = arms[0].statistics(), arms[1].statistics()
    finished = measures.finished(cubes)
    energy = measures.energy_j_per_token(cubes[0]), measures.energy_j_per_token(cubes[1])
    for p, estimate in enumerate(estimates):
        yield View(
            vanilla=vanilla[p],
            speculative=speculative[p],
            ratio=ratios[p],
            findings=(*series[p], *outputs[p], *jumps[p]),
            acceptance=estimate,
            pairs=0 if d is None else len(d),
            finished_at=finished[p],
            energy_vanilla=energy[0][p],
            energy_speculative=energy[1][p],
        )
