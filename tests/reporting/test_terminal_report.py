from __future__ import annotations

import io
import os
import re
import socket
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.reporting import sweeps
from velosweep.errors import NothingMeasured
from velosweep.records import SearchCandidate, SearchRecord
from velosweep.reporting.console import make_console
from velosweep.reporting.deploy_formats import command_text
from velosweep.reporting.export import export
from velosweep.reporting.html import render_report
from velosweep.reporting.result_tables import detailed_job_table, summary_table, with_failed
from velosweep.reporting.sweep_answers import sweep_answers
from velosweep.reporting.table import terminal_lines
from velosweep.reporting.terminal_details import interval_plot
from velosweep.reporting.terminal_report import print_results
from velosweep.results.journal import sweep_lock
from velosweep.statistics.comparison import Comparison, Finding, ModeStatistics, RequestTimes, Statistics
from velosweep.values import Verdict


def shown(made: sweeps.MadeUp, *, verbosity: int = 0, console: Console | None = None, **ended: Any) -> str:
    out = io.StringIO()
    print_results(made, console=console or make_console(out), verbosity=verbosity, **ended)
    return out.getvalue()


def own_models(made: sweeps.MadeUp) -> sweeps.MadeUp:
    """The sweep as one of somebody's own models."""
    jobs = tuple(replace(job, synthetic=False) for job in made.record.jobs)
    return replace(made, record=replace(made.record, jobs=jobs))


def _stats(*values: float) -> Statistics:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Statistics(
        mean=statistics.fmean(values), stddev=spread, min=min(values), max=max(values), samples=tuple(values)
    )


def _specifications_job() -> Comparison:
    """The example of the specification, as far as it gives samples."""
    (job,) = sweeps.single_job().jobs
    vanilla = ModeStatistics(
        tokens_per_second=_stats(28.45, 28.32, 28.51, 28.39, 28.47),
        time_to_first_token_ms=_stats(232.22, 236.90),
        total_time_ms=_stats(3521, 3533, 3514, 3529, 3516),
    )
    speculative = ModeStatistics(
        tokens_per_second=_stats(67.23, 66.89, 67.45, 67.01, 67.32),
        time_to_first_token_ms=_stats(186.11, 192.35),
        total_time_ms=_stats(1488, 1496, 1483, 1493, 1486),
    )
    return replace(
        job, vanilla=vanilla, speculative=speculative, speedup=2.363, speedup_stddev=0.0097, speedup_gm=2.363
    )


