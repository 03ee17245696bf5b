"""How drafts fare, what a round costs, and the speed-up that follows from the two.

Words: a *round* drafts up to gamma = n_draft tokens and verifies them in one batch; it yields the accepted ones and
one more of the target's own. `tokens_per_round` tau = 1 + accepted / rounds. `alpha` is the chance that a drafted
token is accepted given that all before it were; accepted/drafted is *not* alpha (alpha .8 at gamma 8 gives .416).

What is identifiable. A run tells T(gamma) = predicted_ms / rounds, a whole round. With t = vanilla's ms per token,
T(gamma)/t = gamma*c + v(gamma+1) + fixed, where c is a draft step's cost over a target step, v(k) the cost of a batch
of k over a single step. Draft length and batch size move together (k = gamma + 1), so one arm gives one number for
two unknowns, and several arms give only the slope d(T/t)/d(gamma) = c + v'. Two ways out, the first where it is there:
- `draft_ms_per_token`: the draft model was itself measured as a main model on the same machine, so c is known and
  v(k) = T/t - gamma*c is what remains;
- several n_draft of one pair: c is taken as the Theil-Sen slope of T/t over gamma, but no more than leaves each v(k)
  at 1. It then holds a verified token's share of the wider batch too (an upper limit of the draft's own cost), and
  v(k) - 1 is the fixed cost of a round plus whatever isn't linear, such as a kernel boundary.
With one arm and no measured draft, c and v are None, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from velosweep.errors import VelosweepError
from velosweep.statistics.comparison import Acceptance
from velosweep.statistics.intervals import t_quantile

OVER_PROMPTS = "95 % over prompts"
THIS_RUN = "95 % this run"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Totals of one prompt, per pass (repeats of a deterministic prompt are no new trials): may be fractions.

    `per_position[i]`: how often draft position i was accepted; None where the build doesn't say.
    """

    drafted: float
    accepted: float
    rounds: float
    per_position: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """`cost_ratio` c, and `batch_cost[k]` v(k): the cost of verifying k tokens over one target step.

    `source`: `draft measured` or `slope over n_draft` (then c is an upper limit, see the module).
    """

    cost_ratio: float
    batch_cost: Mapping[int, float]
    source: str


