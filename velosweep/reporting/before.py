"""What a person reads before a sweep: its configuration in the specification's words, or its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from velosweep.config.settings import Job, Sweep, TunerSettings
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.server_groups import ServerGroup
from velosweep.records import Environment
from velosweep.reporting.safe import clip
from velosweep.reporting.screen import NORMAL, QUIET, Column, say, say_all, table_lines, width_of
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

    `notes`: what is to be known of the models, below it. `searching`: the search decides how often is measured.
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
    jobs = sweep.jobs
    lines = [
        ("Main model", _each(jobs, lambda job: _model(job.model_pair.main_model, job))),
        ("Draft model", _each(jobs, lambda job: _model(job.model_pair.draft_model, job))),
        ("n_draft", _each(jobs, lambda job: str(job.n_draft))),
        ("n_predict", _each(jobs, lambda job: str(job.n_predict))),
        ("Iterations", "as many as the search needs" if searching else _each(jobs, _iterations)),
        ("Prompt", _each(jobs, _prompt)),
    ]
    kinds = _each(jobs, lambda job: "+".join(job.speculation.kinds) or "none")
    if kinds != "draft":
        lines.append(("Speculation", kinds))
    if engine_note:
        lines.append(("Engine", engine_note))
    if lanes:
        lines.append(("Lanes", "; ".join(f"{lane.number}: {lane.label}" for lane in lanes)))
    if not sweep.single:
        lines.append(("Jobs", str(len(jobs))))
    return lines


def _each(jobs: Iterable[Job], word_of: Callable[[Job], str]) -> str:
    return ", ".join(dict.fromkeys(word_of(job) for job in jobs))


def _model(path: str | None, job: Job) -> str:
    if path:
        return path
    return f"synthetic ({job.model_pair.name})" if job.model_pair.synthetic else "none"


def _search_lines(search: TunerSettings, candidates: int) -> tuple[str, ...]:
    # The grid's count is no bound: a close race may repeat its last candidates more often than `iterations` says.
    budget = "without a time limit" if search.budget_s is None else f"within {duration(search.budget_s)} of measuring"
    return (
        f"A search for the fastest of {plural(candidates, 'candidate')}, to {percent(search.tolerance)}, {budget}: it "
        f"measures what it needs to be sure, over {search.max_rounds} rounds at most",
        "The whole grid, which a search seldom needs:",
    )


def _iterations(job: Job) -> str:
    adaptive = job.protocol.adaptive
    if adaptive:
        return f"{adaptive.min_pairs} to {adaptive.max_pairs}, until ±{percent(adaptive.target)}"
    launches = f" over {job.protocol.launches} launches" if job.protocol.launches > 1 else ""
    return f"{job.protocol.iterations}{launches}"


def _prompt(job: Job) -> str:
    prompts = job.prompts.prompts
    return clip(prompts[0].text, 200) if len(prompts) == 1 else f"{job.prompts.name} ({len(prompts)} prompts)"


def print_plan(
    sweep: Sweep,
    groups: Sequence[ServerGroup],
    *,
    measurements: int | None = None,
    loads: int | None = None,
    lanes: Sequence[Lane] = (),
    estimated_s: float | None = None,
    search: TunerSettings | None = None,
    console: Console,
) -> None:
    """What would run (`dry_run=true`): jobs, servers, loads, measurements, estimated time.

    Counts not given are summed from the blocks; `estimated_s` also by this module's function of that name.
    `search`: the jobs are a search's candidates, of which nobody knows beforehand how often each is measured.
    """
    totals = plan_totals(groups)
    say(console, "Plan (nothing is run):", style="bold")
    if search is not None:
        for line in _search_lines(search, len(sweep.jobs)):
            say(console, line, indent=2)
    counts = [
        plural(len(sweep.jobs), "job"),
        plural(len({server.id for group in groups for server in group.servers}), "server"),
        plural(totals.loads if loads is None else loads, "load"),
        plural(totals.measurements if measurements is None else measurements, "measurement"),
    ]
    say(console, f"{', '.join(counts)} on {plural(max(len(lanes), 1), 'lane')}", indent=2)
    guess = "unknown (the models' sizes are not known)" if estimated_s is None else f"roughly {duration(estimated_s)}"
    say(console, f"Estimated time: {guess}", indent=2)
    for group in groups:
        servers = ", ".join(server.label for server in group.servers)
        upto = " at most" if any(job.protocol.adaptive for job in group.jobs) else ""
        say(console, f"Block {group.number}, loaded together{upto}: {servers}", indent=2)
    columns = [
        Column(title="job", cells=tuple(str(job.num) for job in sweep.jobs)),
        Column(title="pair", cells=tuple(job.model_pair.name for job in sweep.jobs), right=False),
        Column(title="n_draft", cells=tuple(str(job.n_draft) for job in sweep.jobs)),
        Column(title="n_predict", cells=tuple(str(job.n_predict) for job in sweep.jobs), sacrifice=1),
        Column(title="iterations", cells=tuple(_iterations(job) for job in sweep.jobs), sacrifice=2),
        Column(title="prompts", cells=tuple(clip(_prompt(job), 40) for job in sweep.jobs), right=False, sacrifice=3),
    ]
    say(console)
    say_all(console, table_lines(columns, width=width_of(console)))


# ---------------------------------------------------------------- sums of a plan


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanTotals:
    """How often servers are loaded, and how many runs are taken; adaptive jobs count at their maximum."""

    loads: int
    measurements: int


def plan_totals(groups: Iterable[ServerGroup]) -> PlanTotals:
    """Sums over the blocks. A kind that keeps state is loaded anew for each iteration."""
    loads = measurements = 0
    for group in groups:
        for server in group.servers:
            job = _job_of(group, server)
            iterations = most_iterations(job)
            fresh = server.speculation is not None and server.speculation.keeps_state
            loads += iterations if fresh else job.protocol.launches
            measurements += iterations * len(job.prompts.prompts)
    return PlanTotals(loads=loads, measurements=measurements)


def most_iterations(job: Job) -> int:
    """Iterations of a job over all its launches; an adaptive one may take its maximum in every launch."""
    protocol = job.protocol
    return protocol.adaptive.max_pairs * protocol.launches if protocol.adaptive else protocol.iterations


def _job_of(group: ServerGroup, server: ServerConfig) -> Job:
    """A job that the arm measures (any for the shared vanilla arm)."""
    return next((job for job, own in zip(group.jobs, group.speculative, strict=True) if own == server), group.jobs[0])


# Decoding reads every weight once a token, so that memory bandwidth bounds it. What is usual, for a rough guess
# before anything has been measured: speculation is reckoned to gain nothing.
_CPU_BYTES_PER_S = 10e9
_GPU_BYTES_PER_S = 600e9
_LOAD_BYTES_PER_S = 1e9
_OVERHEAD_S = 0.05  # a request's prompt and round trip


def estimated_s(
    groups: Iterable[ServerGroup], *, lanes: Sequence[Lane] = (), environment: Environment | None = None
) -> float | None:
    """A rough guess of the duration from the models' sizes, None where a size is not known."""
    sizes = {model.path: model.size_bytes for model in environment.models} if environment else {}
    gpu = any(device.kind != "cpu" for lane in lanes for device in lane.devices)
    bandwidth = _GPU_BYTES_PER_S if gpu else _CPU_BYTES_PER_S
    total = 0.0
    for group in groups:
        for server in group.servers:
            job, size = _job_of(group, server), sizes.get(server.main_model)
            if size is None:
                return None
            run_s = job.n_predict * size / bandwidth + _OVERHEAD_S
            runs = most_iterations(job) * len(job.prompts.prompts)
            total += runs * run_s + job.protocol.launches * (size / _LOAD_BYTES_PER_S + 1)
    return total / max(len(lanes), 1)
