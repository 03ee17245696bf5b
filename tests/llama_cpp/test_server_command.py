"""The command that people are shown: short, and what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.llama_cpp.servers import CPU, gpu_lane, speculative, vanilla
from tests.llama_cpp.test_arguments import SERVER_GENERATIONS
from tests.llama_cpp.test_capabilities import recorded
from tests.planning.jobs import PROMPTS, job
from velosweep.config.settings import Sampling, Speculation
from velosweep.config.speculation_kinds import KINDS
from velosweep.llama_cpp.arguments import server_arguments
from velosweep.llama_cpp.capabilities import Capabilities
from velosweep.llama_cpp.embedded import DEFAULTS, EmbeddedEngine
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.llama_cpp.server_command import command_arguments, request_arguments
from velosweep.llama_cpp.setting_table import SETTINGS
from velosweep.values import Device, Lane

TODAY = recorded("2026-10-llama-server")


def command(
    server: ServerConfig, lane: Lane = CPU, capabilities: Capabilities = TODAY, seen: tuple[Device, ...] = ()
) -> str:
    return " ".join(command_arguments(server, lane=lane, capabilities=capabilities, seen=seen))


def test_only_the_answer_and_what_differs_from_the_programs_defaults_is_said() -> None:
    said = "-m /m.gguf -md /d.gguf -c 4096 -t 1 --spec-type draft-simple --spec-draft-n-max 4"

    assert command(speculative()) == said
    assert command(speculative(), capabilities=EmbeddedEngine().capabilities_for(Speculation())) == said
    assert command(vanilla()) == "-m /m.gguf -c 4096 -t 1"


def test_whatever_a_person_set_is_said() -> None:
    server = speculative(
        3,
        speculation=Speculation(p_min=0.5, n_min=1),
        batch=512,
        flash_attention="off",
        cache_type_k="q8_0",
        draft_cache_type_v="q4_0",
        mmap=False,
        args=("--threads", "7"),
    )

    assert command(server) == (
        "-m /m.gguf -md /d.gguf -c 4096 -t 1 -b 512 -fa off -ctk q8_0 --load-mode none --spec-type draft-simple "
        "--spec-draft-n-max 3 --spec-draft-n-min 1 --spec-draft-p-min 0.5 -ctvd q4_0 --threads 7"
    )


def test_a_build_with_other_defaults_is_told_what_it_would_not_do() -> None:
    old = command(speculative(), capabilities=recorded("2024-12-llama-server"))

    assert old == "-m /m.gguf -md /d.gguf -t 1 --draft-max 4 --draft-min 0 --draft-p-min 0"


def test_synthetic_acceptance_spoils_the_text_and_is_never_advised() -> None:
    assert "synth" not in command(speculative(speculation=Speculation(synthetic_acceptance=2.0)))


def test_a_gpu_is_named_where_the_program_sees_others() -> None:
    two = gpu_lane("GPU-a", "GPU-b")
    second = replace(two, devices=two.devices[1:])

    assert command(speculative(), two, seen=two.devices) == (
        "-m /m.gguf -md /d.gguf -c 4096 -ngl 999 --spec-type draft-simple --spec-draft-n-max 4 -ngld 999"
    )
    assert "-dev CUDA1 --spec" in command(speculative(), second, seen=two.devices)
    assert "-devd CUDA1" in command(speculative(), second, seen=two.devices)


@pytest.mark.parametrize(
    "left", [{"n_cpu_moe": 2}, {"override_tensor": "exps=CPU"}, {"draft_gpu_layers": 0}, {"args": ("-ngl", "9")}]
)
def test_threads_are_said_on_a_gpu_where_the_cpu_computes_a_part(left: dict[str, object]) -> None:
    assert " -t 3 " in command(speculative(threads=3, **left), gpu_lane("GPU-a"))
    assert " -t " not in command(speculative(threads=3), gpu_lane("GPU-a"))


def test_a_draft_on_a_gpu_of_its_own_stays_there() -> None:
    two = gpu_lane("GPU-a", "GPU-b")
    said = command(speculative(draft_device="CUDA1"), two, seen=two.devices)

    assert "-dev CUDA0 " in said
    assert said.endswith("-devd CUDA1")


def test_the_cpu_is_named_where_the_program_sees_gpus() -> None:
    said = command(speculative(), CPU, seen=gpu_lane("GPU-a").devices)

    assert "-dev none" in said
    assert "-devd none" in said


def test_the_table_of_defaults_is_what_todays_help_says() -> None:
    assert {flag: TODAY.defaults[flag] for flag in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("generation", [None, *SERVER_GENERATIONS])
def test_every_flag_is_one_that_the_program_has(generation: str | None) -> None:
    known = recorded(f"{generation or '2026-10'}-llama-server")
    speculations = [Speculation(kinds=(name,)) for name, kind in KINDS.items() if kind.llama_cpp in known.spec_types]
    said = [
        word
        for speculation in (Speculation(), *speculations)
        for lane in (CPU, gpu_lane("GPU-a"))
        for word in command_arguments(
            speculative(speculation=speculation),
            lane=lane,
            capabilities=known if generation else EmbeddedEngine().capabilities_for(speculation),
        )
    ]

    assert {word for word in said if word.startswith("-")} <= known.flags.keys()


def test_no_setting_of_a_server_is_forgotten_in_the_command() -> None:
    """What is new there is said, too, or stands here as something that only measuring needs."""
    server = speculative(
        split_mode="layer", tensor_split=(3.0, 1.0), n_cpu_moe=2, override_tensor="a=CPU", draft_n_cpu_moe=1,
        draft_override_tensor="b=CPU", draft_device="CUDA1", mmap=False, context=1, threads=2, threads_batch=3, batch=4,
        ubatch=5, gpu_layers=6, draft_gpu_layers=7, flash_attention="on", cache_type_k="q8_0", cache_type_v="q8_0",
        draft_cache_type_k="q8_0", draft_cache_type_v="q8_0", speculation=Speculation(p_min=0.5, n_min=1),
    )  # fmt: skip
    lane = gpu_lane("GPU-a", "GPU-b")
    told = server_arguments(replace(server, concurrency=2), lane=lane, capabilities=TODAY)
    shown = set(command_arguments(replace(server, concurrency=2), lane=lane, capabilities=TODAY, seen=lane.devices))
    spellings = {setting.flags[0]: {*setting.flags, setting.short} for setting in SETTINGS.values()}
    unsaid = {word for word in told if word in spellings and not spellings[word] & shown}

    assert unsaid == {
        "--host", "--port", "--fit", "--offline", "--warmup", "--metrics", "--slots", "--no-ui", "--no-context-shift",
        "--cache-ram", "--no-cache-idle-slots", "--cache-reuse", "--no-kv-unified",
        "--spec-draft-p-split",  # llama.cpp's default
        "--spec-draft-threads",  # as --threads
    }  # fmt: skip


def test_sampling_that_a_person_set_is_a_default_of_the_command() -> None:
    sampling = Sampling(temperature=0.7, top_k=20, top_p=0.9, min_p=0.05, repeat_penalty=1.1)
    asked = job(sampling=sampling, prompts=replace(PROMPTS, template_kwargs=(("enable_thinking", False),)))

    assert request_arguments(job(sampling=Sampling(seed=7))) == ()
    assert request_arguments(asked) == (
        "--temp", "0.7", "--top-k", "20", "--top-p", "0.9", "--min-p", "0.05", "--repeat-penalty", "1.1",
        "--chat-template-kwargs", '{"enable_thinking": false}',
    )  # fmt: skip
