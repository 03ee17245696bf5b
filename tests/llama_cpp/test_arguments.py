"""A server configuration in the words of each generation of llama.cpp."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llama_cpp import standin
from tests.llama_cpp.servers import CPU, gpu_lane, speculative, vanilla
from tests.llama_cpp.test_capabilities import recorded
from velosweep.config.settings import Speculation
from velosweep.errors import ProgramError
from velosweep.llama_cpp.arguments import check_speculation, kind_parameters, program_arguments, server_arguments
from velosweep.llama_cpp.capabilities import parse_help
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.values import Lane


def arguments(server: ServerConfig, generation: str = "2026-10", lane: Lane = CPU) -> list[str]:
    """llama-server's arguments of a generation."""
    return server_arguments(server, lane=lane, capabilities=recorded(f"{generation}-llama-server"))


def value(argv: list[str], flag: str) -> str:
    """What follows `flag`."""
    return argv[argv.index(flag) + 1]


SERVER_GENERATIONS = sorted(
    match.group(1) for file in standin.HELP.iterdir() if (match := re.match(r"(.+)-llama-server\.txt", file.name))
)


@pytest.mark.parametrize("generation", SERVER_GENERATIONS)
def test_only_flags_that_the_build_has_are_used(generation: str) -> None:
    known = parse_help((standin.HELP / f"{generation}-llama-server.txt").read_text())
    argv = arguments(speculative(), generation) + arguments(vanilla(), generation)

    assert [flag for flag in argv if flag.startswith("-") and flag not in known] == []


@pytest.mark.parametrize("generation", SERVER_GENERATIONS)
def test_every_default_that_drifted_is_said(generation: str) -> None:
    argv = " ".join(arguments(speculative(6), generation))

    assert re.search(r"--(spec-draft-n-max|draft-max|draft|draft-n) 6\b", argv)
    assert re.search(r"--(spec-draft-n-min|draft-min|draft-n-min) 0\b", argv)
    assert re.search(r"--(spec-draft-p-min|draft-p-min) 0\b", argv)
    assert re.search(r"--(spec-draft-ngl|gpu-layers-draft|n-gpu-layers-draft) 0\b", argv)
    for flag in ("--ctx-size 4096", "--threads 1", "--threads-batch 1", "--parallel 1", "--host 127.0.0.1"):
        assert flag in argv


def test_vanilla_says_that_it_does_not_speculate() -> None:
    argv = arguments(vanilla())

    assert value(argv, "--spec-type") == "none"
    assert "--spec-draft-model" not in argv


def test_a_draft_model_is_named_as_draft_simple_where_that_is_needed_and_not_where_it_is_unknown() -> None:
    assert value(arguments(speculative()), "--spec-type") == "draft-simple"
    early = replace(recorded("2026-10-llama-server"), spec_types=("none", "ngram-mod"))

    assert "--spec-type" not in server_arguments(speculative(), lane=CPU, capabilities=early)
    assert "--spec-type" not in arguments(speculative(), "2024-12")


def test_kinds_are_combined() -> None:
    server = speculative(8, speculation=Speculation(kinds=("draft", "ngram-mod")))

    assert value(arguments(server), "--spec-type") == "draft-simple,ngram-mod"


@pytest.mark.parametrize(
    ("kind", "flag", "given_value"),
    [
        ("ngram-simple", "--spec-ngram-simple-size-m", "6"),
        ("ngram-map-k", "--spec-ngram-map-k-size-m", "6"),
        ("ngram-map-k4v", "--spec-ngram-map-k4v-size-m", "6"),
        ("ngram-mod", "--spec-ngram-mod-n-max", "6"),
    ],
)
def test_n_draft_is_the_draft_length_of_the_ngram_kinds(kind: str, flag: str, given_value: str) -> None:
    server = speculative(6, draft_model=None, speculation=Speculation(kinds=(kind,)))

    assert value(arguments(server), flag) == given_value
    assert "--spec-draft-model" not in arguments(server)


@pytest.mark.parametrize("kind", ["draft-eagle3", "draft-dflash", "draft-dspark", "draft-mtp"])
def test_head_based_kinds_go_by_their_own_name(kind: str) -> None:
    assert value(arguments(speculative(speculation=Speculation(kinds=(kind,)))), "--spec-type") == kind


