"""What a person reads before a sweep: its configuration in the specification's words, or its plan."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from velosweep import __version__
from velosweep.config.flags import as_typed
from velosweep.config.settings import Job, RunSettings
from velosweep.measuring.prepare import Prepared
from velosweep.planning.job_names import names_of_jobs
from velosweep.planning.job_settings import CORE, N_DRAFT
from velosweep.planning.lane_queue import predicted_s
from velosweep.planning.measurements import count_measurements
from velosweep.planning.server_groups import ServerGroup, builds_apart
from velosweep.reporting.console import QUIET, say
from velosweep.reporting.escaping import clip
from velosweep.reporting.table import Table, column, print_table
from velosweep.reporting.wording import duration, percent
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console

TITLE = "=== VeloLLM Speculative Decoding Benchmark ==="
_SYNTHETIC_NOTE = (
    "The model pair is synthetic: random weights of a real architecture, so times and acceptance are real and "
    "text is not. Name your own with model_pair.main_model=… model_pair.draft_model=…"
)


def print_start(
    prepared: Prepared,
    groups: Sequence[ServerGroup],
    settings: RunSettings,
    console: "Console",
    *,
    command: Sequence[str] = (),
    single: bool,
    done: int,
) -> None:
    """The specification's heading and Configuration block, remarks on it, and how much was measured before (`done`).

    Nothing when quiet. What varies over a sweep is listed. Keys are said as the flags that `command` took.
    """
    if settings.verbosity <= QUIET:
        return
    jobs = prepared.jobs
    say(console, TITLE if single else f"velosweep {__version__}", style="bold")
    say(console)
    say(console, "Configuration:")
    for name, value in _configuration(prepared, settings, single=single).items():
        if value:
            say(console, f"{name}: {as_typed(value, command) if name == 'Engine' else value}", indent=2)
    if any(job.model_pair.synthetic for job in jobs):
        say(console, as_typed(_SYNTHETIC_NOTE, command), style="yellow", indent=2)
    for text in _remarks(prepared, groups, settings):
        say(console, f"⚠️ {as_typed(text, command)}", style="yellow", indent=2)
    say(console)
    if 0 < done < (at_most := sum(map(count_measurements, groups))):
        say(console, f"Resuming: {done} of at most {at_most} measurements are already there")
    if single and settings.tuner is None:  # as the specification shows it; here the two take turns
        if not jobs[0].skip_vanilla:
            say(console, "🔹 Running vanilla inference benchmark...")
        if jobs[0].speculation.kinds:
            say(console, "🔸 Running speculative inference benchmark...")


def _remarks(prepared: Prepared, groups: Sequence[ServerGroup], settings: RunSettings) -> Iterator[str]:
    yield from prepared.warnings
    if builds_apart(groups):
        why = "each has a search of its own" if settings.tuner else "the servers of all of them do not fit at once"
        yield (
            f"The builds of llama.cpp are measured one after the other ({why}): a drift of the machine in between "
            "counts as a difference between them"
        )


def _configuration(prepared: Prepared, settings: RunSettings, *, single: bool) -> dict[str, str]:
    """What is measured, by name; empty for what need not be said."""
    jobs, environment = prepared.jobs, prepared.environment

    def each(word_of: Callable[[Job], str]) -> str:
        return ", ".join(dict.fromkeys(word_of(job) for job in jobs))

    kinds = each(lambda job: "+".join(job.speculation.kinds) or "none")
    asked = each(lambda job: "chat, by the model's template" if job.prompts.chat else "raw text")
    names = names_of_jobs(jobs)
    further = [key for key in names.keys if key not in CORE]
    return {
        "Main model": each(lambda job: _model(job.model_pair.main_model, job)),
        "Draft model": each(lambda job: _model(job.model_pair.draft_model, job)),
        "n_draft": ", ".join(dict.fromkeys(str(job.n_draft) for job in jobs if job.speculation.kinds)),
        "n_predict": each(lambda job: str(job.n_predict)),
        "Iterations": "as many as the search needs" if settings.tuner else each(_iterations),
        "Prompt": each(_prompt),
        "Asked as": ": ".join(filter(None, (asked, "; ".join(prepared.raw_text)))),
        "Speculation": "" if kinds == "draft" else kinds,
        **{names.titles[key]: ", ".join(dict.fromkeys(names.texts[key].values())) for key in further},
        "Engine": f"{environment.engine}, {environment.llama_cpp_build} ({'; '.join(prepared.reasons)})",
        "Runs on": "; ".join(dict.fromkeys(lane.label for lane in prepared.lanes)),
        "Settings": "" if single else str(len(jobs)),
    }


def _model(path: str | None, job: Job) -> str:
    if not path and job.engine.kind == "attached" and job.speculation.kinds:
        return "as the server was started"
    return path or "none"


def _iterations(job: Job) -> str:
    if adaptive := job.protocol.adaptive:
        return f"{adaptive.min_pairs} to {adaptive.max_pairs}, until ±{percent(adaptive.target)}"
    launches = f" over {job.protocol.launches} launches" if job.protocol.launches > 1 else ""
    return f"{job.protocol.iterations + sum(job.added)}{launches}"


def _prompt(job: Job) -> str:
    prompts = job.prompts.prompts
    return clip(prompts[0].text, 200) if len(prompts) == 1 else f"{job.prompts.name} ({len(prompts)} prompts)"


def print_plan(
    prepared: Prepared,
    groups: Sequence[ServerGroup],
    settings: RunSettings,
    console: "Console",
    command: Sequence[str] = (),
) -> None:
    """What would run (`dry_run=true`): jobs, servers, loads, measurements at most, estimated time; and warnings.

    Under a search the jobs are its candidates, and how often each is measured is not known beforehand.
    """
    jobs, lanes = prepared.jobs, prepared.lanes
    names = names_of_jobs(jobs)
    say(console, "Plan (nothing is run):", style="bold")
    if search := settings.tuner:
        # The grid's count is no bound: a close search may repeat its last candidates more often than `iterations` says.
        limit = (
            "without a time limit" if search.budget_s is None else f"within {duration(search.budget_s)} of measuring"
        )
        aim = f"A search for the fastest of {plural(len(jobs), 'setting')}, to {percent(search.tolerance)}, {limit}"
        rounds = f"it measures what it needs to be sure, over {search.max_rounds} rounds at most"
        say(console, f"{aim}: {rounds}", indent=2)
        say(console, "The whole grid, which a search seldom needs:", indent=2)
    counts = [
        plural(len(jobs), "setting"),
        plural(len({server.id for group in groups for server in group.servers}), "server"),
        plural(sum(len(group.servers) * group.jobs[0].protocol.launches for group in groups), "load"),
        plural(sum(map(count_measurements, groups)), "run"),
    ]
    say(console, f"{', '.join(counts)} on {plural(len(lanes), 'lane')}", indent=2)
    sizes = [prepared.model_bytes(group.jobs[0].model_pair.main_model) for group in groups]
    on_gpu = any(not lane.on_cpu for lane in lanes)
    seconds = sum(predicted_s(group, size, on_gpu=on_gpu) for group, size in zip(groups, sizes, strict=True))
    guess = f"roughly {duration(seconds / len(lanes))}" if all(sizes) else "unknown (the models' sizes are not known)"
    say(console, f"Estimated time: {guess}", indent=2)
    for group in groups if not settings.tuner else ():  # of a search each round loads what it needs
        servers = "; ".join(
            names.vanilla[job.id] if server == group.vanilla else names.labels[job.id]
            for server, job in group.servers_with_jobs
        )
        at_most = " at most" if any(job.protocol.adaptive for job in group.jobs) else ""
        say(console, f"Loaded together{at_most}: {servers}", indent=2)
    say(console)
    columns = [column("setting", jobs, lambda job: str(job.num))]
    for key in dict.fromkeys([*names.keys, N_DRAFT]):
        columns.append(column(names.titles[key], [names.texts[key][job.id] for job in jobs], str, right=key == N_DRAFT))
    columns.append(column("iterations", jobs, _iterations, drop=1))
    print_table(Table(caption="Jobs of the plan", columns=tuple(columns)), console)
    for text in _remarks(prepared, groups, settings):
        say(console, f"⚠️ {as_typed(text, command)}", style="yellow")
