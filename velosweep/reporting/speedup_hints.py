"""Why a job is not faster, from what its samples show, and what would change that for its kind of speculation.

A job's speedup is tau / (gamma*c + v + s) of its own measured figures (see speculation_cost), so what it would be with
a faster draft, cheaper verification or better drafts follows from the same figures: no sentence can contradict them.
"""

from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from velosweep.config.speculation_kinds import KINDS, kind_of
from velosweep.records import SweepRecord
from velosweep.reporting.recommendation import Recommendation
from velosweep.reporting.wording import names_of, percent, target_of
from velosweep.statistics.acceptance import expected_tokens
from velosweep.statistics.comparison import Acceptance, Comparison, DecodingTime
from velosweep.statistics.findings import is_quantised
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict

_DISTURBED = frozenset({"machine_busy", "throttled", "other_gpu_processes"})

WORTH_TRYING = 1.05  # what would gain less than this is not worth a sentence
_FEW_ACCEPTED = 0.6


def hint_heading(job: Comparison) -> str:
    """What is said above the reasons of a job that did not reach its target."""
    return {
        Verdict.SLOWER: "🐢 Slower than without speculation. What would change that:",
        Verdict.FASTER: "⚠️ Modest speedup. Consider:",
        Verdict.INVALID: "⚠️ No usable speedup. Consider:",
    }.get(job.verdict, "⚠️ No sure speedup. Consider:")


def target_reasons(answer: Recommendation, jobs: Iterable[Comparison], record: SweepRecord) -> list[str]:
    """Why an answer's job did not reach its target, or what would help; empty where it did."""
    job, value = answer.job, best_estimate(answer.job) if answer.job else None
    if job is None or value is None or value > target_of(record, job.job_id):
        return []
    return reasons_for_modest_speedup(job, jobs, reported={advice.code for advice in answer.against})


def reasons_for_modest_speedup(
    job: Comparison, measured: Iterable[Comparison] = (), *, reported: Collection[str] = ()
) -> list[str]:
    """What this job's samples say about why it isn't faster, each with its remedy; what would gain most comes first.

    `measured`: the sweep's jobs. Nothing is advised that those of the job's own series refute. `reported`: codes of
    the findings that are shown together with the reasons; no reasons at all where these say everything.
    Without evidence: the specification's list.
    """
    others = [row for row in measured if row.prompt_id is None and row.job_id != job.job_id]
    names = names_of([job, *others]).series
    series = [
        row
        for row in others
        if row.verdict is not Verdict.INVALID and best_estimate(row) and names[row.job_id] == names[job.job_id]
    ]
    reasons = list(_reasons(job, series))
    disturbed = _DISTURBED & {finding.code for finding in job.findings}
    if disturbed - set(reported):
        reasons.append("A quieter machine: others used it while this was measured")
    if reasons or disturbed:
        return reasons
    hints = kind_hints(job.speculation)
    unknown = hints.takes_length and job.decoding is None and all(row.n_draft < job.n_draft for row in series)
    return [*([f"Increasing n_draft (current: {job.n_draft})"] if unknown else []), hints.instead]


def _reasons(job: Comparison, series: Sequence[Comparison]) -> Iterator[str]:
    found, cost, seen, hints = job.decoding, job.cost_ratio, job.acceptance, kind_hints(job.speculation)
    if found is None or cost is None:
        if seen is not None and seen.rate < _FEW_ACCEPTED:
            shorter_helps = (
                hints.takes_length
                and job.n_draft > 2
                and seen.rate >= 0.2
                and not any(row.n_draft < job.n_draft for row in series)
            )
            remedy = "A smaller n_draft" if shorter_helps else hints.better
            yield f"{remedy}: {_accepted(job, seen, seen.tokens_per_round)}"
        return
    ceiling = found.batch / ((found.batch - 1) * cost + found.round_cost)
    reached = _speed(found, cost)
    if (best_estimate(job) or 0.0) <= ceiling <= 1:  # where a noisy run was above it, it is no limit
        yield (
            f"Another pair or setting: even with every drafted token accepted n_draft {job.n_draft} could not exceed "
            f"{ceiling:.2f}× at what drafting and checking cost here"
        )
    sentences = _cheaper_checks(job, found, cost, series)
    if hints.faster is not None:
        sentences = {**_faster_draft(hints.faster, found, cost), **sentences}
    if seen is not None and seen.rate < _FEW_ACCEPTED:
        words = _accepted(job, seen, found.tokens_per_round)
        sentences[f"{hints.better}: {words}; with all accepted it would be {ceiling:.2f}×"] = ceiling
    if hints.takes_length:
        sentences |= _other_n_draft(job, seen.alpha if seen else None, found, series)
    least = max(WORTH_TRYING * reached, 1.0)  # what would still be a loss is no advice
    gaining = [words for words, speed in sentences.items() if speed > least]
    both = _speed(found, cost, draft=0.5, batch_cost=min(found.batch_cost, 1.0))
    if hints.faster is not None and not gaining and both > least:
        yield (
            f"Both a faster draft and cheaper checks: a drafted token costs {cost:.2f} main-model steps and checking "
            f"{plural(round(found.batch), 'token')} {found.batch_cost:.1f}; with half the former and 1 for the latter "
            f"it would be {both:.2f}×"
        )
    yield from sorted(gaining, key=lambda words: -sentences[words])