def test_a_kind_that_the_build_lacks_is_refused_with_those_it_has() -> None:
    server = speculative(draft_model=None, speculation=Speculation(kinds=("ngram-mod",)))

    with pytest.raises(ProgramError, match=r"can't speculate with ngram-mod; it knows a draft model only"):
        arguments(server, "2024-12")


def test_parameters_of_a_kind_override_its_defaults() -> None:
    parameters = (("ngram_mod.n_match", 16), ("ngram_mod.n_max", 32))
    server = speculative(8, draft_model=None, speculation=Speculation(kinds=("ngram-mod",), parameters=parameters))
    argv = arguments(server)

    assert (
        value(argv, "--spec-ngram-mod-n-match"),
        value(argv, "--spec-ngram-mod-n-max"),
        value(argv, "--spec-ngram-mod-n-min"),
    ) == ("16", "32", "8")


def test_a_parameter_of_another_kind_is_refused() -> None:
    speculation = Speculation(kinds=("ngram-simple",), parameters=(("ngram_mod.n_match", 16),))

    with pytest.raises(ProgramError, match=r"no parameter ngram_mod.n_match; it has ngram_simple"):
        kind_parameters(speculation, n_draft=4)


def test_experts_and_tensors_are_placed_as_asked_for_each_model() -> None:
    placed = {"n_cpu_moe": 12, "override_tensor": "exps=CPU,b=CUDA0"}
    server = speculative(**placed, draft_n_cpu_moe=0, draft_override_tensor="a=CPU")
    argv = arguments(server)

    assert (value(argv, "--n-cpu-moe"), value(argv, "--override-tensor")) == ("12", "exps=CPU,b=CUDA0")
    assert (value(argv, "--spec-draft-n-cpu-moe"), value(argv, "--spec-draft-override-tensor")) == ("0", "a=CPU")
    assert not {"--n-cpu-moe", "--override-tensor", "--spec-draft-n-cpu-moe"} & set(arguments(speculative()))
    with pytest.raises(ProgramError, match=r"none of --n-cpu-moe, which engine.n_cpu_moe needs"):
        arguments(server, "2024-12")


def test_a_way_to_split_a_model_that_the_build_does_not_know_is_refused_with_those_it_knows() -> None:
    assert value(arguments(vanilla(split_mode="tensor")), "--split-mode") == "tensor"
    with pytest.raises(ProgramError, match=r"knows no --split-mode tensor; it knows none, layer, row"):
        arguments(vanilla(split_mode="tensor"), "2024-12")


def test_a_kind_of_next_month_is_given_its_own_settings_by_the_names_of_the_help_text() -> None:
    today = recorded("2026-10-llama-server")
    flags = {"--spec-ngram-new-size-m": "N", "--spec-ngram-new-odds": "P", "--spec-new-sampling": ""}
    next_month = replace(
        today, spec_types=(*today.spec_types, "ngram-new"), flags={**today.flags, **flags, "--no-spec-new-sampling": ""}
    )
    parameters = (("new_sampling", False), ("ngram_new.odds", 0.5))
    server = speculative(6, draft_model=None, speculation=Speculation(kinds=("ngram-new",), parameters=parameters))
    argv = server_arguments(server, lane=CPU, capabilities=next_month)

    assert value(argv, "--spec-type") == "ngram-new"
    assert (value(argv, "--spec-ngram-new-size-m"), value(argv, "--spec-ngram-new-odds")) == ("6", "0.5")
    assert "--no-spec-new-sampling" in argv
    assert "--spec-draft-n-max" not in argv


@pytest.mark.parametrize(
    ("speculation", "words"),
    [
        (Speculation(kinds=("ngram-new",)), "can't speculate with ngram-new; it knows draft-simple"),
        (Speculation(parameters=(("draft.conf_min", 0.5),)), "has no --spec-draft-conf-min, which"),
        (Speculation(parameters=(("draft.n_max", 5),)), "--spec-draft-n-max is set by a key of its own"),
        (Speculation(parameters=(("n_draft", 5),)), "no parameter n_draft"),
    ],
)
def test_what_a_program_does_not_know_is_refused_before_it_runs(speculation: Speculation, words: str) -> None:
    with pytest.raises(ProgramError) as refused:
        check_speculation(speculation, recorded("2026-10-llama-server"))

    assert words in str(refused.value)


