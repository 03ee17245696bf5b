"""What `velosweep best` says before it measures: the models there are and which fit, and what it will search."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from velosweep.models.candidates import Candidate, Misfit
from velosweep.models.found_models import FoundModel
from velosweep.planning.job_names import shortened
from velosweep.reporting.table import Table, column, percentage
from velosweep.reporting.wording import duration, first_few, join_words
from velosweep.tuning.candidate_plan import CandidatePlan, SearchFamily
from velosweep.units import bytes_words, plural

_MOST_NAMED = 3
_LONGEST_NAME = 40


def short_names(models: Iterable[FoundModel]) -> dict[str, str]:
    """What to call each model, by its path: its name in the store, of long names what tells them apart."""
    names = {model.path: model.file.name for model in models}
    if max(map(len, names.values()), default=0) <= _LONGEST_NAME:
        return names
    short = shortened(set(names.values()))
    tails = {
        name: f"…{text[1 - _LONGEST_NAME :]}" if len(text) > _LONGEST_NAME else text for name, text in short.items()
    }
    told_apart = len(set(tails.values())) == len(tails)
    return {path: tails[name] if told_apart else short[name] for path, name in names.items()}


def models_table(fits: Mapping[str, Sequence[Candidate]], models: Sequence[FoundModel]) -> Table:
    """Every model with its size, where it is, and what fits it. `fits`: candidates with files, by the model's path."""
    names = short_names(models)
    return Table(
        caption="Models on this machine",
        columns=(
            column("model", models, lambda model: names[model.path], right=False),
            column("size", models, lambda model: bytes_words(model.header.size_bytes)),
            column("kind", models, _architecture, right=False, drop=2),
            column("where", models, lambda model: model.file.store, right=False, drop=1),
            column("drafts that fit", models, lambda model: _names(fits.get(model.path), names), right=False),
        ),
    )


def _architecture(model: FoundModel) -> str:
    head = model.header.head
    return model.header.architecture + (f" ({head.kind.removeprefix('draft-')} heads)" if head is not None else "")


def _names(candidates: Sequence[Candidate] | None, names: Mapping[str, str]) -> str:
    if candidates is None:
        return "(is one itself)"
    found = [names[candidate.draft.path] for candidate in candidates if candidate.draft is not None]
    return ", ".join(first_few(found, _MOST_NAMED)) if found else "none"


def plan_table(plan: CandidatePlan, names: Mapping[str, str]) -> Table:
    """What will be searched, one row a kind, draft and p_min. `names` of models by path."""
    families = plan.families
    return Table(
        caption="What is searched",
        columns=(
            column("kind", families, lambda family: family.candidate.kind, right=False),
            column("draft", families, lambda family: _draft_name(family, names), right=False),
            column("size", families, _draft_size),
            column("of main", families, lambda family: percentage(family.candidate.ratio)),
            column("n_draft", families, lambda family: _lengths(family.lengths)),
            column("p_min", families, lambda family: "" if family.p_min is None else f"{family.p_min:g}"),
        ),
    )


def _draft_name(family: SearchFamily, names: Mapping[str, str]) -> str:
    draft = family.candidate.draft
    if draft is not None:
        return names[draft.path]
    return "its own heads" if family.candidate.kind.startswith("draft-") else "none needed"


def _candidate_name(family: SearchFamily, names: Mapping[str, str]) -> str:
    if family.candidate.draft is None:
        return family.candidate.kind
    return f"{family.candidate.kind} {_draft_name(family, names)}"


def _draft_size(family: SearchFamily) -> str:
    draft = family.candidate.draft
    return bytes_words(draft.header.size_bytes) if draft is not None else ""


def _lengths(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, lengths)) if len(lengths) <= 3 else f"{lengths[0]} to {lengths[-1]}"


def plan_remarks(
    plan: CandidatePlan,
    misfits: Sequence[Misfit],
    names: Mapping[str, str],
    *,
    budget_s: float | None,
    searches: int = 1,
) -> Iterator[str]:
    """Sentences below the plan: its time, what there is no time for, and which models don't fit."""
    needed = plan.seconds * searches
    limit = f", {duration(budget_s)} at most" if budget_s is not None else ""
    if budget_s is not None and needed > 1.1 * budget_s:
        limit = f", of which the budget allows {duration(budget_s)}"
    yield (
        f"{plural(plan.settings, 'setting')} against no speculation on {plural(plan.prompts, 'prompt')}: an estimated "
        f"{duration(needed)}{limit}"
    )
    if searches > 1:
        yield f"{searches} searches, one for each number of streams and each depth, share that time"
    if plan.left_out:
        wholly = [family.candidate for family in plan.left_out if not family.p_min]
        left_out = [
            _candidate_name(family, names) + (f" with p_min {family.p_min:g}" if family.p_min else "")
            for family in plan.left_out
            if not family.p_min or family.candidate not in wholly
        ]
        yield f"No time for {join_words(first_few(left_out, _MOST_NAMED))}: a longer --budget takes them in"
    if misfits:
        named = [f"{names[misfit.model.path]} ({misfit.why})" for misfit in misfits]
        yield f"Not fit to draft: {'; '.join(first_few(named, _MOST_NAMED))}"
