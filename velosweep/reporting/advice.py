"""Findings as sentences with their remedies, and why a job shows no speedup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from velosweep.records import SweepRecord
from velosweep.reporting.wording import percent, same_series
from velosweep.statistics.comparison import Comparison, Finding
from velosweep.statistics.ranking import best_estimate, best_n_draft
from velosweep.statistics.rounds_cost import leviathan_speedup
from velosweep.units import plural
from velosweep.values import Verdict

_SEVERITIES = ("error", "warning", "info")

# code -> (what was seen, the same with its figures, what to do). The figures' names are those analysis gives; a finding
# without them (another program's, or a later one's) gets the plain words and whatever evidence it has.
_SENTENCES: Mapping[str, tuple[str, str, str]] = {
    "outlier": (
        "Some runs lie far from the others",
        "{runs} of {of} runs lie far from the others; run {worst_run}: {value:.4g} tok/s, median {median:.4g}",
        "They are kept and widen the interval: look for another program on the machine, or take more iterations.",
    ),
    "outlier:pairs": (
        "Some pairs lie far from the others",
        "{runs} of {of} pairs lie far from the others (worst: pair {worst_run})",
        "They are kept and widen the interval: look for another program on the machine, or take more iterations.",
    ),
    "drift": (
        "Speed drifted while measuring",
        "Speed drifted by {drift:+.1%} over {runs} runs (p = {p:.2g})",
        "Ratios of interleaved pairs are protected; for steady absolute figures let the machine warm up, fix the "
        "clocks or set protocol.cooldown=true.",
    ),
    "untrusted": (
        "Rounds were measured although the machine stayed slower than at first",
        "In {rounds:#round} (iteration {iterations}) it was measured although the machine stayed slower than at first: "
        "vanilla made {speed:.4g} tok/s before iteration {worst_iteration} after two rests, {first_speed:.4g} in the "
        "first round ({fall:.1%} slower)",
        "They are kept, and ratios of interleaved pairs are protected: allow longer rests (protocol.cooldown_max_s), "
        "improve cooling or fix the clocks, and measure again.",
    ),
    "autocorrelation": (
        "Successive pairs resemble each other, so the interval may be too narrow",
        "Successive pairs resemble each other (r = {r1:.2f}), so the interval may be too narrow",
        "Something disturbs in a rhythm: try protocol.order=random or protocol.launches=3.",
    ),
    "cold_start": (
        "The first run is far slower than the rest",
        "The first run is {relative:.0%} slower than the rest",
        "It is kept; a longer warm-up helps: protocol.warmup_tokens=64.",
    ),
    "machine_busy": (
        "Other programs used the machine meanwhile",
        "Other programs used up to {busy_share:.0%} of the cores ({mean_busy_share:.0%} on average)",
        "Close them, use fewer threads (engine.threads) or measure again at a quiet hour.",
    ),
    "throttled": (
        "The GPU lowered its clocks while measuring",
        "The GPU lowered its clocks while measuring: {reasons}",
        "Ratios of interleaved pairs hold, absolute figures don't: improve cooling or raise the power limit.",
    ),
    "heat": (
        "The GPU grew much hotter over the measurement",
        "The GPU went from {first_c:.0f} to {hottest_c:.0f} °C",
        "Set protocol.cooldown=true, or measure once it is warm.",
    ),
    "acceptance_jump": (
        "Acceptance jumped after the first iteration",
        "Acceptance jumped after the first iteration, from {first_acceptance:.0%} to {later_acceptance:.0%}",
        "Older llama.cpp builds reuse the last draft context when a prompt repeats: don't believe this speedup; update "
        "llama.cpp or use several prompts.",
    ),
    "zero_variance": (
        "All runs are exactly alike",
        "All {runs} runs are exactly alike",
        "Real times vary: check that the engine measures and doesn't replay; the interval can't be trusted.",
    ),
    "too_few_pairs": (
        "Too few pairs to trust an interval",
        "Only {pairs:#usable pair}: too few to trust an interval",
        "Take at least 3, better 5: protocol=standard.",
    ),
    "wide_interval": (
        "The interval is too wide to tell the size of the effect",
        "The interval is ±{half_width:.1%} wide around {ratio:.2f}×: too wide to tell the size of the effect",
        "Take more iterations (protocol=rigorous or protocol=adaptive) or quieten the machine.",
    ),
    "hodges_lehmann_disagrees": (
        "A robust estimate lies outside the interval",
        "A robust estimate, {ratio:.3f}×, lies outside the interval [{ci_low:.3f}, {ci_high:.3f}]",
        "A few runs pull the mean: look at the samples in order and measure again.",
    ),
    "output_diverged": (
        "Speculative output differs from vanilla output under greedy decoding",
        "Speculative output differs from vanilla output under greedy decoding in {runs} of {of} runs, at the earliest "
        "in token {first_token}",
        "On a CPU with unquantised weights that is a fault; on GPUs and with quantised weights rounding can do it: "
        "check the quality of the output before deploying.",
    ),
    "not_applicable_sampled": (
        "Output equality can't be checked, because tokens are sampled",
        "",
        "Use sampling.temperature=0 to compare token by token.",
    ),
    "invalid_runs": (
        "Runs that measured something else are left out",
        "{runs} of {of} runs are left out, because they measured something else (nothing drafted, something drafted "
        "in vanilla, or cut short)",
        "The samples' error column says why for each.",
    ),
    "failed_runs": (
        "Runs failed or timed out and are left out",
        "{runs} of {of} runs failed or timed out and are left out",
        "The samples' error column and the job's log say why; `velosweep resume` tries again what is missing.",
    ),
    "not_paired": (
        "The runs are not interleaved pairs: the interval assumes no drift between blocks",
        "",
        "Use protocol.order=abba.",
    ),
    "not_paired:passes": (
        "No pass has a good run of both modes: the interval assumes that the machine did not drift between them",
        "",
        "The samples' error column says why runs failed; `velosweep resume` tries again what is missing.",
    ),
    "not_paired:repeats": (
        "All good runs of one mode came before those of the other: the interval assumes no drift between them",
        "",
        "They were to be interleaved, and some failed: the samples' error column says why. Measure again.",
    ),
    "other_gpu_processes": (
        "Other processes used the GPU",
        "Up to {processes:#other process} used the GPU during {runs:#run}",
        "Stop them (`nvidia-smi` lists them) or pick another GPU.",
    ),
    "not_converged": (
        "The interval did not reach its target width before the maximum of pairs",
        "The interval reached ±{half_width:.1%}, not its target of ±{target:.1%}, before the maximum of pairs",
        "Raise protocol.adaptive.max_pairs or quieten the machine.",
    ),
    "conditional_on_launch": (
        "All pairs come from one launch of the servers: what differs between launches is not in the interval",
        "",
        "protocol.launches=3 covers it.",
    ),
    "incomplete_passes": (
        "Some passes over the prompts are incomplete and are not in the job's figures",
        "{passes} of {of} passes lack a prompt's pair and are not in the job's figures",
        "`velosweep resume` tries again what is missing.",
    ),
    "ambiguous_baseline": (
        "Several vanilla series fit these runs; which was measured beside them can't be told",
        "",
        "Read the whole sweep's folder (its sweep.json says which jobs share a baseline).",
    ),
    "load_failed": ("The server did not start", "", "The job's log holds llama.cpp's own words."),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """A finding in words. `sentence` says what was seen, with figures; `remedy` what to do."""

    severity: str
    code: str
    sentence: str
    remedy: str

    @property
    def sign(self) -> str:
        """A sign that needs no colour."""
        return {"error": "✗", "warning": "⚠️"}.get(self.severity, "ℹ")


def explain(finding: Finding, record: SweepRecord | None = None) -> Advice:
    """The finding as a sentence; an unknown code is named with its evidence, never dropped.

    `record` says whether there was a search, where other settings help.
    """
    unknown = (f"Finding `{finding.code}`", "", "A newer velosweep may know more; the evidence is as recorded.")
    general = _SENTENCES.get(finding.code, unknown)
    plain, figured, remedy = _SENTENCES.get(f"{finding.code}:{finding.subject}", general)
    if record is not None and record.tuner is not None:
        remedy = _IN_A_SEARCH.get(finding.code, remedy)
    seen = _filled(figured, finding.evidence)
    if seen is None:
        figures = evidence_words(finding.evidence)
        seen = f"{plain}{': ' + figures if figures else ''}"
    about = f"{finding.subject}: " if finding.subject not in _NO_SUBJECT else ""
    return Advice(severity=finding.severity, code=finding.code, sentence=f"{about}{seen}.", remedy=remedy)


# Subjects that the sentences name themselves.
_NO_SUBJECT = frozenset({"", "pairs", "passes", "repeats", "runs", "rounds", "gpu", "machine", "output"})


class _Count(int):
    """A number that a sentence can count with: `{pairs:#usable pair}` is `1 usable pair` or `2 usable pairs`."""

    def __format__(self, spec: str) -> str:
        return plural(self, spec[1:]) if spec.startswith("#") else super().__format__(spec)


def _filled(template: str, evidence: Mapping[str, float | int | str]) -> str | None:
    try:
        figures = {name: _Count(value) if isinstance(value, int) else value for name, value in evidence.items()}
        return template.format_map(figures) or None
    except (KeyError, ValueError, TypeError):  # other evidence than this version of the sentence expects
        return None


def evidence_words(evidence: Mapping[str, float | int | str]) -> str:
    """`first c 41, hottest c 83.2`: the evidence as recorded, floats with three digits."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in evidence.items()
    )


