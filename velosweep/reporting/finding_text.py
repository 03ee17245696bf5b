"""Findings in words, each with its remedy; which of them are shown, and for which jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from velosweep.records import SweepRecord
from velosweep.statistics.comparison import Comparison, Finding
from velosweep.units import plural


@dataclass(frozen=True, kw_only=True, slots=True)
class _Text:
    """What is said of one kind of finding.

    `sentence` has the evidence in its fields; with other evidence `without_figures` is said, followed by whatever
    evidence there is. `remedy_in_search` replaces the remedy where a search chooses the number of runs. `worst_by`: the
    evidence that says how bad it is; kinds without it are as bad as each other.
    """

    sentence: str
    remedy: str
    without_figures: str = ""
    remedy_in_search: str = ""
    worst_by: str = ""


# By code, or code:subject where the subject changes what is to be done.
_TEXTS: Mapping[str, _Text] = {
    "outlier": _Text(
        sentence="{runs} of {of} runs lie far from the others; run {worst_run}: {value:.4g} tok/s, median {median:.4g}",
        remedy="They are kept and widen the interval: look for another program on the machine or take more iterations.",
        worst_by="runs",
    ),
    "outlier:pairs": _Text(
        sentence="{runs} of {of} pairs lie far from the others (worst: pair {worst_run})",
        remedy="They are kept and widen the interval: look for another program on the machine or take more iterations.",
        worst_by="runs",
    ),
    "drift": _Text(
        sentence="Speed drifted by {drift:+.1%} over {runs} runs (p = {p:.2g})",
        remedy="Ratios of interleaved pairs are protected; for steady absolute figures let the machine warm up, fix "
        "the clocks or set protocol.cooldown=true.",
        worst_by="drift",
    ),
    "untrusted": _Text(
        sentence="In {rounds:#round} (iteration {iterations}) it was measured although the machine stayed slower than "
        "at first: vanilla made {speed:.4g} tok/s before iteration {worst_iteration} after two rests, "
        "{first_speed:.4g} in the first round ({fall:.1%} slower)",
        remedy="They are kept, and ratios of interleaved pairs are protected: allow longer rests "
        "(protocol.cooldown_max_s), improve cooling or fix the clocks, and measure again.",
        worst_by="fall",
    ),
    "autocorrelation": _Text(
        sentence="Successive pairs resemble each other (r = {r1:.2f}), so the interval may be too narrow",
        remedy="Something disturbs in a rhythm: try protocol.order=random or protocol.launches=3.",
        worst_by="r1",
    ),
    "cold_start": _Text(
        sentence="The first run is {relative:.0%} slower than the rest",
        remedy="It is kept; a longer warm-up helps: protocol.warmup_tokens=64.",
        worst_by="relative",
    ),
    "machine_busy": _Text(
        sentence="Other programs used up to {busy_share:.0%} of the cores ({mean_busy_share:.0%} on average)",
        without_figures="Other programs used the machine meanwhile",
        remedy="Close them, use fewer threads (engine.threads) or measure again when the machine is idle.",
        worst_by="busy_share",
    ),
    "throttled": _Text(
        sentence="The GPU lowered its clocks while measuring: {reasons}",
        without_figures="The GPU lowered its clocks while measuring",
        remedy="Ratios of interleaved pairs hold, absolute figures don't: improve cooling or raise the power limit.",
    ),
    "heat": _Text(
        sentence="The GPU went from {first_c:.0f} to {hottest_c:.0f} °C",
        remedy="Set protocol.cooldown=true, or measure once it is warm.",
        worst_by="hottest_c",
    ),
    "acceptance_jump": _Text(
        sentence="Acceptance jumped after the first iteration, from {first_acceptance:.0%} to {later_acceptance:.0%}",
        remedy="Older llama.cpp builds reuse the last draft context when a prompt repeats: don't believe this speedup; "
        "update llama.cpp or use several prompts.",
    ),
    "zero_variance": _Text(
        sentence="All {runs} runs are exactly alike",
        remedy="Real times vary: check that the engine measures and doesn't replay; the interval can't be trusted.",
    ),
    "too_few_pairs": _Text(
        sentence="Only {pairs:#usable pair}: too few to trust an interval",
        remedy="Take at least 3, better 5: protocol=standard.",
        remedy_in_search="Take more to confirm the winner: tuner.confirm_pairs=6.",
    ),
    "wide_interval": _Text(
        sentence="The interval is ±{half_width:.1%} wide around {ratio:.2f}×: too wide to tell the size of the effect",
        remedy="Take more iterations (protocol=rigorous or protocol=adaptive) or close other programs.",
        remedy_in_search="This is of the gain over vanilla, not of which setting wins. Take more pairs to confirm the "
        "winner (tuner.confirm_pairs=12) or close other programs.",
        worst_by="half_width",
    ),
    "hodges_lehmann_disagrees": _Text(
        sentence="A robust estimate, {ratio:.3f}×, lies outside the interval [{ci_low:.3f}, {ci_high:.3f}]",
        remedy="A few runs pull the mean: look at the samples in order and measure again.",
    ),
    "output_diverged": _Text(
        sentence="Speculative output differs from vanilla output under greedy decoding in {runs} of {of} runs, at the "
        "earliest in token {first_token}",
        without_figures="Speculative output differs from vanilla output under greedy decoding",
        remedy="On a CPU with unquantised weights that is a fault; on GPUs and with quantised weights rounding can do "
        "it: check the quality of the output before deploying.",
        worst_by="runs",
    ),
    "not_applicable_sampled": _Text(
        sentence="Output equality can't be checked, because tokens are sampled",
        remedy="Use sampling.temperature=0 to compare token by token.",
    ),
    "invalid_runs": _Text(
        sentence="{runs} of {of} runs are left out, because they measured something else (nothing drafted, something "
        "drafted in vanilla, or cut short)",
        remedy="The samples' error column says why for each.",
        worst_by="runs",
    ),
    "failed_runs": _Text(
        sentence="{runs} of {of} runs failed or timed out and are left out",
        remedy="The samples' error column and the job's log say why; `velosweep resume` tries again what is missing.",
        worst_by="runs",
    ),
    "not_paired": _Text(
        sentence="The runs are not interleaved pairs: the interval assumes no drift between one mode and the other",
        remedy="Use protocol.order=abba.",
    ),
    "not_paired:passes": _Text(
        sentence="No pass has a good run of both modes: the interval assumes that the machine did not drift between "
        "them",
        remedy="The samples' error column says why runs failed; `velosweep resume` tries again what is missing.",
    ),
    "not_paired:repeats": _Text(
        sentence="All good runs of one mode came before those of the other: the interval assumes no drift between them",
        remedy="They were to be interleaved, and some failed: the samples' error column says why. Measure again.",
    ),
    "other_gpu_processes": _Text(
        sentence="Up to {processes:#other process} used the GPU during {runs:#run}",
        remedy="Stop them (`nvidia-smi` lists them) or pick another GPU.",
        worst_by="processes",
    ),
    "not_converged": _Text(
        sentence="The interval reached ±{half_width:.1%}, not its target of ±{target:.1%}, before the maximum of pairs",
        remedy="Raise protocol.adaptive.max_pairs or close other programs.",
        worst_by="half_width",
    ),
    "conditional_on_launch": _Text(
        sentence="All pairs come from one launch of the servers: what differs between launches is not in the interval",
        remedy="protocol.launches=3 covers it.",
    ),
    "incomplete_passes": _Text(
        sentence="{passes} of {of} passes lack a prompt's pair and are not in the job's figures",
        remedy="`velosweep resume` tries again what is missing.",
        worst_by="passes",
    ),
    "ambiguous_baseline": _Text(
        sentence="Several vanilla series fit these runs; which of them was measured with these is unknown",
        remedy="Read the whole sweep's folder (its sweep.json says which jobs share a baseline).",
    ),
    "load_failed": _Text(
        sentence="The server did not start",
        remedy="The job's log holds llama.cpp's own words.",
    ),
}

_UNKNOWN = _Text(sentence="", remedy="A newer velosweep may know more; the evidence is as recorded.")

# Subjects that the sentences name themselves.
_NO_SUBJECT = frozenset({"", "pairs", "passes", "repeats", "runs", "rounds", "gpu", "machine", "output"})

# Findings that a search causes on purpose: it stops measuring a candidate once it knows enough of it.
_EXCLUDED_IN_SEARCH = frozenset({"not_paired", "incomplete_passes"})
_EXCLUDED_FOR_LOSERS = _EXCLUDED_IN_SEARCH | {"too_few_pairs", "wide_interval"}

SEVERITIES = ("error", "warning", "info")
WORST = " (worst)"


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

    @property
    def rank(self) -> int:
        """0 for an error, 1 for a warning, 2 for a remark, 3 for a severity that this version doesn't know."""
        return SEVERITIES.index(self.severity) if self.severity in SEVERITIES else len(SEVERITIES)