def test_synthetic_acceptance_counts_the_targets_own_token() -> None:
    argv = arguments(speculative(speculation=Speculation(synthetic_acceptance=2.5)))

    assert value(argv, "--spec-synth-len") == "3.5"


def test_synthetic_acceptance_is_refused_where_the_build_has_none() -> None:
    with pytest.raises(ProgramError, match=r"--spec-synth-len, which speculation.synthetic_acceptance needs"):
        arguments(speculative(speculation=Speculation(synthetic_acceptance=2.5)), "2024-12")


def test_flash_attention_is_a_switch_in_old_builds() -> None:
    assert value(arguments(vanilla(flash_attention="auto")), "--flash-attn") == "auto"
    assert "--flash-attn" not in arguments(vanilla(flash_attention="auto"), "2024-12")
    on = arguments(vanilla(flash_attention="on"), "2024-12")
    assert on[on.index("--flash-attn") + 1].startswith("--")


def test_a_gpu_lane_is_named_by_what_its_child_sees() -> None:
    lane = gpu_lane("", "", "GPU-a", "GPU-b")
    lane = replace(lane, devices=lane.devices[2:])
    argv = arguments(speculative(), lane=lane)

    assert (value(argv, "--device"), value(argv, "--spec-draft-device")) == ("CUDA0,CUDA1", "CUDA0,CUDA1")
    assert value(argv, "--n-gpu-layers") == "999"


def test_a_draft_on_a_device_of_its_own_leaves_the_others_to_the_main_model() -> None:
    argv = arguments(speculative(draft_device="CUDA1"), lane=gpu_lane("GPU-a", "GPU-b"))

    assert (value(argv, "--device"), value(argv, "--spec-draft-device")) == ("CUDA0", "CUDA1")


def test_a_cpu_lane_uses_no_gpu_of_a_gpu_build() -> None:
    argv = arguments(speculative())

    assert (value(argv, "--device"), value(argv, "--spec-draft-device"), value(argv, "--n-gpu-layers")) == (
        "none",
        "none",
        "0",
    )


def test_the_persons_own_arguments_come_last() -> None:
    assert arguments(vanilla(args=("--override-kv", "a=int:1")))[-2:] == ["--override-kv", "a=int:1"]


def test_files_among_them_are_named_from_the_root_for_the_program_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lora.gguf", "on", "0.5"):
        (tmp_path / name).touch()
    args = ("--lora-scaled", "lora.gguf:0.5,gone.gguf:1", "--lora=./lora.gguf", "--flash-attn", "on", "--temp", "0.5")

    assert arguments(vanilla(args=args))[-7:] == [
        "--lora-scaled", f"{tmp_path}/lora.gguf:0.5,gone.gguf:1", f"--lora={tmp_path}/lora.gguf",
        "--flash-attn", "on", "--temp", "0.5",
    ]  # fmt: skip


def test_programs_are_not_told_what_is_fatal_to_them() -> None:
    simple = recorded("2026-10-llama-speculative-simple")
    argv = program_arguments(speculative(), lane=CPU, capabilities=simple)

    assert not {"--no-display-prompt", "--no-warmup", "--warmup", "--no-conversation"} & set(argv)
    assert [flag for flag in argv if flag.startswith("-") and flag not in simple.flags] == []
    completion = recorded("2026-10-llama-completion")
    assert {"--no-display-prompt", "--no-conversation"} <= set(
        program_arguments(vanilla(), lane=CPU, capabilities=completion)
    )


@given(
    context=st.integers(1, 10**6),
    threads=st.integers(1, 256),
    batch=st.integers(1, 8192),
    n_draft=st.integers(1, 64),
    p_min=st.floats(0, 1).map(lambda value: round(value, 3)),
)
def test_what_is_asked_is_what_is_said(context: int, threads: int, batch: int, n_draft: int, p_min: float) -> None:
    server = speculative(n_draft, speculation=Speculation(p_min=p_min), context=context, threads=threads, batch=batch)
    argv = arguments(server)

    assert context == int(value(argv, "--ctx-size"))
    assert threads == int(value(argv, "--threads")) == int(value(argv, "--spec-draft-threads"))
    assert batch == int(value(argv, "--batch-size"))
    assert n_draft == int(value(argv, "--spec-draft-n-max"))
    assert p_min == float(value(argv, "--spec-draft-p-min"))
