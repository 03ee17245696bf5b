from __future__ import annotations

import io
from dataclasses import replace

from tests.reporting import planned, sweeps
from velosweep.config.settings import TunerSettings
from velosweep.records import ModelFile
from velosweep.reporting.console import make_console
from velosweep.reporting.plan_text import configuration_lines, estimated_s, print_configuration, print_plan
from velosweep.values import Device, Lane


def model(size_bytes: int) -> ModelFile:
    return ModelFile(path=planned.MAIN, size_bytes=size_bytes, fingerprint="")


CPU = (Lane(number=0, devices=(Device(kind="cpu", name="CPU"),)),)


def test_the_configuration_block_is_the_specifications() -> None:
    out = io.StringIO()

    print_configuration(planned.sweep(), console=make_console(out))

    assert out.getvalue() == (
        "=== VeloLLM Speculative Decoding Benchmark ===\n"
        "\n"
        "Configuration:\n"
        "  Main model: /models/llama-3.1-8b-q4_k_m.gguf\n"
        "  Draft model: /models/llama-3.2-1b-q4_k_m.gguf\n"
        "  n_draft: 8\n"
        "  n_predict: 100\n"
        "  Iterations: 5\n"
        "  Prompt: Explain quantum computing in simple terms\n"
        "\n"
    )


def test_what_varies_over_a_sweep_is_listed() -> None:
    lines = dict(configuration_lines(planned.sweep((4, 8, 12), prompts=3), lanes=CPU, engine_note="embedded"))

    assert lines["n_draft"] == "4, 8, 12"
    assert lines["Prompt"] == "default (3 prompts)"
    assert lines["Jobs"] == "3"
    assert lines["Engine"] == "embedded"


def test_an_adaptive_protocol_says_its_bounds() -> None:
    lines = dict(configuration_lines(planned.sweep(adaptive=True)))

    assert lines["Iterations"] == "6 to 60, until ±1 %"


def test_a_search_says_no_iterations_and_notes_come_last() -> None:
    out = io.StringIO()

    print_configuration(planned.sweep(), searching=True, notes=("one", "two"), console=make_console(out))

    assert "  Iterations: as many as the search needs\n" in out.getvalue()
    assert out.getvalue().endswith("  one\n  two\n\n")


def test_quiet_says_no_configuration() -> None:
    out = io.StringIO()

    print_configuration(planned.sweep(), console=make_console(out), verbosity=-1)

    assert out.getvalue() == ""


def test_a_plan_counts_servers_loads_and_measurements() -> None:
    sweep = planned.sweep((4, 8, 12), iterations=5, prompts=2)
    blocks = (planned.group(sweep),)
    out = io.StringIO()

    environment = replace(sweeps.default_sweep().record.environment, models=(model(1_000_000_000),))

    print_plan(sweep, blocks, lanes=CPU, environment=environment, console=make_console(out))

    assert "3 jobs, 4 servers, 4 loads, 40 measurements on 1 lane" in out.getvalue()
    assert "Estimated time: roughly 7 min" in out.getvalue()
    assert "loaded together: vanilla, n_draft 4, n_draft 8, n_draft 12" in out.getvalue()


def test_the_plan_of_a_search_says_its_limit_and_that_the_grid_is_more_than_it_needs() -> None:
    out = io.StringIO()
    sweep = planned.sweep()
    search = TunerSettings(budget_s=600, max_rounds=12)

    print_plan(sweep, (planned.group(sweep),), lanes=CPU, search=search, console=make_console(out))

    said = out.getvalue()
    assert "A search for the fastest of 1 candidate, to 1 %, within 10 min of measuring" in said
    assert "over 12 rounds at most" in said
    assert said.index("The whole grid, which a search seldom needs:") < said.index("measurements")


def test_no_time_is_guessed_without_the_models_sizes() -> None:
    assert estimated_s((planned.group(planned.sweep()),), lanes=CPU) is None
