"""Groups and rounds: what is loaded together and in which order it is measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.jobs import job, jobs_over_n_draft
from velosweep.config.settings import Prompt, PromptSet, Speculation
from velosweep.errors import ConfigError
from velosweep.planning.identity import content_hash, identify, speculative_server, vanilla_server
from velosweep.planning.measurements import batches_after, count_measurements, launch_iterations, rounds, warmups
from velosweep.planning.server_groups import ServerGroup, plan_groups
from velosweep.values import Mode


def labels(group: ServerGroup, launch: int = 0) -> list[list[str]]:
    return [[measurement.server.label for measurement in round_] for round_ in rounds(group, launch)]


def test_the_direction_of_rounds_alternates_so_that_a_drift_cancels() -> None:
    (group,) = plan_groups(jobs_over_n_draft(4, 8, iterations=3))

    assert labels(group) == [
        ["vanilla", "n_draft 4", "n_draft 8"],
        ["n_draft 8", "n_draft 4", "vanilla"],
        ["vanilla", "n_draft 4", "n_draft 8"],
    ]


def test_every_prompt_alternates_by_itself_when_their_number_is_even() -> None:
    prompts = PromptSet(name="two", prompts=(Prompt(id="a", text="A"), Prompt(id="b", text="B")))
    (group,) = plan_groups(jobs_over_n_draft(4, iterations=2, prompts=prompts))

    firsts = {
        prompt: [round_[0].server.label for round_ in rounds(group, 0) if round_[0].prompt.id == prompt]
        for prompt in "ab"
    }

    assert firsts == {"a": ["vanilla", "n_draft 4"], "b": ["n_draft 4", "vanilla"]}


def test_block_order_measures_all_runs_of_a_server_before_the_next() -> None:
    (group,) = plan_groups(jobs_over_n_draft(4, iterations=2, order="block"))

    assert labels(group) == [["vanilla"], ["vanilla"], ["n_draft 4"], ["n_draft 4"]]


def test_random_order_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    many = jobs_over_n_draft(*range(1, 9), iterations=4, order="random")
    (group,) = plan_groups(many)
    (again,) = plan_groups(many)
    (other,) = plan_groups(jobs_over_n_draft(*range(1, 9), iterations=4, order="random", seed=1))

    assert labels(group) == labels(again)
    assert labels(group) != labels(other)


def test_one_vanilla_server_serves_all_n_draft() -> None:
    (group,) = plan_groups(jobs_over_n_draft(4, 8, 12, iterations=5))

    assert [server.mode for server in group.servers].count(Mode.VANILLA) == 1
    assert count_measurements(group) == 4 * 5


def test_skip_vanilla_loads_no_vanilla_arm() -> None:
    (group,) = plan_groups(jobs_over_n_draft(4, 8, skip_vanilla=True))

    assert group.vanilla is None
    assert [server.label for server in group.servers] == ["n_draft 4", "n_draft 8"]


def test_a_job_without_speculation_is_the_vanilla_server_alone() -> None:
    (only,) = identify([job(speculation=Speculation(kinds=()))], {})
    (group,) = plan_groups([only])

    assert [server.label for server in group.servers] == ["vanilla"]


def test_a_run_is_followed_by_batches_of_what_its_round_verifies() -> None:
    (group,) = plan_groups(jobs_over_n_draft(2, 4, 8, iterations=1))
    (round_,) = rounds(group, 0)

    assert [batches_after(one, round_) for one in round_] == [(3, 5, 9), (3,), (5,), (9,)]
    assert batches_after(next(iter(warmups(group, 0))), round_) == ()


def test_of_many_sizes_vanilla_times_some_from_the_smallest_to_the_largest() -> None:
    (group,) = plan_groups(jobs_over_n_draft(*range(1, 17), iterations=1))
    (round_,) = rounds(group, 0)

    assert batches_after(round_[0], round_) == (2, 9, 17)


@pytest.mark.parametrize("kinds", [("ngram-simple",), ("draft", "ngram-mod")])
def test_kinds_that_read_nothing_along_or_learn_from_requests_are_asked_for_no_batches(kinds: tuple[str, ...]) -> None:
    (group,) = plan_groups([replace(job(n_draft=4), speculation=Speculation(kinds=kinds))])
    round_ = next(iter(rounds(group, 0)))

    assert {batches_after(one, round_) for one in round_} == {()}


def test_warm_ups_are_one_short_run_a_server() -> None:
    (group,) = plan_groups(jobs_over_n_draft(4, 8))

    assert [(m.server.label, m.warmup, m.iteration) for m in warmups(group, 0)] == [
        ("vanilla", True, 0),
        ("n_draft 4", True, 0),
        ("n_draft 8", True, 0),
    ]


@given(iterations=st.integers(1, 40), launches=st.integers(1, 7))
def test_launches_share_the_iterations_out_and_none_is_lost(iterations: int, launches: int) -> None:
    (only,) = jobs_over_n_draft(4, iterations=iterations)
    only = replace(only, protocol=replace(only.protocol, launches=launches))

    taken = [iteration for launch in range(launches) for iteration in launch_iterations(only, launch)]

    assert taken == list(range(1, iterations + 1))


@given(
    n_drafts=st.lists(st.integers(1, 64), min_size=1, max_size=20, unique=True),
    lanes=st.integers(1, 8),
    room=st.integers(2, 8),
)
def test_every_job_is_in_exactly_one_group_and_no_group_is_too_large(
    n_drafts: list[int], lanes: int, room: int
) -> None:
    jobs = jobs_over_n_draft(*n_drafts)
    groups = plan_groups(jobs, lanes=lanes, resident_servers=lambda _: room)

    assert Counter(job.id for group in groups for job in group.jobs) == Counter(job.id for job in jobs)
    assert all(len(group.servers) <= room for group in groups)
    assert all(group.vanilla is not None for group in groups)


def test_a_value_that_stands_twice_in_the_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="jobs 0 and 1 measure the same thing"):
        identify([job(num=0), job(num=1)], {})


def test_a_dataclass_hashes_as_the_object_of_its_fields_at_every_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("velosweep.planning.identity._LATER", {})  # what is left out at its default
    (one,) = jobs_over_n_draft(4)

    assert content_hash(one) == content_hash(asdict(one))
    assert content_hash(one) != content_hash(asdict(job()))


def test_what_came_after_the_first_release_leaves_earlier_ids_what_they_are() -> None:
    assert content_hash(Prompt(id="a", text="Hi")) == content_hash({"id": "a", "text": "Hi", "category": None})


def test_identity_is_content_and_not_position() -> None:
    first, second = identify([job(num=0, n_draft=4), job(num=1, n_draft=8)], {})
    swapped, _ = identify([job(num=0, n_draft=8), job(num=1, n_draft=4)], {})

    assert swapped.id == second.id
    assert first.id != second.id
    assert first.baseline_id == second.baseline_id


def test_another_file_under_the_same_name_is_another_job() -> None:
    (one,) = identify([job()], {"main.gguf": "aaa"})
    (other,) = identify([job()], {"main.gguf": "bbb"})

    assert one.id != other.id
    assert one.baseline_id != other.baseline_id


def test_another_draft_model_keeps_the_baseline() -> None:
    (one,) = identify([job()], {"draft.gguf": "aaa"})
    (other,) = identify([job()], {"draft.gguf": "bbb"})

    assert one.baseline_id == other.baseline_id
    assert one.id != other.id


def test_servers_are_shared_by_jobs_that_differ_only_in_what_is_asked_of_the_server() -> None:
    short, long = identify([job(num=0, n_predict=10), job(num=1, n_predict=20)], {})

    assert vanilla_server(short) == vanilla_server(long)
    assert speculative_server(short) == speculative_server(long)
    assert short.baseline_id != long.baseline_id
