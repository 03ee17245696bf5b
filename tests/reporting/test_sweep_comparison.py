"""What is said of two sweeps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.reporting.sweep_comparison import SweepComparison, render_comparison
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.sweep_changes import compare_sweeps


def noisy(row: Comparison, noise: float, *, faster: float = 1.0) -> Comparison:
    """The job with both modes' runs within ± `noise`, speculative ones `faster` times as fast."""

    def spread(factor: float, shift: int) -> tuple[float, ...]:
        return tuple(factor * (1 + noise * ((shift * place * 7 + 3 * shift) % 5 - 2) / 2) for place in range(6))

    assert row.vanilla is not None
    assert row.speculative is not None
    vanilla = replace(row.vanilla.tokens_per_second, samples=spread(40.0, 1))
    speculative = replace(row.speculative.tokens_per_second, samples=spread(60.0 * faster, 2))
    return replace(
        row,
        n_pairs=6,
        ci_low=1.5 * faster * (1 - noise),
        ci_high=1.5 * faster * (1 + noise),
        standard_error=noise / 2,
        vanilla=replace(row.vanilla, tokens_per_second=vanilla),
        speculative=replace(row.speculative, tokens_per_second=speculative),
    )


def compared(old: Sequence[Comparison], new: Sequence[Comparison]) -> SweepComparison:
    return SweepComparison(old="a", new="b", changes=compare_sweeps(old, new))


@pytest.fixture
def jobs() -> list[Comparison]:
    return sweeps.default_sweep().jobs[:2]


def test_intervals_too_wide_to_tell_are_not_called_reproduced(jobs: list[Comparison]) -> None:
    vague, sure = noisy(jobs[0], 0.3), noisy(jobs[1], 0.004)

    said = compared([vague, sure], [vague, sure]).reproduced

    assert said.startswith(
        "Speedups reproduced within their intervals: 1 of 2 settings; can't tell for n_draft 4: a change under"
    )
    assert said.endswith(" % would not have been seen")


def test_no_change_found_comes_with_what_would_not_have_been_seen(jobs: list[Comparison]) -> None:
    vague, sure = noisy(jobs[0], 0.3), noisy(jobs[1], 0.004)

    headline = compared([vague, sure], [vague, sure]).headline

    assert headline.startswith("No change found in 2 settings; a change under about ")
    assert int(headline.split("about ")[1].split(" %")[0]) > 10
    assert compared([sure], [sure]).headline.endswith("a change under about 1 % would not have been seen")


def test_what_would_not_have_been_seen_is_said_once(jobs: list[Comparison]) -> None:
    alone = {"speculation": "none", "n_draft": 0, "draft_model": None, "speculative": None}
    vague = replace(noisy(jobs[0], 0.3), **alone, speedup=None, speedup_gm=None, standard_error=None)
    vague = replace(vague, ci_low=None, ci_high=None)

    found = compared([vague], [vague])

    assert "would not have been seen" in found.headline
    assert found.reproduced.endswith("; can't tell for no speculation")


@pytest.mark.parametrize(("faster", "said"), [(1.0, ": 1 of 1 setting"), (1.1, ": 0 of 1 setting; not n_draft 4")])
def test_narrow_intervals_tell(jobs: list[Comparison], faster: float, said: str) -> None:
    old, new = noisy(jobs[0], 0.004), noisy(jobs[0], 0.004, faster=faster)

    assert compared([old], [new]).reproduced.endswith(said)


def test_a_page_names_no_hosts(jobs: list[Comparison]) -> None:
    unlike = replace(compared(jobs, jobs), differences=("host was bench-1, is bench-2", "build was 1, is 2"))

    assert "bench" not in render_comparison(unlike)
    assert "host is another" in render_comparison(unlike)
    assert "build was 1, is 2" in render_comparison(unlike)
