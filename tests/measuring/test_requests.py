"""What a measurement asks of its server: seeds, the end, and what the chat template gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import Job, Prompt, PromptSet, Sampling
from velosweep.llama_cpp.completion import completion_payload
from velosweep.llama_cpp.engine import Request
from velosweep.measuring.resident_servers import request_of
from velosweep.planning.server_groups import plan_groups, rounds, warmups


def requests_of(job: Job) -> list[Request]:
    """Of all runs of both servers, in the order of the plan."""
    (group,) = plan_groups([job])
    return [request_of(measurement) for round_ in rounds(group, 0) for measurement in round_]


def payload(**sampling: Any) -> dict[str, object]:
    asked = Request(prompt=Prompt(id="p", text="Hi"), n_predict=8, sampling=Sampling(**sampling))
    return completion_payload(asked, prompt="Hi", cache_prompt=False)


def test_above_temperature_0_each_iteration_has_its_seed_in_both_modes() -> None:
    (job,) = jobs_over_n_draft(4, iterations=3, sampling=Sampling(temperature=0.8, seed=10))

    assert [request.sampling.seed for request in requests_of(job)] == [11, 11, 12, 12, 13, 13]


def test_greedy_runs_keep_their_seed() -> None:
    (job,) = jobs_over_n_draft(4, iterations=2, sampling=Sampling(seed=10))

    assert [request.sampling.seed for request in requests_of(job)] == [10, 10, 10, 10]


def test_the_sets_system_message_goes_before_prompts_that_have_none() -> None:
    prompts = (Prompt(id="a", text="A"), Prompt(id="b", text="B", system="own"))
    chat = PromptSet(
        name="c", prompts=prompts, chat=True, system="set's", template_kwargs=(("enable_thinking", False),)
    )
    (job,) = jobs_over_n_draft(4, iterations=1, prompts=chat)
    asked = requests_of(job)

    assert {(request.prompt.id, request.prompt.system) for request in asked} == {("a", "set's"), ("b", "own")}
    assert {request.template_kwargs for request in asked} == {(("enable_thinking", False),)}


def test_a_warm_up_has_a_length_however_runs_end() -> None:
    (job,) = jobs_over_n_draft(4)
    (group,) = plan_groups([replace(job, stop="natural")])

    assert {request_of(measurement).stop for measurement in warmups(group, 0)} == {"length"}
    assert {request.stop for request in requests_of(replace(job, stop="natural"))} == {"natural"}


def test_samplers_that_do_nothing_are_not_asked_for() -> None:
    greedy, warm = payload(top_k=20), payload(temperature=0.7, top_k=20, top_p=0.9, min_p=0.05, repeat_penalty=1.1)

    assert (greedy["top_k"], greedy["samplers"]) == (1, ["top_k", "temperature"])
    assert warm["samplers"] == ["penalties", "top_k", "top_p", "min_p", "temperature"]
    assert [warm[name] for name in ("top_k", "top_p", "min_p", "repeat_penalty")] == [20, 0.9, 0.05, 1.1]