def explain(finding: Finding, record: SweepRecord | None = None) -> Advice:
    """The finding as a sentence; an unknown code is named with its evidence, never dropped.

    `record` says whether there was a search, where other settings help.
    """
    text = _text_of(finding)
    figures = {name: _Count(value) if isinstance(value, int) else value for name, value in finding.evidence.items()}
    try:
        sentence = text.sentence.format_map(figures)
    except (KeyError, ValueError, TypeError):  # other evidence than this version of the sentence expects
        sentence = ""
    if not sentence:
        words = [
            f"{name.replace('_', ' ')} {f'{value:.3g}' if isinstance(value, float) else value}"
            for name, value in finding.evidence.items()
        ]
        sentence = f"{text.without_figures or f'Finding `{finding.code}`'}{': ' if words else ''}{', '.join(words)}"
    about = f"{finding.subject}: " if finding.subject not in _NO_SUBJECT else ""
    searched = record is not None and record.tuner is not None
    remedy = text.remedy_in_search if searched and text.remedy_in_search else text.remedy
    return Advice(severity=finding.severity, code=finding.code, sentence=f"{about}{sentence}.", remedy=remedy)


def _text_of(finding: Finding) -> _Text:
    return _TEXTS.get(f"{finding.code}:{finding.subject}") or _TEXTS.get(finding.code, _UNKNOWN)


