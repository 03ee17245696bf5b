"""The chart of where decoding time goes: a token of vanilla beside one of each speculative job."""

from collections.abc import Collection, Sequence

from velosweep.reporting.chart import SERIES_COLOURS, VANILLA, Chart, Trace, axis, rounded
from velosweep.reporting.wording import names_of, percent
from velosweep.statistics.comparison import Comparison, DecodingTime

_MOST_JOBS = 12
_VERIFYING, _DRAFTING, _READING = SERIES_COLOURS[:3]


def decoding_chart(jobs: Sequence[Comparison], advised: Collection[str] = ()) -> Chart | None:
    """Milliseconds a token by what they were spent on, stacked; None where no job's costs are known.

    Of many jobs those whose ids are `advised` are shown, and the first.
    """
    known = [
        (job, job.decoding, 1000 / job.speculative.tokens_per_second.mean)
        for job in sorted(jobs, key=lambda job: job.job_id not in advised)
        if job.decoding is not None and job.speculative is not None
    ][:_MOST_JOBS]
    if not known:
        return None
    names = names_of(jobs)
    first, decoding, _ = known[0]
    known.sort(key=lambda entry: list(names.labels).index(entry[0].job_id))
    plain = {names.vanilla[job.job_id]: 1000 / job.vanilla.tokens_per_second.mean for job, _, _ in known if job.vanilla}
    labels = [names.labels[job.job_id] for job, _, _ in known]
    told = all(one.sync_cost is not None for _, one, _ in known)
    verifying = "verifying" if told else "verifying, and the draft model reading that"
    data = [
        _bars("one step of the main model", list(plain), [rounded(ms) for ms in plain.values()], VANILLA),
        _bars(verifying, labels, [rounded(ms * one.verify_share) for _, one, ms in known], _VERIFYING),
        _bars("drafting", labels, [rounded(ms * one.draft_share) for _, one, ms in known], _DRAFTING),
    ]
    read = [rounded(ms * one.other_share) for _, one, ms in known]
    if max(read) >= 0.005:  # ms: less shows nowhere
        data.append(_bars("draft model reads what is verified", labels, read, _READING))
    return Chart(
        id="decoding",
        title="Where the time of a token goes",
        caption="By llama.cpp's own log: drafting, checking the draft by the main model in one batch, and the draft "
        "model's reading of that batch, divided by the tokens that this gave.",
        summary=f"{names.labels[first.job_id]}: {_words(decoding)}.",
        data=data,
        layout={
            "barmode": "stack",
            "xaxis": axis("ms a token", rangemode="tozero"),
            "yaxis": {"type": "category", "automargin": True, "autorange": "reversed"},
            "showlegend": True,
        },
        height=150 + 34 * (len(plain) + len(known)),
    )


def _words(decoding: DecodingTime) -> str:
    return f"{percent(decoding.draft_share)} drafting, {percent(decoding.verify_share)} verifying"


def _bars(name: str, labels: Sequence[str], values: Sequence[float], colour: str) -> Trace:
    return {
        "type": "bar", "orientation": "h", "name": name, "x": list(values), "y": list(labels),
        "marker": {"color": colour}, "hovertemplate": f"%{{y}}, {name}: %{{x:.2f}} ms<extra></extra>",
    }  # fmt: skip
