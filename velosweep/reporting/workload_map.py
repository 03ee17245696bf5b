"""From where to where speculation pays: speedups over streams and depth, in a sentence and as a map.

Settings measured at one workload (a number of streams, a depth) compete; each workload's best is what is told.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from velosweep.planning.job_settings import value_of, varying_keys
from velosweep.records import SweepRecord
from velosweep.reporting.chart import MUTED, Chart, Trace, axis, heat_trace, rounded
from velosweep.reporting.recommendation import Recommendation, answered_jobs
from velosweep.reporting.table import Table, column, figure
from velosweep.reporting.wording import VERDICT_SIGNS, grouped, join_words, names_of, number, speedup_words
from velosweep.statistics.best_of_several import Task, task_of
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate, fastest
from velosweep.units import plural
from velosweep.values import Verdict

Workload = tuple[int, int]
"""Depth and streams."""

_SURE = (Verdict.FASTER, Verdict.SLOWER)


def as_answered(jobs: Sequence[Comparison], found: Sequence[Recommendation], record: SweepRecord) -> list[Comparison]:
    """The job of each load's answer, as the answer tells it (of a search, by its confirming pairs).

    And all jobs of loads without an answer, unless they were searched.
    """
    answered = answered_jobs(found).values()
    return [*answered, *([] if record.searches else _of_other_workloads(jobs, answered))]


def _of_other_workloads(jobs: Sequence[Comparison], answered: Iterable[Comparison]) -> list[Comparison]:
    covered = {task_of(job) for job in answered}
    return [job for job in jobs if task_of(job) not in covered]


class LoadAnswer(NamedTuple):
    """A sentence or more on where it pays, and whether it does anywhere for sure."""

    text: str
    pays: bool


def where_it_pays(jobs: Sequence[Comparison]) -> list[LoadAnswer]:
    """One for each question beside the load (main model, prompts, …); empty for a single load."""
    questions = _questions(jobs)
    varying = varying_keys([dict(question) for question in questions])
    found = []
    for question, rows in questions.items():
        cells = best_of_workloads(rows)
        if len(cells) > 1:
            which = ", ".join(f"{key} {value_of(dict(question), key)}" for key in varying)
            pays = any(job.verdict is Verdict.FASTER for job in cells.values())
            found.append(LoadAnswer(f"{which}{': ' if which else ''}{' '.join(_sentences(cells))}", pays))
    return found


def _questions(jobs: Sequence[Comparison]) -> dict[Task, list[Comparison]]:
    return grouped(jobs, lambda job: frozenset(one for one in task_of(job) if one[0] not in ("concurrency", "depth")))


def best_of_workloads(jobs: Sequence[Comparison]) -> dict[Workload, Comparison]:
    """The best setting at each load that has a speedup, in order."""
    best = {load: fastest(rows) for load, rows in sorted(_by_workload(jobs).items())}
    return {load: job for load, job in best.items() if job is not None}


def _by_workload(jobs: Sequence[Comparison]) -> dict[Workload, list[Comparison]]:
    return grouped(jobs, lambda job: (job.depth, job.concurrency))


def _sentences(cells: Mapping[Workload, Comparison]) -> Iterator[str]:
    depths = sorted({depth for depth, _ in cells})
    if len({streams for _, streams in cells}) == 1:
        yield _sentence({depth: job for (depth, _), job in cells.items()}, lambda depth: f"depth {depth:,}")
        return
    for depth in depths:
        row = {streams: job for (other, streams), job in cells.items() if other == depth}
        words = _sentence(row, lambda streams: plural(streams, "stream"))
        yield f"At depth {depth:,} it {words[0].lower()}{words[1:]}" if depth or len(depths) > 1 else words


def _sentence(cells: Mapping[int, Comparison], name: Callable[[int], str]) -> str:
    """Where along one axis it pays, and what it is at the first places where it does not."""
    places = sorted(cells)
    paying = [place for place in places if cells[place].verdict is Verdict.FASTER]
    others = [place for place in places if place not in paying]
    told = [(name(place), cells[place]) for place in others[:2]]
    figures = "; ".join(
        f"at {where} it is {speedup_words(job)}{'' if job.verdict in _SURE else ', not sure'}" for where, job in told
    )
    if len(others) > 2:
        figures += f"; and {len(others) - 2} more"
    if not paying:
        return f"Pays nowhere for sure: {figures}."
    if not others:
        where = (
            f"at {name(places[0])}" if len(places) == 1 else f"at all measured, {name(places[0])} to {name(places[-1])}"
        )
    elif paying != places[: len(paying)]:
        where = f"at {join_words([name(place) for place in paying])}"
    else:
        where = f"at {name(paying[0])} only" if len(paying) == 1 else f"up to {name(paying[-1])}"
    return f"Pays {where}{f'; {figures}' if others else ''}."


def workload_chart(jobs: Sequence[Comparison], advised: Collection[str] = ()) -> Chart | None:
    """Speedup by streams and depth, of each the advised setting, by id, or the best; None unless both vary."""
    answered = [job for job in jobs if job.job_id in advised]
    jobs = [*answered, *_of_other_workloads(jobs, answered)]
    cells = best_of_workloads(jobs)
    depths, streams = (sorted({load[place] for load in cells}) for place in (0, 1))
    if min(len(depths), len(streams)) < 2 or len(_questions(jobs)) > 1:
        return None
    grid = [[cells.get((depth, count)) for count in streams] for depth in depths]
    trace = heat_trace(grid, _log_speedup, _sign, _hover, middle=0.0)
    ticks = [trace["zmin"], 0.0, trace["zmax"]]
    trace["colorbar"] |= {"tickvals": ticks, "ticktext": [f"{2**tick:.2f}" for tick in ticks]}
    layout: dict[str, Any] = {
        "xaxis": _steps("streams", [f"{count:,}" for count in streams]),
        "yaxis": _steps("depth (tokens)", [f"{depth:,}" for depth in depths]) | {"autorange": "reversed"},
        "shapes": [*_hatching(grid), *_line_at_one(grid)],
    }
    return Chart(
        id="load-map",
        title="Where it pays: speedup by streams and depth",
        caption="The line is where the speedup crosses 1. Hatched: not sure, the interval holds 1. "
        "▲ surely faster, ▼ surely slower, ≈ no reliable gain, ? not converged.",
        summary=" ".join(answer.text for answer in where_it_pays(jobs)),
        data=[trace],
        layout=layout,
        height=170 + 56 * len(depths),
    )


def _log_speedup(job: Comparison) -> float | None:
    """Half as fast lies as far below the middle as twice as fast above it, and nothing below 0."""
    value = best_estimate(job)
    return rounded(math.log2(value)) if value else None


def _hover(job: Comparison) -> str:
    setting = f"{job.speculation}, n_draft {job.n_draft}"
    load = f"{plural(job.concurrency, 'stream')}, depth {job.depth:,}"
    return f"<b>{load}: {speedup_words(job)}</b><br>{job.verdict.words}, {setting}"


def _steps(title: str, names: Sequence[str]) -> dict[str, Any]:
    return axis(
        title, tickmode="array", tickvals=list(range(len(names))), ticktext=names, showgrid=False, zeroline=False
    )


Grid = Sequence[Sequence[Comparison | None]]


def _hatching(grid: Grid) -> Iterator[Trace]:
    """Diagonal strokes over each cell whose interval holds 1."""
    for y, row in enumerate(grid):
        for x, cell in enumerate(row):
            for offset in (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75) if cell and cell.verdict not in _SURE else ():
                low, high = max(-0.5, -0.5 - offset), min(0.5, 0.5 - offset)
                ends = {"x0": x + low, "y0": y + low + offset, "x1": x + high, "y1": y + high + offset}
                yield {"type": "line", **ends, "line": {"color": MUTED, "width": 1}, "opacity": 0.5}


def _line_at_one(grid: Grid) -> Iterator[Trace]:
    """The edges between neighbouring cells above and below a speedup of 1."""

    def above(x: int, y: int) -> bool | None:
        cell = grid[y][x] if y < len(grid) and x < len(grid[y]) else None
        return None if cell is None else (best_estimate(cell) or 0.0) > 1

    for y, row in enumerate(grid):
        for x in range(len(row)):
            right = {"x0": x + 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
            below = {"x0": x - 0.5, "x1": x + 0.5, "y0": y + 0.5, "y1": y + 0.5}
            for edge, other in ((right, above(x + 1, y)), (below, above(x, y + 1))):
                if None not in (other, above(x, y)) and other is not above(x, y):
                    yield {"type": "line", **edge, "line": {"color": "--text", "width": 3}}


def workload_table(answers: Sequence[Comparison], jobs: Sequence[Comparison]) -> Table:
    """The best setting of each load: speedups of depths by streams, or where one of them varies a row a load.

    `answers`: as `as_answered` gives them of all `jobs`.
    """
    cells = best_of_workloads(answers)
    of_one = _by_workload(jobs).values() if len(jobs) > len(cells) else ()
    names = {job_id: name for rows in of_one for job_id, name in names_of(rows).labels.items()}
    depths, streams = (sorted({load[place] for load in cells}) for place in (0, 1))
    if len(depths) > 1 < len(streams):
        speedups = partial(_speedup_at, cells, names)
        grid = [column(plural(count, "stream"), depths, partial(speedups, count)) for count in streams]
        return Table(caption="", columns=(column("depth", depths, lambda depth: f"{depth:,}"), *grid))
    found = list(cells.values())
    load = column("streams" if len(streams) > 1 else "depth", found,
                  lambda job: f"{job.concurrency if len(streams) > 1 else job.depth:,}")  # fmt: skip
    return Table(
        caption="",
        columns=(
            load,
            *([column("best setting", found, lambda job: names[job.job_id], right=False)] if names else []),
            column("vanilla tok/s", found, lambda job: figure(job.vanilla_speed, 1)),
            column("speculative tok/s", found, lambda job: figure(job.speculative_speed, 1)),
            column("speedup", found, speedup_words),
            column("", found, lambda job: job.verdict.words, right=False),
            column("first token p95 ms", found, lambda job: _waits(job, "first_token_p95_ms"), drop=1),
            column("next token p95 ms", found, lambda job: _waits(job, "between_tokens_p95_ms"), drop=2),
        ),
    )


def _speedup_at(cells: Mapping[Workload, Comparison], names: Mapping[str, str], streams: int, depth: int) -> str | None:
    """`1.52×▲ n_draft 8`; the setting where several have `names`."""
    job = cells.get((depth, streams))
    return None if job is None else f"{_sign(job)} {names.get(job.job_id, '')}".rstrip()


def _sign(job: Comparison) -> str:
    return f"{number(best_estimate(job))}×{VERDICT_SIGNS[job.verdict]}"


def _waits(job: Comparison, name: str) -> str | None:
    """`vanilla → speculative`, where both are known."""
    waits = [getattr(latency, name) for latency in (job.vanilla_latency, job.speculative_latency) if latency]
    return " → ".join(f"{wait:,.0f}" for wait in waits) if len(waits) == 2 else None