# What helps where the number of runs is the search's to choose.
_IN_A_SEARCH = {
    "too_few_pairs": "Take more to confirm the winner: tuner.confirm_pairs=6.",
    "wide_interval": "This is of the gain over vanilla, not of which setting wins. Take more pairs to confirm the "
    "winner (tuner.confirm_pairs=12) or quieten the machine.",
}
# What a search means to do to its candidates: it leaves those alone that it need not know better.
_SPARED = frozenset({"not_paired", "incomplete_passes"})
_SPARED_LOSERS = _SPARED | {"too_few_pairs", "wide_interval"}


def told(row: Comparison, record: SweepRecord | None) -> list[Finding]:
    """The job's findings that a person can do something about; all of them where there was no search."""
    if record is None or record.tuner is None:
        return list(row.findings)
    spared = _SPARED if row.job_id in record.advised and not record.tuner.per_category else _SPARED_LOSERS
    return [finding for finding in row.findings if finding.code not in spared]


WORST = " (worst)"


def gathered(
    rows: Iterable[Comparison], labels: Mapping[str, str], record: SweepRecord | None = None
) -> list[tuple[Advice, list[str]]]:
    """Each kind of finding once, worst first, with the labels of the jobs it stands against.

    `record` says whether there was a search, which brings some about on purpose: these are left out.
    Where jobs differ in the figures, the sentence is the worst job's, whose label comes first and says so.
    """
    found: dict[tuple[str, str, str], list[tuple[float, str, Finding]]] = {}
    for row in rows:
        label = labels.get(row.job_id, row.job_id)
        for finding in told(row, record):
            kind = (finding.severity, finding.code, finding.subject)
            found.setdefault(kind, []).append((_badness(finding), label, finding))
    gathered: list[tuple[Advice, list[str]]] = []
    for entries in found.values():
        entries.sort(key=lambda entry: -entry[0])  # stable: jobs keep their order among equals
        labels_there = list(dict.fromkeys(label for _, label, _ in entries))
        if entries[0][0] > entries[-1][0]:
            labels_there[0] += WORST
        gathered.append((explain(entries[0][2], record), labels_there))
    return sorted(gathered, key=lambda entry: severity_rank(entry[0].severity))


