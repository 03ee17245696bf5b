"""Findings in words, each with its remedy; which of them are shown, and for which jobs."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from velosweep.config.flags import as_typed
from velosweep.records import SweepRecord
from velosweep.statistics.comparison import Comparison, Finding
from velosweep.units import plural


@dataclass(frozen=True, kw_only=True, slots=True)
class _Text:
    """What is said of one kind of finding; findings.yaml has them all and says what each field is for."""

    sentence: str
    remedy: str
    without_figures: str = ""
    remedy_in_search: str = ""
    worst_by: str = ""
    brief: str = ""


_UNKNOWN = _Text(sentence="", remedy="A newer velosweep may know more; the evidence is as recorded.")

# Subjects that the sentences name themselves.
_NO_SUBJECT = frozenset(
    {"", "pairs", "passes", "prompts", "repeats", "runs", "rounds", "gpu", "machine", "output", "context", "short"}
)

# Findings that a search causes on purpose: it stops measuring a candidate once it knows enough of it.
_EXCLUDED_IN_SEARCH = frozenset({"not_paired", "incomplete_passes"})
_EXCLUDED_FOR_LOSERS = _EXCLUDED_IN_SEARCH | {"too_few_pairs", "wide_interval"}

SEVERITIES = ("error", "warning", "info")
WORST = " (worst)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """A finding in words. `sentence` says what was seen, with figures; `remedy` what to do.

    `brief`: in two or three words what it takes from the answer's certainty, empty where it takes nothing.
    """

    severity: str
    code: str
    sentence: str
    remedy: str
    brief: str = ""

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
    figures = {name: _figure(value) for name, value in finding.evidence.items()}
    try:
        sentence, brief = text.sentence.format_map(figures), text.brief.format_map(figures)
    except (KeyError, ValueError, TypeError):  # other evidence than this version of the sentence expects
        sentence, brief = "", text.brief.partition("{")[0].strip()
    if not sentence:
        words = [
            f"{name.replace('_', ' ')} {f'{value:.3g}' if isinstance(value, float) else value}"
            for name, value in finding.evidence.items()
        ]
        sentence = f"{text.without_figures or f'Finding `{finding.code}`'}{': ' if words else ''}{', '.join(words)}"
    about = f"{finding.subject}: " if finding.subject not in _NO_SUBJECT else ""
    searched = record is not None and record.tuner is not None
    remedy = text.remedy_in_search if searched and text.remedy_in_search else text.remedy
    said = re.sub(r"(?<=\d)%", " %", f"{about}{sentence}.")
    if record is not None:
        said, remedy = as_typed(said, record.command), as_typed(remedy, record.command)
    return Advice(severity=finding.severity, code=finding.code, sentence=said, remedy=remedy, brief=brief)


def _text_of(finding: Finding) -> _Text:
    texts = finding_texts()
    return texts.get(f"{finding.code}:{finding.subject}") or texts.get(finding.code, _UNKNOWN)


@lru_cache(maxsize=1)
def finding_texts() -> dict[str, _Text]:
    """What is said of each kind of finding, by code or code:subject."""
    import yaml

    found = yaml.safe_load(resources.files("velosweep.reporting").joinpath("findings.yaml").read_text(encoding="utf-8"))
    return {code: _Text(**(found.get(code.partition(":")[0], {}) | fields)) for code, fields in found.items()}


class _Count(int):
    """A number that a sentence can count with: `{pairs:#usable pair}` is `1 usable pair` or `2 usable pairs`."""

    def __format__(self, spec: str) -> str:
        return plural(self, spec[1:]) if spec.startswith("#") else super().__format__(spec)


class _Share(float):
    """A share of 1, of which no more than a limit is said where the figure itself says nothing."""

    def __format__(self, spec: str) -> str:
        return "over 1000 %" if spec.endswith("%") and self > 10 else super().__format__(spec)


def _figure(value: object) -> object:
    """Evidence as sentences format it."""
    if isinstance(value, int):
        return _Count(value)
    return _Share(value) if isinstance(value, float) else value


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