class _Count(int):
    """A number that a sentence can count with: `{pairs:#usable pair}` is `1 usable pair` or `2 usable pairs`."""

    def __format__(self, spec: str) -> str:
        return plural(self, spec[1:]) if spec.startswith("#") else super().__format__(spec)


def selected_findings(row: Comparison, record: SweepRecord | None) -> list[Finding]:
    """The job's findings, after a search without those that the search caused on purpose."""
    if record is None or record.tuner is None:
        return list(row.findings)
    won = row.job_id in record.advised and not record.tuner.per_category
    excluded = _EXCLUDED_IN_SEARCH if won else _EXCLUDED_FOR_LOSERS
    return [finding for finding in row.findings if finding.code not in excluded]


def grouped_findings(
    rows: Iterable[Comparison], labels: Mapping[str, str], record: SweepRecord | None = None
) -> list[tuple[Advice, list[str]]]:
    """Each kind of selected finding once, worst first, with the labels of the jobs that have it.

    Where jobs differ in the figures, the sentence is the worst job's, whose label comes first and says so.
    """
    kinds: dict[tuple[str, str, str], list[tuple[float, str, Finding]]] = {}
    for row in rows:
        for finding in selected_findings(row, record):
            figure = finding.evidence.get(_text_of(finding).worst_by, 0.0)
            badness = abs(figure) if isinstance(figure, (int, float)) else 0.0
            entry = (badness, labels.get(row.job_id, row.job_id), finding)
            kinds.setdefault((finding.severity, finding.code, finding.subject), []).append(entry)
    grouped = []
    for entries in kinds.values():
        entries.sort(key=lambda entry: -entry[0])  # stable: jobs keep their order among equals
        names = list(dict.fromkeys(label for _, label, _ in entries))
        if entries[0][0] > entries[-1][0]:
            names[0] += WORST
        grouped.append((explain(entries[0][2], record), names))
    return sorted(grouped, key=lambda entry: entry[0].rank)