# Which figure of a finding says how bad it is; the others are as bad as each other.
_BADNESS = {
    "wide_interval": "half_width", "not_converged": "half_width", "machine_busy": "busy_share", "drift": "drift",
    "outlier": "runs", "failed_runs": "runs", "invalid_runs": "runs", "output_diverged": "runs", "heat": "hottest_c",
    "cold_start": "relative", "autocorrelation": "r1", "other_gpu_processes": "processes",
    "incomplete_passes": "passes", "untrusted": "fall",
}  # fmt: skip


def _badness(finding: Finding) -> float:
    figure = finding.evidence.get(_BADNESS.get(finding.code, ""), 0.0)
    return abs(figure) if isinstance(figure, (int, float)) else 0.0


def severity_rank(severity: str) -> int:
    """0 for error, 1 warning, 2 info, 3 for what we don't know."""
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)


# ---------------------------------------------------------------- why no speedup


_DISTURBED = frozenset({"machine_busy", "throttled", "other_gpu_processes"})


def reasons_for_modest_speedup(
    job: Comparison, measured: Iterable[Comparison] = (), *, said: Collection[str] = ()
) -> list[str]:
    """What this job's samples say about why it isn't faster, each with its remedy; the likeliest first.

    `measured`: the sweep's jobs. Nothing is advised that those of the job's own series refute. `said`: codes of the
    findings that stand beside the reasons; empty where these say it all.
    """
    series = [row for row in same_series(job, measured) if best_estimate(row) and row.verdict is not Verdict.INVALID]
    reasons = [*_acceptance_reasons(job, series), *_cost_reasons(job), *_formula_reasons(job, series)]
    disturbed = _DISTURBED & {finding.code for finding in job.findings}
    if disturbed - set(said):
        reasons.append("A quieter machine: others used it while this was measured")
    return reasons or ([] if disturbed else _general_reasons(job, series))


