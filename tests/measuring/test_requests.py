"""What a measurement asks of its server: seeds, the end, and what the chat template gets."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Any

import pytest

from tests.planning.jobs import job, jobs_over_n_draft
from velosweep.config.settings import EngineSettings, Job, Prompt, PromptSet, Sampling
from velosweep.errors import ProgramError
from velosweep.llama_cpp.completion import completion_payload
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Request
from velosweep.measuring.job_resolver import JobResolver, engine_key
from velosweep.measuring.preflight_warnings import preflight_warnings
from velosweep.measuring.resident_servers import request_of
from velosweep.planning.measurements import rounds, warmups
from velosweep.planning.server_groups import plan_groups


def requests_of(job: Job) -> list[Request]:
    """Of all runs of both servers, in the order of the plan."""
    (group,) = plan_groups([job])
    return [request_of(measurement) for round_ in rounds(group, 0) for measurement in round_]


def payload(**sampling: Any) -> dict[str, object]:
    asked = Request(prompt=Prompt(id="p", text="Hi"), n_predict=8, sampling=Sampling(**sampling))
    return completion_payload(asked, prompt="Hi", cache_prompt=False)


def test_above_temperature_0_each_iteration_has_its_seed_in_both_modes() -> None:
    (one,) = jobs_over_n_draft(4, iterations=3, sampling=Sampling(temperature=0.8, seed=10))

    assert [request.sampling.seed for request in requests_of(one)] == [11, 11, 12, 12, 13, 13]


def test_greedy_runs_keep_their_seed() -> None:
    (one,) = jobs_over_n_draft(4, iterations=2, sampling=Sampling(seed=10))

    assert [request.sampling.seed for request in requests_of(one)] == [10, 10, 10, 10]


def test_the_sets_system_message_goes_before_prompts_that_have_none() -> None:
    prompts = (Prompt(id="a", text="A"), Prompt(id="b", text="B", system="own"))
    chat = PromptSet(
        name="c", prompts=prompts, chat=True, system="set's", template_kwargs=(("enable_thinking", False),)
    )
    (one,) = jobs_over_n_draft(4, iterations=1, prompts=chat)
    asked = requests_of(one)

    assert {(request.prompt.id, request.prompt.system) for request in asked} == {("a", "set's"), ("b", "own")}
    assert {request.template_kwargs for request in asked} == {(("enable_thinking", False),)}


def test_a_warm_up_has_a_length_however_runs_end() -> None:
    (one,) = jobs_over_n_draft(4)
    (group,) = plan_groups([replace(one, stop="natural")])

    assert {request_of(measurement).stop for measurement in warmups(group, 0)} == {"length"}
    assert {request.stop for request in requests_of(replace(one, stop="natural"))} == {"natural"}


def test_samplers_that_do_nothing_are_not_asked_for() -> None:
    greedy, warm = payload(top_k=20), payload(temperature=0.7, top_k=20, top_p=0.9, min_p=0.05, repeat_penalty=1.1)

    assert (greedy["top_k"], greedy["samplers"]) == (1, ["top_k", "temperature"])
    assert warm["samplers"] == ["penalties", "top_k", "top_p", "min_p", "temperature"]
    assert [warm[name] for name in ("top_k", "top_p", "min_p", "repeat_penalty")] == [20, 0.9, 0.05, 1.1]


# Each setting of sampling with a value that is not its default, and whether temperature 0 leaves it without effect.
SAMPLING = {
    "temperature": (0.7, False),
    "seed": (7, False),  # of greedy runs nobody cares
    "top_k": (20, True),
    "top_p": (0.9, True),
    "min_p": (0.05, True),
    "repeat_penalty": (1.1, False),
}


@pytest.mark.parametrize("name", [field.name for field in fields(Sampling)])
def test_no_setting_of_sampling_is_measured_without_having_been_asked_for(name: str) -> None:
    value, ignored_greedily = SAMPLING[name]
    warm, greedy = (Sampling(**{"temperature": temperature} | {name: value}) for temperature in (0.8, 0.0))
    programs = job(sampling=warm, engine=EngineSettings(kind="binaries", program="/nowhere"))
    resolver = JobResolver(say=lambda text: None, engines={engine_key(programs.engine): EmbeddedEngine()})
    told = name in ("temperature", "seed")

    assert payload(**{"temperature": 0.8, name: value}) != payload(temperature=0.8)
    (*warnings,) = preflight_warnings([job(sampling=greedy)], {}, ())
    assert [f"sampling.{name} changes nothing" in one for one in warnings] == ([True] if ignored_greedily else [])
    with nullcontext() if told else pytest.raises(ProgramError, match=name):
        resolver.check_engines([programs])
