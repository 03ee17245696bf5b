"""Why a speedup is modest, from what a job's samples show, and what may help."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from velosweep.reporting.wording import names_of, percent
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate, best_n_draft
from velosweep.statistics.rounds_cost import expected_speedup, leviathan_speedup
from velosweep.units import plural
from velosweep.values import Verdict

_DISTURBED = frozenset({"machine_busy", "throttled", "other_gpu_processes"})

WORTH_TRYING = 1.02  # a setting that would gain less than this over the best measured is not worth a sweep


def reasons_for_modest_speedup(
    job: Comparison, measured: Iterable[Comparison] = (), *, reported: Collection[str] = ()
) -> list[str]:
    """What this job's samples say about why it isn't faster, each with its remedy; the likeliest first.

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
    longer_measured = any(row.n_draft > job.n_draft for row in series)
    longer = [] if longer_measured else [f"Increasing n_draft (current: {job.n_draft})"]
    return [*longer, "Trying different model pairs"]


def _reasons(job: Comparison, series: Sequence[Comparison]) -> Iterator[str]:
    """Reasons by the job's acceptance, the draft's cost and the formula for both. `series`: other n_draft."""
    measured, cost, seen = best_estimate(job) or 0.0, job.cost_ratio, job.acceptance
    if seen is not None and seen.rate < 0.6:
        made = seen.tokens_per_round
        rounds = f", {made:.1f} tokens a round of up to {job.n_draft + 1}" if made else ""
        shorter_helps = job.n_draft > 2 and seen.rate >= 0.2 and not any(row.n_draft < job.n_draft for row in series)
        remedy = "A smaller n_draft" if shorter_helps else "A draft of the same model family"
        yield f"{remedy}: only {percent(seen.rate)} of the drafted tokens were accepted{rounds}"
    if cost is not None and cost >= 0.15:
        ceiling = expected_speedup(job.n_draft + 1, job.n_draft, cost)
        if ceiling > measured:  # else the measurement itself refutes this cost
            yield (
                f"A smaller draft model: a draft step costs {cost:.2f} of a main-model step, so that even with every "
                f"draft accepted n_draft {job.n_draft} could not exceed {ceiling:.2f}×"
            )
    alpha = seen.alpha if seen else None
    if alpha is not None and cost is not None and 0 <= alpha <= 1 and cost >= 0:
        yield from _length_reasons(job, series, alpha, cost)
    if job.expected_speedup is not None and measured and job.expected_speedup > 1.15 * measured:
        yield (
            f"Cheaper verification: acceptance and draft cost promise {job.expected_speedup:.2f}×, measured "
            f"{measured:.2f}×; the rest is checking {plural(job.n_draft + 1, 'token')} at once and overhead"
        )


def _length_reasons(job: Comparison, series: Sequence[Comparison], alpha: float, cost_ratio: float) -> Iterator[str]:
    """The formula's n_draft, if it was not measured and promises more than any that was."""
    best, promised = best_n_draft(alpha, cost_ratio)
    reached = max(best_estimate(row) or 0.0 for row in (job, *series))
    if best == 0:
        if reached <= 1:
            yield "Another pair: with this acceptance and draft cost no n_draft pays"
        return
    # Of what the formula promises for this job only a part was measured: expect the same part elsewhere.
    here = leviathan_speedup(alpha, job.n_draft, cost_ratio)
    likely = promised * min((best_estimate(job) or here) / here, 1.0)
    if likely > WORTH_TRYING * reached and all(row.n_draft != best for row in (job, *series)):
        way = "Increasing" if best > job.n_draft else "Decreasing"
        yield f"{way} n_draft to about {best} (current: {job.n_draft}); the formula gives {promised:.2f}× there"