def test_a_single_job_is_shown_in_the_specifications_words_and_layout() -> None:
    made = sweeps.single_job()

    text = shown(replace(made, comparisons=[_specifications_job()]))

    for line in (
        "=== Benchmark Results ===",
        "Vanilla Results:",
        "  Tokens/s:     28.43 ± 0.07 tok/s (min: 28.32, max: 28.51)",
        "  Total time:   3522.60 ± 8.20 ms",
        "Speculative Results:",
        "  Tokens/s:     67.18 ± 0.23 tok/s (min: 66.89, max: 67.45)",
        "=== Performance Comparison ===",
        "📊 Speedup: 2.36x ± 0.01x",
        "✅ Speculative decoding achieved target speedup (>1.5x)!",
        "💾 Results saved to: sweep",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(("skipped", "why"), [(True, "vanilla was skipped"), (False, "there is no valid vanilla run")])
@pytest.mark.parametrize("made", [sweeps.single_job(), sweeps.default_sweep()], ids=["single", "sweep"])
def test_a_vanilla_that_failed_is_not_said_to_have_been_skipped(made: sweeps.MadeUp, skipped: bool, why: str) -> None:
    rows = [replace(row, vanilla=None, speedup=None, speedup_gm=None, ci_low=None, ci_high=None)
            for row in made.comparisons]  # fmt: skip
    record = replace(made.record, jobs=tuple(replace(job, skip_vanilla=skipped) for job in made.record.jobs))

    text = shown(replace(made, comparisons=rows, record=record))

    assert f"No speedup known ({why})" in text
    assert ("vanilla was skipped" in text) is skipped
    if made is sweeps.single_job():
        assert f"No speedup: {why}" in text


def test_a_modest_speedup_gives_the_reasons_the_samples_show() -> None:
    text = shown(sweeps.modest(), verbosity=1)

    assert "Modest" not in text
    assert "- consider: " in text
    assert "only 11 % of the drafted tokens were accepted" in text


def test_a_sweep_ends_with_the_answer_its_table_and_what_to_do_next() -> None:
    lines = shown(sweeps.default_sweep()).splitlines()

    assert lines[1:5] == [
        "Run the synthetic draft, n_draft 4: 2.07× faster (44.2 → 91.4 tok/s). 95 % sure of 2.03 to 2.09×, by 5 pairs "
        "of runs.",
        "   n_draft  tok/s  speedup            accepted",
        "      none   44.2  1.00×",
        "▶        4   91.4  2.07× (2.03–2.09)      52 %  faster",
    ]
    assert [line.partition(":")[0] for line in lines[7:]] == ["Your own", "Report"]


def test_where_lines_are_few_the_settings_come_before_what_would_help() -> None:
    rows = [replace(row, ci_low=0.8, ci_high=1.1, speedup=0.9, speedup_gm=0.9, verdict=Verdict.NO_RELIABLE_GAIN)
            for row in sweeps.modest().comparisons]  # fmt: skip
    narrow = Console(file=io.StringIO(), width=44, force_terminal=True)
    wide = Console(file=io.StringIO(), width=400, force_terminal=True)
    for console in (narrow, wide):
        print_results(replace(sweeps.modest(), comparisons=rows), console=console)  # type: ignore[arg-type]
    told, whole = narrow.file.getvalue(), wide.file.getvalue()  # type: ignore[attr-defined]

    assert "Would help" in whole
    assert "Would help" not in told
    assert "further setting" not in told


def test_only_of_ones_own_models_the_command_is_printed() -> None:
    assert "Run it" in shown(own_models(sweeps.default_sweep()))
    assert "Your own" not in shown(own_models(sweeps.default_sweep()))
    assert "llama-server -m" not in shown(sweeps.default_sweep())


def _slow_to_begin(made: sweeps.MadeUp) -> sweeps.MadeUp:
    """The sweep as it is where prompts are read so slowly that a whole request gains little."""
    times = RequestTimes(
        prompt_tokens=2300, vanilla_ms=5000, speculative_ms=4500, prefill_ratio=0.4, prefill_low=0.3, prefill_high=0.5,
        total_ratio=1.1, total_low=1.0, total_high=1.2, breakeven_tokens=70,
    )  # fmt: skip
    return replace(made, comparisons=[replace(row, request=times) for row in made.comparisons])


def test_what_a_request_gains_is_said_where_it_is_less_than_decoding_gains() -> None:
    told = shown(_slow_to_begin(sweeps.default_sweep()))

    assert "whole answer 5.0 → 4.5 s; pays from 70 tokens on.\n" in told
    assert "First token" not in shown(sweeps.default_sweep())


def test_what_weakens_the_answer_stands_in_its_own_line_once() -> None:
    made = sweeps.default_sweep()
    findings = tuple(
        Finding(code=code, severity="warning", subject=subject, evidence=evidence)
        for code, subject, evidence in (
            ("machine_busy", "machine", {"busy_share": 0.9, "mean_busy_share": 0.8}),
            ("too_few_pairs", "pairs", {"pairs": 2}),
            ("wide_interval", "pairs", {"half_width": 0.3, "ratio": 2.0}),
            ("drift", "vanilla", {"drift": 0.05, "runs": 5, "p": 0.001}),
        )
    )
    rows = [replace(row, findings=findings, n_pairs=2) for row in made.comparisons]

    text = shown(replace(made, comparisons=rows))

    assert "Weak evidence: busy machine, only 2 pairs of runs, noisy runs.\n" in text
    assert "Surer:      close other programs, then velosweep more sweep --iterations 3\n" in text
    assert "drifted" not in text
    assert "(4 remarks: report sweep -v)" in text
    assert "Speed drifted by" in shown(replace(made, comparisons=rows), verbosity=1)


def test_a_sweep_that_was_shared_out_is_made_surer_by_its_launcher() -> None:
    made = sweeps.default_sweep()
    busy = Finding(code="machine_busy", severity="warning", subject="machine", evidence={"busy_share": 0.9})
    rows = [replace(row, findings=(busy,), n_pairs=2) for row in made.comparisons]

    text = shown(replace(made, comparisons=rows, record=replace(made.record, shared_out=True)))

    assert "Surer:      close other programs, then the same command with iterations=5\n" in text


def test_an_interrupted_sweep_is_told_once_to_go_on_and_not_to_add_rounds() -> None:
    made = sweeps.default_sweep()
    busy = Finding(code="machine_busy", severity="warning", subject="machine", evidence={"busy_share": 0.9})
    rows = [replace(row, findings=(busy,)) for row in made.comparisons]
    jobs = (*made.record.jobs[:-1], replace(made.record.jobs[-1], state="pending"))

    text = shown(replace(made, comparisons=rows, record=replace(made.record, jobs=jobs)))

    assert "Weak evidence: busy machine" in text
    assert text.count("Go on with: velosweep resume sweep\n") == 1
    assert "Surer" not in text


@pytest.mark.parametrize("measured", [True, False])
def test_a_sweep_that_is_being_measured_is_called_that_and_not_to_be_resumed(tmp_path: Path, measured: bool) -> None:
    made = sweeps.default_sweep()
    jobs = (*made.record.jobs[:-1], replace(made.record.jobs[-1], state="pending"))
    made = replace(made, root=tmp_path, record=replace(made.record, jobs=jobs))
    made = made if measured else replace(made, comparisons=[], samples=made.samples.slice(0, 0))

    with sweep_lock(tmp_path / "lock"):
        running = shown(made)
    ended = shown(made)

    assert f"process {os.getpid()} on {socket.gethostname()}" in running
    assert "velosweep resume" not in running
    assert f"velosweep resume {tmp_path}" in ended


def test_a_note_that_a_killed_process_left_is_no_running_sweep(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock.json").write_text('{"pid": 1, "host": "here"}')
    made = replace(sweeps.default_sweep(), root=tmp_path)

    assert "Running" not in shown(made)
    assert "Running" not in shown(made)  # and looking changed nothing


@pytest.mark.parametrize(("width", "settings"), [(80, 9), (120, 9), (80, 36)])
def test_on_a_terminal_the_end_is_a_dozen_lines_however_they_wrap(width: int, settings: int) -> None:
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=tuple(range(2, 2 + settings)), prompts=1, iterations=5)
    busy = Finding(code="machine_busy", severity="warning", subject="machine", evidence={"busy_share": 0.9})
    rows = [replace(row, findings=(busy, *row.findings)) for row in made.comparisons]
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False, markup=False)

    shown(replace(made, comparisons=rows), console=console)

    assert sum(-(-len(line.rstrip()) // width) for line in out.getvalue().splitlines()) <= 12  # blank ones are none
    assert " further settings, " in out.getvalue()


def test_a_mean_that_would_refute_the_ratio_of_the_pairs_is_not_shown_beside_it() -> None:
    made = sweeps.default_sweep()
    rows = [replace(row, speedup_gm=0.9, ci_low=0.7, ci_high=1.1) if row.n_draft == 8 else row
            for row in made.comparisons]  # fmt: skip

    text = shown(replace(made, comparisons=rows))

    (row,) = (line for line in text.splitlines() if line.split()[:1] == ["8"])
    assert row.split()[1] == "0.90×"


@pytest.mark.parametrize("width", [80, 120])
def test_two_main_models_of_many_settings_end_in_a_dozen_lines_and_with_the_faster_one(width: int) -> None:
    pairs = [replace(sweeps.THREE_PAIRS[0], name=f"{rate}", main=f"/models/main-{rate}.gguf", vanilla_rate=rate)
             for rate in (60.0, 90.0)]  # fmt: skip
    made = own_models(sweeps.make(pairs, n_drafts=tuple(range(1, 19)), prompts=1, iterations=5))
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False, markup=False)

    shown(made, console=console)

    text = out.getvalue()
    assert sum(-(-len(line.rstrip()) // width) for line in text.splitlines()) <= 12  # blank ones are none
    assert "Fastest of all: 90.0, " in " ".join(text.split())
    assert "Run it:     velosweep serve sweep " in text
    assert "main-90.0.gguf" in command_text(made.comparisons, made.record).splitlines()[0]


def test_what_to_run_next_names_the_sweep_that_is_shown_and_the_latest_as_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = sweeps.default_sweep()
    weak = [replace(row, findings=(Finding(code="machine_busy", severity="warning", subject="machine",
            evidence={"busy_share": 0.9}),)) for row in made.comparisons]  # fmt: skip
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.json").write_text("{}")
        os.utime(tmp_path / name / "sweep.json", (0, len(name) if name == "old" else 9))

    old, new = (shown(replace(made, comparisons=weak, root=tmp_path / name)) for name in ("old", "new"))

    assert "velosweep more old --iterations" in old
    assert "velosweep more last --iterations" in new


@pytest.mark.parametrize("settings", [1, 3, 8, 12])
def test_the_end_of_a_sweep_is_a_dozen_lines_whatever_was_found(settings: int) -> None:
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=tuple(range(2, 2 + settings)), prompts=1, iterations=5)
    busy = Finding(code="machine_busy", severity="warning", subject="machine", evidence={"busy_share": 0.9})
    made = _slow_to_begin(made)
    rows = [replace(row, findings=(busy, *row.findings)) for row in made.comparisons]
    last = replace(made.record.jobs[-1], id="failed", state="failed", error="no room")

    record = replace(made.record, jobs=(*made.record.jobs, last))
    text = shown(replace(made, comparisons=rows, record=record))

    assert len(text.splitlines()) <= 12
    assert ("further setting" in text) == (settings > 3)


def test_a_range_that_is_one_figure_is_told_once() -> None:
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=tuple(range(1, 13)), prompts=1, iterations=5)
    rows = [replace(row, speedup_gm=1.5) for row in made.comparisons]

    assert " further settings, 1.50×\n" in shown(replace(made, comparisons=rows))


def test_of_many_settings_the_best_are_shown_and_the_rest_counted_with_their_range() -> None:
    made = sweeps.make([sweeps.SYNTHETIC], n_drafts=tuple(range(1, 13)), prompts=1, iterations=5)
    values = sorted(row.speedup_gm or 0.0 for row in made.jobs)

    text = shown(made)

    assert f"further settings, {values[0]:.2f}× to " in text
    assert sum(line.endswith("faster") for line in text.splitlines()) == 12 - int(
        text.split(" further settings")[0].split()[-1]
    )


def test_a_large_speedup_of_something_slow_is_not_the_answer() -> None:
    fast, slow = (sweeps.make([pair], n_drafts=(4,), prompts=1, iterations=5) for pair in (
        replace(sweeps.SYNTHETIC, alpha=0.4), replace(sweeps.SYNTHETIC, vanilla_rate=10.0)))  # fmt: skip
    both = {"f16": slow, "q8_0": fast}
    rows = [
        replace(row, job_id=f"{name}{row.job_id}", settings={"engine.cache_type_k": name})
        for name, made in both.items()
        for row in made.comparisons
    ]
    jobs = tuple(replace(made.record.jobs[0], id=f"{name}job0", baseline_id=name) for name, made in both.items())

    text = shown(replace(fast, comparisons=rows, record=replace(fast.record, jobs=jobs)))

    assert "Run cache_type_k q8_0, n_draft 4: 1." in text
    assert [line.split()[:3] for line in text.splitlines() if line.split()[1:2] == ["none"]] == [
        ["f16", "none", "10.8"], ["q8_0", "none", "44.3"],
    ]  # fmt: skip


def _idle(made: sweeps.MadeUp, *job_ids: str) -> sweeps.MadeUp:
    """The sweep as it is where these jobs, of an n-gram kind, drafted nothing."""
    finding = Finding(code="nothing_drafted", severity="warning", subject="ngram-simple")
    return replace(made, comparisons=[
        replace(row, drafted=False, acceptance=None, speculation="ngram-simple", findings=(*row.findings, finding))
        if row.job_id in job_ids else row for row in made.comparisons
    ])  # fmt: skip


def test_a_job_that_drafted_nothing_says_so_in_its_row_with_the_remedy_and_is_not_the_answer() -> None:
    made = sweeps.default_sweep()
    best = max(made.jobs, key=lambda job: job.speedup_gm or 0)

    text = shown(_idle(made, best.job_id))

    (row,) = (line for line in text.splitlines() if line.split()[:1] == ["ngram-simple"])
    assert "drafted nothing" in row
    assert row.count("drafted") == 1
    assert "×" not in row  # vanilla was measured twice
    (advice,) = (line for line in " ".join(text.split("\n")).split("No drafts:")[1:])
    assert f"n_draft {best.n_draft}. " in advice
    assert "+speculation.parameters.ngram_simple.size_n=3" in advice
    assert f"Run draft model, n_draft {best.n_draft}:" not in text
    assert "Run draft model, n_draft" in text


def _vanilla_alone(made: sweeps.MadeUp, *depths: int) -> sweeps.MadeUp:
    """The sweep as `speculation=none` at these depths, at 57.3 tok/s and one less each."""

    def plain(row: Comparison, place: int) -> Comparison:
        assert row.vanilla is not None
        return replace(
            row, speculation="none", n_draft=0, draft_model=None, depth=depths[place], acceptance=None, decoding=None,
            speculative=None, speedup=None, speedup_gm=None, speedup_stddev=None, ci_low=None, ci_high=None,
            chosen_low=None, may_be_best=None, verdict=Verdict.NO_RELIABLE_GAIN,
            vanilla=replace(row.vanilla, tokens_per_second=_stats(57.3 - place)),
        )  # fmt: skip

    jobs = tuple(
        replace(job, speculation="none", n_draft=0, depth=depth, baseline_id=f"base-{depth}")
        for job, depth in zip(made.record.jobs, depths, strict=False)
    )
    rows = [plain(job, place) for place, job in enumerate(made.jobs[: len(depths)])]
    return replace(made, record=replace(made.record, jobs=jobs), comparisons=rows)


def test_where_nothing_was_to_be_drafted_the_speed_is_the_answer_and_no_row_has_a_speedup() -> None:
    made = _vanilla_alone(own_models(sweeps.default_sweep()), 0, 2000)

    text = shown(made)

    assert text.splitlines()[1:6] == [
        "depth 0: 57.3 tok/s without speculation.",
        "depth 2000: 56.3 tok/s without speculation.",
        "depth  tok/s",
        "0       57.3",
        "2000    56.3",
    ]
    assert "| 0 | 57.3 |" in export(made.comparisons, made.record, "md")
    assert "speedup" not in export(made.comparisons, made.record, "md")
    assert "drafted" not in export(made.comparisons, made.record, "json").partition('"results"')[0]
    assert "drafted" not in text
    with pytest.raises(NothingMeasured, match="nothing could be compared"):
        export(made.comparisons, made.record, "row")


def test_of_several_settings_without_speculation_the_fastest_is_named() -> None:
    made = _vanilla_alone(own_models(sweeps.default_sweep()), 0, 0)
    rows = [replace(row, settings={"engine.threads": place + 1}) for place, row in enumerate(made.jobs)]

    text = shown(replace(made, comparisons=rows))

    assert "\n57.3 tok/s without speculation, the fastest: threads 1.\n" in text


def test_where_nothing_was_drafted_at_all_the_answer_is_to_run_without_speculation() -> None:
    sweep, single = sweeps.default_sweep(), sweeps.single_job()

    for made in (sweep, single):
        text = shown(_idle(made, *(job.job_id for job in made.jobs)))

        assert "Nothing was drafted on these prompts, so there is nothing to gain: run without speculation" in text
        assert "llama-server -m" not in text
        assert "Modest speedup" not in text
        assert "Mean ratio" not in text


@pytest.mark.parametrize(("path", "told"), [("/nowhere", True), ("HERE", False)])
def test_who_has_no_llama_server_is_told_where_to_get_one(
    path: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama-server").write_text("")
    (tmp_path / "llama-server").chmod(0o755)
    monkeypatch.setenv("PATH", path.replace("HERE", str(tmp_path)))

    text = shown(own_models(sweeps.default_sweep()))

    about = " (llama-server is at github.com/ggml-org/llama.cpp/releases): " if told else ":     "
    assert f"Run it{about}llama-server -m" in text


def test_threads_that_nobody_asked_for_are_explained_beside_the_command() -> None:
    made = own_models(sweeps.default_sweep())

    def told(settings: dict[str, Any]) -> bool:
        arguments = ("-m", "main.gguf", "-t", "1")
        jobs = [replace(job, server_arguments=arguments, settings=settings) for job in made.record.jobs]
        return "-t as measured" in shown(replace(made, record=replace(made.record, jobs=tuple(jobs))))

    assert told({})
    assert not told({"engine.threads": 1})


def test_several_kinds_that_drafted_nothing_are_one_line() -> None:
    made = sweeps.default_sweep()
    made = _idle(made, *(job.job_id for job in made.jobs))
    first, *_ = made.jobs

    def other(row: Comparison) -> Comparison:
        findings = tuple(replace(finding, subject="ngram-mod") for finding in row.findings)
        return replace(row, speculation="ngram-mod", findings=findings) if row.job_id == first.job_id else row

    text = shown(replace(made, comparisons=[other(row) for row in made.comparisons]))

    (line,) = (line for line in text.splitlines() if line.startswith("No drafts:"))
    assert line == "No drafts:  ngram-mod; ngram-simple. Prompts whose answers repeat text may change that"


def test_what_a_search_did_not_choose_has_its_outcome_and_no_speedup_of_other_rounds() -> None:
    made = sweeps.default_sweep()
    winner, tie, slow = (job.job_id for job in sorted(made.jobs, key=lambda job: job.speedup_gm or 0))
    outcomes = {winner: "winner", tie: "may be as fast as the winner", slow: "slower: dropped in round 2"}
    rows = tuple(
        SearchCandidate(name=name, job_id=name, predicted=None, measured=3.0 - place, outcome=outcomes[name])
        for place, name in enumerate(outcomes)
    )
    search = SearchRecord(
        category=None, job_id=winner, certified=True, sure="certified", speedup=1.2, low=1.1, high=1.3, pairs=6,
        headline="", ties=(), notes=(), candidates=rows,
    )  # fmt: skip

    text = shown(replace(made, record=replace(made.record, searches=(search,))))

    found = [next((word for word in ("1.20×", "may be as fast  ", "slower  ", "×") if word in line), "")
             for line in text.splitlines() if re.search(r" \d\d %(  |$)", line)]  # fmt: skip

    assert sorted(found) == ["1.20×", "may be as fast  ", "slower  "]


def test_two_points_need_no_plot_beside_the_table() -> None:
    made = sweeps.default_sweep()
    two = [row for row in made.comparisons if row.n_draft != 12]

    assert "Speedup (bar: 95 % interval)" in shown(made, verbosity=1)
    assert "Speedup (bar" not in shown(replace(made, comparisons=two), verbosity=1)


def test_quiet_leaves_the_answer_its_command_and_where_it_was_saved() -> None:
    lines = shown(_slow_to_begin(own_models(sweeps.default_sweep())), verbosity=-1).splitlines()

    assert [line.partition(":")[0].partition(" (")[0] for line in lines[-2:]] == ["Run it", "Report"]
    assert "remark" not in lines[-1]
    assert "📊 Speedup:" in shown(sweeps.single_job(), verbosity=-1)


def test_what_is_piped_loses_no_column_and_a_narrow_screen_names_what_it_has_no_room_for() -> None:
    kinds = [
        replace(row, speculation=f"a-kind-with-a-very-long-name-{row.n_draft}") for row in sweeps.default_sweep().jobs
    ]
    table = summary_table(sweep_answers(kinds, sweeps.default_sweep().record))

    assert "accepted" in terminal_lines(table, width=None)[0]
    narrow = terminal_lines(table, width=64)
    assert "accepted" in narrow[0]
    assert "a-kind-with…" in narrow[2]


def _with_a_job_that_never_ran(baseline: bool = True) -> sweeps.MadeUp:
    made = sweeps.with_failures()
    jobs = [
        replace(job, baseline_id=job.baseline_id if baseline or job.n_draft != 16 else "") for job in made.record.jobs
    ]
    rows = [row for row in made.comparisons if row.n_draft != 16]
    return replace(made, comparisons=rows, record=replace(made.record, jobs=tuple(jobs)))


@pytest.mark.parametrize("baseline", [True, False])
def test_a_job_that_failed_beside_others_has_a_row_that_says_so(baseline: bool) -> None:
    made = _with_a_job_that_never_ran(baseline)

    made = replace(made, samples=made.samples.slice(0, 0))  # else a line counts failed runs, and room is short
    (row,) = (line for line in shown(made).splitlines() if line.split()[:1] == ["16"])
    assert " ".join(row.split()[1:]) == "failed: see below"
    assert "❌ n_draft 16 failed: llama-server ended with 1: failed to allocate buffer" in shown(made)
    told = shown(made, failures_told=[job.id for job in made.record.jobs])
    assert "❌ n_draft 16 failed: see above\n" in told
    assert "failed to allocate" not in told
    assert "failed: see below" not in told
    page = detailed_job_table(with_failed(made.jobs, made.record), made.record, ())
    (verdict,) = [cell for cell in page.rows[3] if cell.verdict]
    assert not {cell.text for cell in page.rows[3] if cell.text.endswith(("%", "×"))}  # no figure of a job beside it
    assert verdict.text.startswith("✗ failed: llama-server ended with 1: failed to allocate")
    assert "✗ failed: llama-server ended with 1" in render_report(made.comparisons, made.record, made.samples)
    assert "failed to allocate" in export(made.comparisons, made.record, "md")


def test_a_sweep_of_which_one_job_is_left_still_has_a_table() -> None:
    made = _with_a_job_that_never_ran()
    jobs = tuple(job for job in made.record.jobs if job.n_draft in (4, 16))
    left = [row for row in made.comparisons if row.n_draft == 4]

    text = shown(replace(made, comparisons=left, record=replace(made.record, jobs=jobs)))

    assert "Vanilla Results:" not in text
    assert [line.lstrip("▶ ").split()[0] for line in text.splitlines()[3:5]] == ["none", "4"]
    assert "❌ n_draft 16 failed: llama-server" in text


def test_failed_jobs_runs_and_findings_are_named() -> None:
    text = shown(sweeps.with_failures())

    assert "❌ n_draft 16 failed: llama-server ended with 1" in text
    assert "Of 40 runs: 1 failed; none of these is averaged" in text  # no warm-ups, nor of settings that failed
    assert "drifted by -5.7 %" in shown(sweeps.with_failures(), verbosity=1)
    assert "The servers were started once" in shown(sweeps.with_failures(), verbosity=1)


def test_each_of_several_answers_is_a_row_of_the_table() -> None:
    rows = [line.split()[1:3] for line in shown(sweeps.large_sweep()).splitlines() if line.startswith("▶")]

    assert rows == [["llama8b_1b", "4"], ["codellama13b_1b", "3"]]


def test_where_the_report_is_is_said_once_and_only_where_it_is(tmp_path: Path) -> None:
    made = replace(sweeps.single_job(), root=tmp_path)
    missing = shown(made, ended=False)
    (tmp_path / "report.html").touch()
    told = shown(made, ended=False)

    assert told.count(f"{tmp_path}/report.html") == 1
    assert "saved to" not in told
    assert "📈 Report: not written" in missing


def test_a_folder_that_is_called_like_a_page_is_a_folder() -> None:
    told = io.StringIO()
    print_results(replace(sweeps.single_job(), root=Path("a.html")), console=make_console(told))

    assert "Report: a.html/report.html" in told.getvalue()
    assert "Results saved to: a.html\n" in told.getvalue()


def test_jobs_that_failed_alike_are_one_paragraph() -> None:
    made = sweeps.default_sweep()
    errors = [f"llama.cpp did not start: it was killed by SIGILL (log: /s/logs/{n}.log); build it here" for n in (1, 2)]
    states = [*(("failed", error) for error in errors), ("failed", "its port is in use")]
    jobs = [replace(job, state=state, error=error)
            for job, (state, error) in zip(made.record.jobs, states, strict=True)]  # fmt: skip

    text = shown(replace(made, record=replace(made.record, jobs=tuple(jobs))))

    assert [line for line in text.splitlines() if "❌" in line] == [
        f"❌ n_draft 4; n_draft 8 failed: {errors[0]}",
        "❌ n_draft 12 failed: its port is in use",
    ]


@pytest.mark.parametrize(
    ("states", "why"),
    [
        (("failed", "failed", "pending"), "2 settings failed, 1 setting did not finish"),
        (("done", "done", "done"), "no samples of 3 settings are left"),
    ],
)
@pytest.mark.parametrize("verbosity", [-1, 0])
def test_a_sweep_without_samples_says_that_nothing_was_measured_and_why(
    states: tuple[str, ...], why: str, verbosity: int
) -> None:
    made = sweeps.default_sweep()
    jobs = tuple(
        replace(job, state=state, error="no room for its cache" if state == "failed" else None)
        for job, state in zip(made.record.jobs, states, strict=True)
    )
    nothing = replace(made, comparisons=[], samples=made.samples.slice(0, 0), record=replace(made.record, jobs=jobs))

    text = " ".join(shown(nothing, verbosity=verbosity).split())

    assert f"Nothing was measured: {why}" in text
    assert text.count("velosweep resume") == ("pending" in states)
    assert ("no room for its cache" in text) == ("failed" in states)


def test_skipped_vanilla_shows_no_invented_speedup() -> None:
    text = shown(sweeps.skip_vanilla())

    assert "No speedup known (vanilla was skipped)" in text


def test_hostile_names_reach_the_terminal_as_text() -> None:
    assert "\x1b" not in shown(sweeps.hostile(), verbosity=1)
    assert "\x07" not in shown(sweeps.hostile(), verbosity=1)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_tables_and_plots_fit_narrow_terminals(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, no_color=True, highlight=False, markup=False)

    shown(sweeps.large_sweep(), console=console)

    from rich.cells import cell_len
    from rich.text import Text

    lines = [Text.from_ansi(line).plain for line in out.getvalue().splitlines()]
    commands = [line for line in lines if line.startswith(("Run it: ", "Report: "))]
    assert len(commands) == 2  # whole, so that they can be copied; the terminal wraps them
    assert max(cell_len(line) for line in lines if line not in commands) <= width


def test_no_color_means_no_colour_and_no_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()

    shown(sweeps.default_sweep(), console=make_console(out))

    assert "\x1b[" not in out.getvalue()


def test_the_copy_that_output_asked_for_is_named(tmp_path: Path) -> None:
    made, copy = sweeps.single_job(), tmp_path / "copy.json"
    copy.write_text("{}", encoding="utf-8")
    made = replace(
        made, record=replace(made.record, jobs=tuple(replace(j, output=str(copy)) for j in made.record.jobs))
    )

    assert shown(made).splitlines()[-1] == f"💾 Summary saved to: {copy}"


def test_a_target_that_is_reached_by_chance_perhaps_is_not_called_achieved() -> None:
    made = sweeps.single_job()
    unsure = replace(_specifications_job(), ci_low=0.8, ci_high=6.9, verdict=Verdict.NO_RELIABLE_GAIN)

    text = shown(replace(made, comparisons=[unsure]))

    assert "achieved target" not in text
    assert "Above the target speedup (>1.5x), but not surely" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speedup": 1.5}, "Modest speedup"),  # the sign says more than 1.5
        ({"ci_low": None, "ci_high": None, "verdict": Verdict.NO_RELIABLE_GAIN}, "one pair of runs has no interval"),
    ],
)
def test_the_tick_needs_more_than_the_target_and_an_interval(changes: dict[str, object], said: str) -> None:
    text = shown(replace(sweeps.single_job(), comparisons=[replace(_specifications_job(), **changes)]))

    assert said in text
    assert "achieved target" not in text


