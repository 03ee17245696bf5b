"""How drafts fare: the acceptance rate with its interval, per-token acceptance alpha, and tokens a round.

A *round* drafts up to gamma = n_draft tokens and verifies them in one batch; it yields the accepted ones and one more
of the target's own. A round that drafts nothing is one, too, and yields one token. `tokens_per_round` tau =
1 + accepted / rounds. `alpha` is the chance that a drafted token is accepted given that all before it were;
accepted/drafted is *not* alpha (alpha .8 at gamma 8 gives .416).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import NormalDist

from velosweep.statistics.comparison import Acceptance
from velosweep.statistics.intervals import t_quantile

UNIT_PROMPTS = "95 % over prompts"
UNIT_RUN = "95 % this run"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Totals of one prompt, per pass (repeats of a deterministic prompt are no new trials): may be fractions.

    `drafting_rounds`: of `rounds`, those with a draft to verify. `per_position[i]`: how often draft position i was
    accepted; None where the build doesn't say.
    """

    drafted: float
    accepted: float
    rounds: float
    drafting_rounds: float
    per_position: tuple[float, ...] | None = None


def estimate(prompts: Sequence[Counts], n_draft: int) -> Acceptance | None:
    """Acceptance over prompts, each counted once; None where nothing was drafted or counts contradict each other.

    Interval: over prompts by cluster variance; for one prompt Wilson, labelled "this run".
    """
    rounds = math.fsum(counts.rounds for counts in prompts)  # also of prompts for which nothing was drafted
    prompts = [counts for counts in prompts if counts.drafted > 0]
    drafted = math.fsum(counts.drafted for counts in prompts)
    accepted = math.fsum(counts.accepted for counts in prompts)
    if not 0 <= accepted <= drafted or drafted == 0:
        return None
    positions = _sum_positions(prompts, n_draft) if rounds > 0 else None
    drafting = math.fsum(counts.drafting_rounds for counts in prompts)
    alpha: float | None = None
    if drafting > 0 and not _cut_short(prompts, n_draft):
        totals = alpha_from_totals(accepted / drafting, n_draft)
        alpha = alpha_from_positions(positions, drafting) if positions else totals
    low, high = cluster_interval(prompts) if len(prompts) > 1 else wilson(accepted, drafted)
    return Acceptance(
        rate=accepted / drafted,
        low=low,
        high=high,
        interval_unit=UNIT_RUN if len(prompts) == 1 else UNIT_PROMPTS,
        alpha=alpha,
        tokens_per_round=1 + accepted / rounds if rounds > 0 else None,
        per_position=tuple(count / rounds for count in positions) if positions else None,
    )


def _cut_short(prompts: Sequence[Counts], n_draft: int) -> bool:
    """Whether drafts were shorter than n_draft for another reason than that a run was about to end.

    Of such drafts (p_min, n_min, n-grams) counts don't tell which were rejected and which ended, and so tell no alpha.
    A run's last rounds draft n_draft - 1, n_draft - 2 … tokens at worst, one round each.
    """
    return any(
        counts.drafted + n_draft * (n_draft + 1) / 2 < n_draft * counts.drafting_rounds - 1e-9 for counts in prompts
    )


def _sum_positions(prompts: Sequence[Counts], n_draft: int) -> list[float] | None:
    """Accepted counts by draft position over all prompts; None unless each has them."""
    if not all(counts.per_position for counts in prompts):
        return None
    columns = zip_longest(*(counts.per_position or () for counts in prompts), fillvalue=0.0)
    positions = [math.fsum(column) for column in columns]
    while len(positions) > max(n_draft, 1) and positions[-1] == 0:
        positions.pop()  # a counter's room for longer drafts than these
    return positions


def alpha_from_positions(per_position: Sequence[float], rounds: float) -> float:
    """accepted / (accepted + rejections): each round ends in one rejection unless it accepted its last position."""
    accepted = sum(per_position)
    return accepted / (accepted + rounds - per_position[-1])


def alpha_from_totals(accepted_per_round: float, n_draft: int) -> float | None:
    """Solve sum_{i<=n_draft} alpha^i = accepted_per_round for alpha in [0, 1] (the sum rises with alpha).

    None for no draft length; 1 where rounds accept n_draft or (by rounding) more.
    """
    if n_draft < 1:
        return None
    if accepted_per_round >= n_draft:
        return 1.0
    # The sum is convex and rising: Newton's steps from 1 come down to the root and never pass it.
    alpha = 1.0
    while True:
        total, slope = 0.0, 0.0
        for _ in range(n_draft):
            slope = 1 + total + alpha * slope
            total = alpha * (1 + total)
        following = alpha - (total - accepted_per_round) / slope
        if not following < alpha or alpha - following < 1e-15:
            return max(0.0, alpha)
        alpha = following


def expected_tokens(alpha: float, drafted: float) -> float:
    """Tokens a round: the sum of alpha^i for i up to `drafted`, for any number (Leviathan et al. 2023)."""
    return drafted + 1 if alpha >= 1 else (1 - alpha ** (drafted + 1)) / (1 - alpha)


def wilson(k: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval for k of n (0 <= k <= n, n > 0), without continuity correction."""
    z = NormalDist().inv_cdf(0.975)
    p = k / n
    center = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if k == 0 else (center - half) / scale
    high = 1.0 if k == n else (center + half) / scale
    return low, high


def cluster_interval(prompts: Sequence[Counts]) -> tuple[float | None, float | None]:
    """95 % interval of the rate over at least two prompts: t on the logit, cluster variance.

    None where all or none is accepted (the logit is infinite).
    """
    clusters, total = len(prompts), math.fsum(counts.drafted for counts in prompts)
    p = math.fsum(counts.accepted for counts in prompts) / total
    if not 0 < p < 1:
        return None, None
    squares = math.fsum((counts.accepted - p * counts.drafted) ** 2 for counts in prompts)
    variance = clusters / (clusters - 1) * squares / total**2
    half = t_quantile(0.95, clusters - 1) * math.sqrt(variance) / (p * (1 - p))
    logit = math.log(p / (1 - p))
    return _logistic(logit - half), _logistic(logit + half)


def _logistic(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2  # exp would overflow
