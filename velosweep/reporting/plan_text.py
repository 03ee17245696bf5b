"""What a person reads before a sweep: its configuration in the specification's words, or its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from velosweep.config.settings import Job, Sweep, TunerSettings
from velosweep.planning.lane_queue import predicted_s
from velosweep.planning.server_groups import ServerGroup, count_measurements
from velosweep.records import Environment
from velosweep.reporting.console import NORMAL, QUIET, say, say_lines, width_of
from velosweep.reporting.escaping import clip
from velosweep.reporting.table import Table, column, terminal_lines
from velosweep.reporting.wording import duration, percent
from velosweep.units import plural
from velosweep.values import Lane

if TYPE_CHECKING:
    from rich.console import Console

TITLE = "=== VeloLLM Speculative Decoding Benchmark ==="


def print_configuration(
    sweep: Sweep,
    *,
    lanes: Sequence[Lane] = (),
    engine_note: str | None = None,
    notes: Sequence[str] = (),
    searching: bool = False,
    console: Console,
    verbosity: int = NORMAL,
) -> None:
    """The specification's heading and Configuration block; nothing when quiet.

    `notes`: remarks on the models, below it. `searching`: a search decides how many iterations there are.
    """
    if verbosity <= QUIET:
        return
    say(console, TITLE, style="bold")
    say(console)
    say(console, "Configuration:")
    for name, value in configuration_lines(sweep, lanes=lanes, engine_note=engine_note, searching=searching):
        say(console, f"{name}: {value}", indent=2)
    for note in notes:
        say(console, note, style="yellow", indent=2)
    say(console)


def configuration_lines(
    sweep: Sweep, *, lanes: Sequence[Lane] = (), engine_note: str | None = None, searching: bool = False
) -> list[tuple[str, str]]:
    """Names and values of the Configuration block; what varies over a sweep is listed."""

    def each(word_of: Callable[[Job], str]) -> str:
        return ", ".join(dict.fromkeys(word_of(job) for job in sweep.jobs))

    lines = [
        ("Main model", each(lambda job: _model(job.model_pair.main_model, job))),
        ("Draft model", each(lambda job: _model(job.model_pair.draft_model, job))),
        ("n_draft", each(lambda job: str(job.n_draft))),
        ("n_predict", each(lambda job: str(job.n_predict))),
        ("Iterations", "as many as the search needs" if searching else each(_iterations)),
        ("Prompt", each(_prompt)),
    ]
    kinds = each(lambda job: "+".join(job.speculation.kinds) or "none")
    if kinds != "draft":
        lines.append(("Speculation", kinds))
    if engine_note:
        lines.append(("Engine", engine_note))
    if lanes:
        lines.append(("Lanes", "; ".join(f"{lane.number}: {lane.label}" for lane in lanes)))
    if not sweep.single:
        lines.append(("Jobs", str(len(sweep.jobs))))
    return lines


def _model(path: str | None, job: Job) -> str:
    if path:
        return path
    return f"synthetic ({job.model_pair.name})" if job.model_pair.synthetic else "none"


def _iterations(job: Job) -> str:
    adaptive = job.protocol.adaptive
    if adaptive:
        return f"{adaptive.min_pairs} to {adaptive.max_pairs}, until ±{percent(adaptive.target)}"
    launches = f" over {job.protocol.launches} launches" if job.protocol.launches > 1 else ""
    return f"{job.protocol.iterations}{launches}"


def _prompt(job: Job) -> str:
    prompts = job.prompts.prompts
    return clip(prompts[0].text, 200) if len(prompts) == 1 else f"{job.prompts.name} ({len(prompts)} prompts)"


# ---------------------------------------------------------------- the plan of a dry run


def print_plan(
    sweep: Sweep,
    groups: Sequence[ServerGroup],
    *,
    lanes: Sequence[Lane] = (),
    environment: Environment | None = None,
    search: TunerSettings | None = None,
    warnings: Iterable[str] = (),
    console: Console,
) -> None:
    """What would run (`dry_run=true`): jobs, servers, loads, measurements at most, estimated time.

    `search`: the jobs are a search's candidates, and how often each is measured is not known beforehand.
    """
    say(console, "Plan (nothing is run):", style="bold")
    if search is not None:
        for line in _search_lines(search, len(sweep.jobs)):
            say(console, line, indent=2)
    counts = [
        plural(len(sweep.jobs), "job"),
        plural(len({server.id for group in groups for server in group.servers}), "server"),
        plural(sum(len(group.servers) * group.jobs[0].protocol.launches for group in groups), "load"),
        plural(sum(count_measurements(group) for group in groups), "measurement"),
    ]
    say(console, f"{', '.join(counts)} on {plural(max(len(lanes), 1), 'lane')}", indent=2)
    seconds = estimated_s(groups, lanes=lanes, environment=environment)
    guess = "unknown (the models' sizes are not known)" if seconds is None else f"roughly {duration(seconds)}"
    say(console, f"Estimated time: {guess}", indent=2)
    for group in groups:
        servers = ", ".join(server.label for server in group.servers)
        at_most = " at most" if any(job.protocol.adaptive for job in group.jobs) else ""
        say(console, f"Block {group.number}, loaded together{at_most}: {servers}", indent=2)
    say(console)
    say_lines(console, terminal_lines(_plan_table(sweep.jobs), width=width_of(console)))
    for warning in warnings:
        say(console, f"⚠️ {warning}", style="yellow")


def _plan_table(jobs: Sequence[Job]) -> Table:
    columns = (
        column("job", jobs, lambda job: str(job.num)),
        column("pair", jobs, lambda job: job.model_pair.name, right=False),
        column("n_draft", jobs, lambda job: str(job.n_draft)),
        column("n_predict", jobs, lambda job: str(job.n_predict), drop=1),
        column("iterations", jobs, _iterations, drop=2),
        column("prompts", jobs, lambda job: clip(_prompt(job), 40), right=False, drop=3),
    )
    return Table(caption="Jobs of the plan", columns=columns)


def _search_lines(search: TunerSettings, candidates: int) -> tuple[str, ...]:
    # The grid's count is no bound: a close search may repeat its last candidates more often than `iterations` says.
    budget = "without a time limit" if search.budget_s is None else f"within {duration(search.budget_s)} of measuring"
    return (
        f"A search for the fastest of {plural(candidates, 'candidate')}, to {percent(search.tolerance)}, {budget}: it "
        f"measures what it needs to be sure, over {search.max_rounds} rounds at most",
        "The whole grid, which a search seldom needs:",
    )


def estimated_s(
    groups: Iterable[ServerGroup], *, lanes: Sequence[Lane] = (), environment: Environment | None = None
) -> float | None:
    """A rough guess of the duration from the models' sizes, None where a size is not known."""
    sizes = {model.path: model.size_bytes for model in environment.models} if environment else {}
    on_gpu = any(not lane.on_cpu for lane in lanes)
    seconds = 0.0
    for group in groups:
        size = sizes.get(group.jobs[0].model_pair.main_model)
        if size is None:
            return None
        seconds += predicted_s(group, size, on_gpu=on_gpu)
    return seconds / max(len(lanes), 1)
