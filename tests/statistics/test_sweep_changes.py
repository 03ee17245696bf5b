"""Two sweeps side by side: which changes are real, which are noise, and what forbids the comparison."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from tests.strategies import samples_to_table, sweep
from velosweep.records import Environment, ModelFile, SweepRecord
from velosweep.statistics.comparison import Statistics
from velosweep.statistics.summarise import compare_jobs
from velosweep.statistics.sweep_changes import compare_sweeps, environment_differences
from velosweep.values import Device


def _compared(n_drafts, factor=None, seed=0, cv=0.005, prompts=("p0",), iterations=8):
    rng = np.random.default_rng(seed)
    factor = factor or {}

    def speed(n, prompt, iteration):
        return 30 * (1 + n / 8) * factor.get(n, 1.0) * float(np.exp(rng.normal(0, cv)))

    return compare_jobs(samples_to_table(sweep(n_drafts, iterations=iterations, prompts=prompts, speed=speed)))


def test_a_job_that_got_slower_is_a_real_change_and_fails_the_limit():
    old = _compared([4, 8], seed=1)
    new = _compared([4, 8], {8: 0.9}, seed=2)

    result = compare_sweeps(old, new)

    same, slower = result.changes
    assert (same.real, slower.real) == (False, True)
    assert slower.ratio.ratio == pytest.approx(0.9, rel=0.01)
    assert slower.ratio.low < 0.9 * 1.01 < slower.ratio.high * 1.01
    assert [change.new.n_draft for change in result.below(0.97)] == [8]
    assert result.below(0.8) == ()
    assert result.below(slower.ratio.ratio) == ()


def test_vanilla_that_moved_is_told_apart_from_the_speedup():
    change = compare_sweeps(_compared([8], seed=1), _compared([8], {0: 0.9, 8: 0.9}, seed=2)).changes[0]

    assert change.vanilla_ratio.high < 1
    assert change.speedup_ratio.low < 1 < change.speedup_ratio.high
    assert change.reproduced


def test_a_sweep_against_itself_changed_nothing():
    rows = _compared([4, 8])

    result = compare_sweeps(rows, rows)

    assert all(c.ratio.ratio == 1 and not c.real and c.reproduced for c in result.changes)
    assert (result.only_old, result.only_new) == ((), ())


def test_several_starts_of_both_sweeps_are_judged_by_their_means():
    rng, real = np.random.default_rng(3), []

    def of_starts():
        starts, runs = rng.normal(0, 0.03, (3, 2)), rng.normal(0, 0.01, (15, 2))
        return sweep(iterations=15, speed=lambda n, _, i: float(30 * np.exp(starts[i // 5, n // 8] + runs[i, n // 8])))

    for _ in range(40):
        rows = [
            compare_jobs(samples_to_table(replace(run, launch=run.iteration // 5) for run in of_starts())) for _ in "ab"
        ]
        real.append(compare_sweeps(*rows).changes[0].real)

    assert np.mean(real) <= 0.1


def test_many_equal_jobs_seldom_look_changed():
    lengths = list(range(1, 21))
    wrong = 0
    for seed in range(8):
        old, new = _compared(lengths, seed=100 + seed, iterations=5), _compared(lengths, seed=200 + seed, iterations=5)
        result = compare_sweeps(old, new)
        wrong += any(change.real for change in result.changes)
        assert result.changes[0].comparisons == 20

    # 5 % of families, not 64 % as without the correction.
    assert wrong <= 2


def test_a_job_that_is_new_hides_none_that_follows():
    result = compare_sweeps(_compared([8]), _compared([2, 8]))

    assert [row.job_id for row in result.only_new] == ["j2"]
    assert [change.new.job_id for change in result.changes] == ["j8"]


def test_jobs_of_one_sweep_only_are_listed():
    result = compare_sweeps(_compared([4, 8]), _compared([8, 12]))

    assert [c.new.n_draft for c in result.changes] == [8]
    assert [row.n_draft for row in result.only_old] == [4]
    assert [row.n_draft for row in result.only_new] == [12]


def test_jobs_with_another_id_match_by_what_they_asked_for():
    old = _compared([8])
    new = [replace(row, job_id="other", main_model="/elsewhere/main-f16.gguf") for row in _compared([8], seed=3)]

    assert len(compare_sweeps(old, new).changes) == 1


def test_jobs_match_by_whatever_key_a_sweep_varies_and_by_no_other():
    def sweep_of(prefix, cache_types, **common):
        (row,) = [row for row in _compared([8]) if row.prompt_id is None]
        return [replace(row, job_id=f"{prefix}{t}", settings={"engine.cache_type_k": t, **common}) for t in cache_types]

    result = compare_sweeps(
        sweep_of("old", ["f16", "q8_0"], **{"engine.threads": 4}), sweep_of("new", ["q8_0", "q4_0"])
    )

    assert [(change.old.job_id, change.new.job_id) for change in result.changes] == [("oldq8_0", "newq8_0")]
    assert [row.job_id for row in result.only_old] == ["oldf16"]


def test_prompts_are_compared_on_request():
    old, new = _compared([8], prompts=("a", "b")), _compared([8], prompts=("a", "b"), seed=5)

    assert [c.new.prompt_id for c in compare_sweeps(old, new, per_prompt=True).changes] == ["a", "b", None]
    assert [c.new.prompt_id for c in compare_sweeps(old, new).changes] == [None]


def test_a_single_run_has_no_interval_and_no_verdict():
    change = compare_sweeps(_compared([8], iterations=1), _compared([8], iterations=1)).changes[0]

    assert (change.ratio, change.p, change.real, change.reproduced) == (None, None, False, None)


@pytest.mark.parametrize(("new", "reproduced"), [((20, 21), True), ((24, 25), False)])
def test_without_speedups_the_intervals_of_the_speeds_tell_whether_a_sweep_is_reproduced(new, reproduced):
    def alone(*speeds):
        (row,) = [row for row in _compared([8]) if row.prompt_id is None]
        speed = Statistics(mean=sum(speeds) / 2, stddev=0.5**0.5, min=min(speeds), max=max(speeds), samples=speeds)
        vanilla = replace(row.vanilla, tokens_per_second=speed)
        return [replace(row, vanilla=vanilla, speculative=None, speedup=None, ci_low=None, ci_high=None)]

    # Student's 95 % half-width of two runs that are 1 apart is 6.35.
    assert [compare_sweeps(*pair).changes[0].reproduced for pair in (
        (alone(10, 11), alone(*new)), (alone(*new), alone(10, 11))
    )] == [reproduced, reproduced]  # fmt: skip


def test_the_same_speeds_that_do_not_vary_are_reproduced():
    rows = [row for row in _compared([8], cv=0) if row.prompt_id is None]
    alone = [replace(row, speculative=None, speedup=None, ci_low=None, ci_high=None) for row in rows]

    assert [change.reproduced for change in compare_sweeps(alone, alone).changes] == [True]


def _with_speeds(row, speeds):
    speed = replace(row.speculative.tokens_per_second, samples=speeds)
    return replace(row, speculative=replace(row.speculative, tokens_per_second=speed))


def test_after_a_change_that_may_be_chance_no_larger_p_is_real():
    rows = [row for row in _compared([4, 8]) if row.prompt_id is None]
    speeds = (10.0, 10.1, 9.9, 10.05)
    old = [_with_speeds(row, speeds) for row in rows]
    new = [
        _with_speeds(row, tuple(factor * speed for speed in speeds))
        for row, factor in zip(rows, (1.017, 1.016), strict=True)
    ]

    changes = compare_sweeps(old, new).changes

    # Holm asks for .05 / 2 of the first; alone the second would be below .05.
    assert [change.p for change in changes] == pytest.approx([0.0315, 0.0392], abs=1e-4)
    assert [change.real for change in changes] == [False, False]


@pytest.mark.parametrize("without", ["by_round", "speedup_gm", "standard_error", "df"])
def test_speedups_are_compared_where_both_have_all_that_it_takes(without):
    rows = [row for row in _compared([8]) if row.prompt_id is None]
    lacking = [replace(row, **{without: None}) for row in rows]

    assert compare_sweeps(rows, rows).changes[0].speedup_ratio is not None
    assert [compare_sweeps(*pair).changes[0].speedup_ratio for pair in ((rows, lacking), (lacking, rows))] == [None] * 2


def test_a_mode_that_one_sweep_skipped_has_no_ratio():
    rows = [row for row in _compared([8]) if row.prompt_id is None]
    skipped = [replace(row, vanilla=None) for row in rows]

    assert [compare_sweeps(*pair).changes[0].vanilla_ratio for pair in ((rows, skipped), (skipped, rows))] == [None] * 2


def test_speedups_whose_intervals_do_not_meet_are_not_reproduced():
    rows = [row for row in _compared([8]) if row.prompt_id is None]
    low, high = ([replace(row, by_round=None, ci_low=a, ci_high=a + 0.2) for row in rows] for a in (1.0, 1.3))

    assert [compare_sweeps(*pair).changes[0].reproduced for pair in ((low, high), (high, low))] == [False, False]
    assert compare_sweeps(low, low).changes[0].reproduced


def _record(**changes):
    environment = Environment(
        velosweep="1",
        python="3.11",
        host="bench",
        system="Linux",
        cpu="EPYC",
        physical_cores=2,
        logical_cores=4,
        memory_bytes=1,
        devices=(Device(kind="cuda", name="H100"),),
        engine="embedded",
        program=None,
        program_sha256=None,
        llama_cpp_build="b1",
        models=(ModelFile(path="/a/main.gguf", size_bytes=1, fingerprint="f1"),),
    )
    return SweepRecord(
        sweep_id="s",
        created_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
        command=(),
        single=False,
        jobs=(),
        environment=replace(environment, **changes),
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "server"}, "engine was embedded, is server"),
        ({"llama_cpp_build": "b2"}, "build was b1, is b2"),
        ({"llama_cpp_build": ""}, "build was b1, is unknown"),
        ({"program_sha256": "0123456789abcdef"}, "program was unknown, is 0123456789ab"),
        ({"host": "other"}, "host was bench, is other"),
        ({"cpu": "Xeon"}, "cpu was EPYC, 2 cores, is Xeon, 2 cores"),
        ({"physical_cores": 8}, "cpu was EPYC, 2 cores, is EPYC, 8 cores"),
        ({"devices": (Device(kind="cuda", name="A100"),)}, "devices was cuda H100, is cuda A100"),
        (
            {"models": (ModelFile(path="D:\\b\\main.gguf", size_bytes=1, fingerprint="0123456789abcdef"),)},
            "model main.gguf was f1, is 0123456789ab",
        ),
    ],
)
def test_unlike_sweeps_say_what_differs(changes, said):
    unlike = _record(**changes)

    assert environment_differences(_record(), unlike) == [said]
    what, was, now = re.fullmatch("(.*) was (.*), is (.*)", said).groups()
    assert environment_differences(unlike, _record()) == [f"{what} was {now}, is {was}"]


def test_models_that_moved_but_are_the_same_are_alike():
    moved = (ModelFile(path="/b/main.gguf", size_bytes=1, fingerprint="f1"),)

    assert environment_differences(_record(), _record(models=moved)) == []