def wilson(k: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for k of n, without continuity correction. Raises VelosweepError unless 0 <= k <= n, n > 0."""
    if not (n > 0 and 0 <= k <= n):
        raise VelosweepError(f"{k} accepted of {n} drafted can't be", remedy="the counts of this run are not usable")
    z = NormalDist().inv_cdf(0.5 + 0.5 * confidence)
    p = k / n
    center = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if k == 0 else (center - half) / scale
    high = 1.0 if k == n else (center + half) / scale
    return low, high


def hazards(per_position: Sequence[float], rounds: float) -> tuple[float, ...]:
    """h_i = A_i / A_{i-1}: acceptance at position i of the rounds that came so far. Ends where none came."""
    result = []
    reached = rounds
    for accepted in per_position:
        if reached <= 0:
            break
        result.append(accepted / reached)
        reached = accepted
    return tuple(result)


def alpha_from_positions(per_position: Sequence[float], rounds: float) -> float | None:
    """accepted / (accepted + rejections): each round ends in one rejection unless it accepted its last position."""
    accepted = sum(per_position)
    trials = accepted + rounds - per_position[-1] if per_position else 0
    return accepted / trials if trials > 0 else None


def alpha_from_totals(accepted_per_round: float, n_draft: int) -> float | None:
    """Solve sum_{i<=n_draft} alpha^i = accepted_per_round for alpha in [0, 1] (the sum rises with alpha).

    None for a negative rate or no draft length; 1 where rounds accept n_draft or (by rounding) more.
    """
    if n_draft < 1 or not accepted_per_round >= 0:
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


def geometric_sum(alpha: float, n_draft: int) -> float:
    """alpha + alpha^2 + ... + alpha^n_draft: accepted tokens a round when every position has the same chance."""
    total = 0.0
    for _ in range(n_draft):
        total = alpha * (1 + total)
    return total


def expected_speedup(
    tokens_per_round: float, n_draft: float, cost_ratio: float, batch_cost: float = 1.0
) -> float | None:
    """S = tau / (gamma*c + v(gamma+1)); v = 1 is Leviathan et al., verification for free."""
    cost = n_draft * cost_ratio + batch_cost
    return tokens_per_round / cost if cost > 0 else None


def leviathan_speedup(alpha: float, n_draft: int, cost_ratio: float) -> float | None:
    """(1 - alpha^{gamma+1}) / ((1 - alpha)(gamma*c + 1)), also at its limit alpha = 1."""
    return expected_speedup(1 + geometric_sum(alpha, n_draft), n_draft, cost_ratio)


def cluster_interval(
    successes: Sequence[float], trials: Sequence[float], *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Interval of sum(successes) / sum(trials) over clusters: t on the logit with the ratio's cluster variance.

    None for fewer than two clusters, and where all or none succeed (the logit is infinite).
    """
    clusters = len(trials)
    total = math.fsum(trials)
    if clusters < 2 or total <= 0:
        return None
    p = math.fsum(successes) / total
    if not 0 < p < 1:
        return None
    squares = math.fsum((k - p * n) ** 2 for k, n in zip(successes, trials, strict=True))
    variance = clusters / (clusters - 1) * squares / total**2
    half = t_quantile(confidence, clusters - 1) * math.sqrt(variance) / (p * (1 - p))
    logit = math.log(p / (1 - p))
    return _logistic(logit - half), _logistic(logit + half)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def estimate(prompts: Sequence[Counts], n_draft: int) -> Acceptance | None:
    """Acceptance over prompts, each counted once; None where nothing was drafted.

    Interval: over prompts by cluster variance; for one prompt Wilson, labelled "this run".
    """
    prompts = [counts for counts in prompts if counts.drafted > 0]
    drafted = math.fsum(counts.drafted for counts in prompts)
    accepted = math.fsum(counts.accepted for counts in prompts)
    if drafted <= 0 or accepted > drafted:
        return None
    rounds = math.fsum(counts.rounds for counts in prompts)
    positions = _sum_positions(prompts)
    while positions is not None and len(positions) > max(n_draft, 1) and positions[-1] == 0:
        positions.pop()  # a counter's room for longer drafts than these: no position of theirs
    if positions is not None and rounds > 0:
        alpha = alpha_from_positions(positions, rounds)
    else:
        alpha = alpha_from_totals(accepted / rounds, n_draft) if rounds > 0 else None
    low, high, unit = _rate_interval(prompts, accepted, drafted)
    tau = 1 + accepted / rounds if rounds > 0 else None
    tau_low, tau_high = _tokens_per_round_interval(prompts)
    return Acceptance(
        rate=accepted / drafted,
        low=low,
        high=high,
        interval_unit=unit,
        alpha=alpha,
        tokens_per_round=tau,
        per_position=None if positions is None or rounds <= 0 else tuple(a / rounds for a in positions),
        tokens_per_round_low=tau_low,
        tokens_per_round_high=tau_high,
    )


def _rate_interval(
    prompts: Sequence[Counts], accepted: float, drafted: float
) -> tuple[float | None, float | None, str]:
    if len(prompts) == 1:
        return *wilson(accepted, drafted), THIS_RUN
    interval = cluster_interval([p.accepted for p in prompts], [p.drafted for p in prompts])
    return (*interval, OVER_PROMPTS) if interval else (None, None, OVER_PROMPTS)


def _tokens_per_round_interval(prompts: Sequence[Counts]) -> tuple[float | None, float | None]:
    """t over prompts on tau with the ratio's cluster variance; None for one prompt."""
    rounds = math.fsum(p.rounds for p in prompts)
    clusters = len(prompts)
    if clusters < 2 or rounds <= 0:
        return None, None
    mean = math.fsum(p.accepted for p in prompts) / rounds
    squares = math.fsum((p.accepted - mean * p.rounds) ** 2 for p in prompts)
    half = t_quantile(0.95, clusters - 1) * math.sqrt(clusters / (clusters - 1) * squares) / rounds
    return 1 + max(0.0, mean - half), 1 + mean + half


def _sum_positions(prompts: Sequence[Counts]) -> list[float] | None:
    if not prompts or any(not counts.per_position for counts in prompts):
        return None
    length = max(len(counts.per_position or ()) for counts in prompts)
    padded = [(*(counts.per_position or ()), *[0.0] * (length - len(counts.per_position or ()))) for counts in prompts]
    return [math.fsum(column) for column in zip(*padded, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundCost:
    """One arm's mean round: `drafted` tokens (n_draft, or fewer where drafts are cut short) verified in `ms`."""

    n_draft: int
    drafted: float
    ms: float


def cost_model(
    rounds: Sequence[RoundCost], vanilla_ms_per_token: float, *, draft_ms_per_token: float | None = None
) -> CostModel | None:
    """Cost ratio and batch costs of one pair on one machine from its arms' mean rounds.

    See the module for what is identifiable. None with one n_draft and no measured draft, or an impossible time.
    """
    points = sorted(
        (r.drafted, r.ms / vanilla_ms_per_token, r.n_draft)
        for r in rounds
        if vanilla_ms_per_token > 0 and r.drafted > 0 and r.ms > 0
    )
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for i, b in enumerate(points) for a in points[:i] if b[0] > a[0]]
    if points and draft_ms_per_token is not None and draft_ms_per_token > 0:
        c, source = draft_ms_per_token / vanilla_ms_per_token, "draft measured"
    elif slopes:
        # Checking several tokens takes at least as long as checking one, so what is left of a round beside that bounds
        # what drafting takes: of two arms alone the slope books all that the larger batch costs to the draft.
        bound = min((relative - 1) / drafted for drafted, relative, _ in points)
        c, source = max(0.0, min(median(slopes), bound)), "slope over n_draft"
    else:
        return None
    batch_cost = {n_draft + 1: relative - drafted * c for drafted, relative, n_draft in points}
    return CostModel(cost_ratio=c, batch_cost=batch_cost, source=source)