def _accepted(job: Comparison, seen: Acceptance, tokens_per_round: float | None) -> str:
    rounds = f", {tokens_per_round:.1f} tokens a check of up to {job.n_draft + 1}" if tokens_per_round else ""
    return f"only {percent(seen.rate)} of the drafted tokens were accepted{rounds}"


def _speed(found: DecodingTime, cost: float, *, draft: float = 1.0, batch_cost: float | None = None) -> float:
    """The speedup by the measured costs, were the draft model's a share `draft` of them, or verification cheaper."""
    drafting = ((found.batch - 1) * cost + (found.sync_cost or 0.0)) * draft
    return found.tokens_per_round / (drafting + (found.batch_cost if batch_cost is None else batch_cost))


def _faster_draft(remedy: str, found: DecodingTime, cost: float) -> dict[str, float]:
    """What half the draft's cost would give, by sentence."""
    speed = _speed(found, cost, draft=0.5)
    share = found.draft_share + found.other_share
    reading = f", and reading the checked tokens as well {found.sync_cost:.1f} a check" if found.sync_cost else ""
    words = (
        f"{remedy}: drafting takes {percent(share)} of the decoding time, "
        f"{cost:.2f} main-model steps for a drafted token{reading}; at half of that it would be {speed:.2f}×"
    )
    return {words: speed}


def _cheaper_checks(
    job: Comparison, found: DecodingTime, cost: float, series: Sequence[Comparison]
) -> dict[str, float]:
    """What it would be if verifying a round took as long as one token, by sentence."""
    if found.batch_cost <= 1 or found.batch < 1.5:  # where hardly anything is drafted, nothing is checked
        return {}
    speed = _speed(found, cost, batch_cost=1.0)
    smaller = [row for row in series if row.decoding and row.decoding.batch < found.batch - 0.5]
    near = max(smaller, key=lambda row: row.decoding.batch if row.decoding else 0.0, default=None)
    remedy = "a GPU, or kernels made for small batches"
    if is_quantised(job.main_model):
        remedy = "another quantisation or back end, whose small batches cost less"
    if near is not None and near.decoding is not None:
        steps, tokens = found.batch_cost / near.decoding.batch_cost, found.batch / near.decoding.batch
        if steps > 1.15 * tokens:  # more than in proportion: other kernels are used from some size on
            remedy = (
                f"n_draft {near.n_draft} checks {near.decoding.batch:.0f} for {near.decoding.batch_cost:.1f}: stay "
                "below the batch size at which it jumps"
            )
    words = (
        f"Cheaper checks ({remedy}): checking {plural(round(found.batch), 'token')} takes {found.batch_cost:.1f} "
        f"main-model steps, {percent(found.verify_share)} of the decoding time; at the cost of one it would be "
        f"{speed:.2f}×"
    )
    return {words: speed}


def _other_n_draft(
    job: Comparison, alpha: float | None, found: DecodingTime, series: Sequence[Comparison]
) -> dict[str, float]:
    """An n_draft that was not measured and is faster by the measured costs than any that was, by sentence."""
    cost = job.cost_ratio
    if alpha is None or cost is None or not 0 <= alpha <= 1:
        return {}
    known = [row for row in (job, *series) if row.decoding is not None]
    costs = {row.decoding.batch: row.decoding.round_cost for row in known if row.decoding is not None}
    reached = max(best_estimate(row) or 0.0 for row in (job, *series))
    scale = found.tokens_per_round / expected_tokens(alpha, found.batch - 1)
    speeds = {
        n_draft: scale * expected_tokens(alpha, n_draft) / (n_draft * cost + _round_cost(costs, n_draft + 1))
        for n_draft in range(1, min(2 * max(row.n_draft for row in known) + 1, job.n_predict))  # within an answer
        if all(row.n_draft != n_draft for row in (job, *series))
    }
    best = max(speeds, key=lambda n_draft: speeds[n_draft], default=None)
    if best is None or speeds[best] <= WORTH_TRYING * reached:
        return {}
    way = "Increasing" if best > job.n_draft else "Decreasing"
    words = (
        f"{way} n_draft to about {best} (current: {job.n_draft}): some {speeds[best]:.2f}× by the costs measured here"
    )
    return {words: speeds[best]}


def _round_cost(costs: Mapping[float, float], batch: float) -> float:
    """The cost of a round but for drafting, by those measured.

    Between them and beyond the largest linear, below the smallest as that; by a single one in proportion to the batch.
    """
    sizes = sorted(costs)
    if len(sizes) == 1:
        return costs[sizes[0]] * max(batch / sizes[0], 1.0)
    place = min(max(bisect(sizes, batch), 1), len(sizes) - 1)
    low, high = sizes[place - 1], sizes[place]
    return costs[low] + (costs[high] - costs[low]) * max(batch - low, 0.0) / (high - low)


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


_OTHERS = "a small draft model of the same family"
_DRAFT = KindHints(
    better="A draft of the same model family, or one made for this model",
    faster="A faster draft (smaller, more quantised, or a head)",
    instead="Trying different model pairs",
)
_HEAD = KindHints(
    better="A head trained for this exact main model and fine-tune",
    faster="A faster head (smaller, or more quantised)",
    instead=f"Another head for this main model, or {_OTHERS}",
)
_MTP = KindHints(
    better="Heads trained with this exact main model and fine-tune, not quantised hard",
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