def _general_reasons(job: Comparison, series: Sequence[Comparison]) -> list[str]:
    """The specification's list, for want of evidence; without the first where a longer draft was measured."""
    pairs = ["Trying different model pairs"]
    if any(row.n_draft > job.n_draft for row in series):
        return pairs
    return [f"Increasing n_draft (current: {job.n_draft})", *pairs]


def _acceptance_reasons(job: Comparison, series: Sequence[Comparison]) -> list[str]:
    seen = job.acceptance
    if seen is None or seen.rate >= 0.6:
        return []
    per_round = (
        f", {seen.tokens_per_round:.1f} tokens a round of up to {job.n_draft + 1}" if seen.tokens_per_round else ""
    )
    shorter_tried = any(row.n_draft < job.n_draft for row in series)
    shorter = job.n_draft > 2 and seen.rate >= 0.2 and not shorter_tried
    remedy = "A smaller n_draft" if shorter else "A draft of the same model family"
    return [f"{remedy}: only {percent(seen.rate)} of the drafted tokens were accepted{per_round}"]


def _cost_reasons(job: Comparison) -> list[str]:
    cost = job.cost_ratio
    if cost is None or cost < 0.15:
        return []
    ceiling = (job.n_draft + 1) / (job.n_draft * cost + 1)
    if ceiling <= (best_estimate(job) or 0.0):  # a cost that the measurement itself refutes
        return []
    return [
        f"A smaller draft model: a draft step costs {cost:.2f} of a main-model step, so that even with every "
        f"draft accepted n_draft {job.n_draft} could not exceed {ceiling:.2f}×"
    ]


def _formula_reasons(job: Comparison, series: Sequence[Comparison]) -> list[str]:
    alpha = job.acceptance.alpha if job.acceptance else None
    reasons = []
    if alpha is not None and job.cost_ratio is not None and 0 <= alpha <= 1 and job.cost_ratio >= 0:
        here = leviathan_speedup(alpha, job.n_draft, job.cost_ratio)
        reasons += _length_reasons(job, series, *best_n_draft(alpha, job.cost_ratio), here=here)
    measured = best_estimate(job)
    if job.expected_speedup is not None and measured is not None and job.expected_speedup > 1.15 * measured:
        reasons.append(
            f"Cheaper verification: acceptance and draft cost promise {job.expected_speedup:.2f}×, measured "
            f"{measured:.2f}×; the rest is checking {plural(job.n_draft + 1, 'token')} at once and overhead"
        )
    return reasons


WORTH_TRYING = 1.02
"""A setting that would gain less than this over the best measured is not worth a sweep."""


def _length_reasons(
    job: Comparison, series: Sequence[Comparison], best: int, value: float, *, here: float
) -> list[str]:
    """The formula's n_draft where it promises more than any measured and has not been measured itself.

    `here`: what it promises of this job, of which only so much was measured.
    """
    reached = max((best_estimate(row) or 0.0 for row in (job, *series)), default=0.0)
    if best == 0:
        return ["Another pair: with this acceptance and draft cost no n_draft pays"] if reached <= 1 else []
    likely = value * min((best_estimate(job) or here) / here, 1.0) if here else 0.0
    if likely <= WORTH_TRYING * reached or any(row.n_draft == best for row in (job, *series)):
        return []
    way = "Increasing" if best > job.n_draft else "Decreasing"
    return [f"{way} n_draft to about {best} (current: {job.n_draft}); the formula gives {value:.2f}× there"]