def test_runs_that_are_no_pairs_are_marked_in_their_row() -> None:
    made = sweeps.default_sweep()
    loser, *others = made.jobs
    loser = replace(
        loser, n_pairs=0, chosen_low=None, ci_low=1.13, ci_high=1.7, ci_method="Welch t on logs, assumes no drift"
    )
    made = replace(made, comparisons=[loser, *others])

    screen = shown(made)

    assert "(1.13–1.70, unpaired)" in screen
    assert screen.count("unpaired") == 1


def job(value: float, low: float | None = None, high: float | None = None) -> Comparison:
    return replace(sweeps.single_job().jobs[0], speedup_gm=value, ci_low=low, ci_high=high)


def test_the_plot_shows_points_intervals_and_the_line_of_no_gain() -> None:
    points = [("4", job(0.9, 0.8, 1.0), " slower"), ("8", job(1.5, 1.3, 1.8), ""), ("12", job(1.2), "")]

    lines = interval_plot(points, width=60)

    assert lines == [
        " 4  ├───●───┤                                   0.90× slower",
        " 8          ┊           ├────────●───────────┤  1.50×",
        "12          ┊       ●                           1.20×",
        "    0.80× 1.00×                            1.80×",
    ]


values = st.floats(min_value=0.01, max_value=50, allow_nan=False)


@given(st.lists(st.tuples(st.text(max_size=5), values, values, values), min_size=1, max_size=8), st.integers(40, 120))
def test_any_plot_has_a_row_a_point_and_fits(rows: list[tuple[str, float, float, float]], width: int) -> None:
    points = [(label, job(sorted(three)[1], min(three), max(three)), "") for label, *three in rows]

    lines = interval_plot(points, width=width)

    assert len(lines) == len(points) + 1
    assert all(len(line) <= width + 8 for line in lines)
    assert all(line.count("●") >= 1 for line in lines[:-1])


def test_no_points_no_plot() -> None:
    assert interval_plot([], width=80) == []
