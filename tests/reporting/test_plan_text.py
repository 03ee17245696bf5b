from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.measuring.headers import header
from tests.planning.jobs import of_builds
from tests.reporting import planned, sweeps
from velosweep.config.settings import Job, RunSettings, SyntheticShape, TunerSettings
from velosweep.measuring.prepare import Prepared
from velosweep.planning.server_groups import plan_with_earlier
from velosweep.reporting.console import make_console
from velosweep.reporting.plan_text import print_plan, print_start
from velosweep.values import Device, Lane


def prepared(jobs: Sequence[Job]) -> Prepared:
    """The sweep's jobs on one CPU lane, with a main model of 1 GB."""
    return Prepared(
        jobs=jobs,
        lanes=(Lane(number=0, devices=(Device(kind="cpu", name="CPU"),)),),
        environment=sweeps.default_sweep().record.environment,
        engines={},
        reasons=("found",),
        headers={planned.MAIN: header(1_000_000_000, None)},
        warnings=("More threads than cores",),
    )


def started(jobs: Sequence[Job], settings: RunSettings | None = None, *, done: int = 0) -> str:
    """What is printed before the sweep."""
    out = io.StringIO()
    groups, console = (planned.group(jobs),), make_console(out)
    print_start(prepared(jobs), groups, settings or RunSettings(), console, single=len(jobs) == 1, done=done)
    return out.getvalue()


def test_who_gave_flags_reads_them_in_the_configuration() -> None:
    of, out = replace(prepared(planned.jobs()), reasons=("llama_cpp.path=/opt/llama.cpp",)), io.StringIO()
    groups = (planned.group(planned.jobs()),)

    print_start(
        of, groups, RunSettings(), make_console(out), command=("velosweep", "run", "-l", "x"), single=True, done=0
    )

    assert "(--llama-server /opt/llama.cpp)\n" in out.getvalue()


def plan(of: Prepared, jobs: Sequence[Job], settings: RunSettings | None = None) -> str:
    """What is printed in a dry run."""
    out = io.StringIO()
    print_plan(of, (planned.group(jobs),), settings or RunSettings(), make_console(out))
    return out.getvalue()


def test_the_configuration_block_is_the_specifications_with_engine_lanes_and_warnings() -> None:
    assert started(planned.jobs()) == (
        "=== VeloLLM Speculative Decoding Benchmark ===\n"
        "\n"
        "Configuration:\n"
        "  Main model: /models/llama-3.1-8b-q4_k_m.gguf\n"
        "  Draft model: /models/llama-3.2-1b-q4_k_m.gguf\n"
        "  n_draft: 8\n"
        "  n_predict: 100\n"
        "  Iterations: 5\n"
        "  Prompt: Explain quantum computing in simple terms\n"
        "  Asked as: raw text\n"
        "  Engine: embedded, b7130 (9ea3f2c1) (found)\n"
        "  Runs on: CPU\n"
        "  ⚠️ More threads than cores\n"
        "\n"
        "🔹 Running vanilla inference benchmark...\n"
        "🔸 Running speculative inference benchmark...\n"
    )


def test_raw_text_that_nobody_asked_for_is_said_with_its_reason() -> None:
    of, out = replace(prepared(planned.jobs()), raw_text=("engine=binaries applies no chat template",)), io.StringIO()
    print_start(of, (planned.group(planned.jobs()),), RunSettings(), make_console(out), single=True, done=0)

    assert "  Asked as: raw text: engine=binaries applies no chat template\n" in out.getvalue()


def test_the_headings_of_a_single_jobs_runs_are_no_sweeps_and_of_no_search() -> None:
    assert "Running" not in started(planned.jobs((4, 8)))
    assert "Running" not in started(planned.jobs(), RunSettings(tuner=TunerSettings()))


def test_what_varies_over_a_sweep_is_listed() -> None:
    said = started(planned.jobs((4, 8, 12), prompts=3))

    assert "  n_draft: 4, 8, 12\n" in said
    assert "  Prompt: default (3 prompts)\n" in said
    assert "  Settings: 3\n" in said


def test_without_speculation_there_is_no_n_draft_and_no_draft_model() -> None:
    jobs = planned.jobs()
    pair = replace(jobs[0].model_pair, draft_model=None, synthetic=SyntheticShape())
    plain = [replace(job, model_pair=pair, speculation=replace(job.speculation, kinds=())) for job in jobs]

    assert "n_draft" in started(jobs)
    assert "n_draft" not in started(plain)
    assert "  Draft model: none\n" in started(plain)


def test_an_adaptive_protocol_says_its_bounds_and_a_search_says_no_iterations() -> None:
    assert "  Iterations: 6 to 60, until ±1 %\n" in started(planned.jobs(adaptive=True))
    assert "  Iterations: as many as the search needs\n" in started(planned.jobs(), RunSettings(tuner=TunerSettings()))


@pytest.mark.parametrize(
    ("done", "said"), [(0, ""), (4, "Resuming: 4 of at most 15 measurements are already there\n"), (15, "")]
)
def test_a_resumed_sweep_says_what_is_there_already(done: int, said: str) -> None:
    assert started(planned.jobs((4, 8)), done=done).rpartition("\n\n")[2] == said


def test_quiet_says_no_configuration() -> None:
    assert started(planned.jobs(), RunSettings(verbosity=-1), done=4) == ""


def test_a_plan_counts_servers_loads_and_measurements() -> None:
    jobs = planned.jobs((4, 8, 12), iterations=5, prompts=2)

    said = plan(prepared(jobs), jobs)

    assert "3 settings, 4 servers, 4 loads, 40 runs on 1 lane" in said
    assert "Estimated time: roughly 7 min" in said
    assert "Loaded together: vanilla; n_draft 4; n_draft 8; n_draft 12" in said
    assert said.endswith("⚠️ More threads than cores\n")


def test_the_plan_of_a_search_says_its_limit_and_that_the_grid_is_more_than_it_needs() -> None:
    jobs = planned.jobs()

    said = plan(prepared(jobs), jobs, RunSettings(tuner=TunerSettings(budget_s=600, max_rounds=12)))

    assert "A search for the fastest of 1 setting, to 1 %, within 10 min of measuring" in said
    assert "over 12 rounds at most" in said
    assert said.index("The whole grid, which a search seldom needs:") < said.index(" runs on 1 lane")


def test_no_time_is_guessed_without_the_models_sizes() -> None:
    jobs = planned.jobs()

    assert "Estimated time: unknown" in plan(replace(prepared(jobs), headers={}), jobs)


@pytest.mark.parametrize(
    ("room", "tuner", "why"), [(8, None, ""), (3, None, "fit at once"), (3, TunerSettings(), "own")]
)
def test_builds_that_are_measured_one_after_the_other_are_said_with_the_reason(
    room: int, tuner: TunerSettings | None, why: str
) -> None:
    jobs = of_builds(planned.jobs(), "old", "new")
    groups = plan_with_earlier(jobs, {}, lanes=1, resident_servers=lambda job: room)
    out = io.StringIO()
    of = replace(prepared(planned.jobs()), jobs=jobs)
    print_plan(of, groups, RunSettings(tuner=tuner), make_console(out))

    said = [line for line in out.getvalue().splitlines() if "builds of llama.cpp" in line]
    assert [why in line for line in said] == ([True] if why else [])
