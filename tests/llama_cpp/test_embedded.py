"""The embedded llama.cpp: its settings, and real runs of a small synthetic pair."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.llama_cpp.servers import CPU, gpu_lane, request, speculative, vanilla
from velosweep.config import speculation_kinds
from velosweep.config.settings import Speculation
from velosweep.errors import LaunchFailed, ProgramError, RequestRefused
from velosweep.llama_cpp import arguments, embedded, setting_table
from velosweep.llama_cpp.arguments import check_speculation
from velosweep.llama_cpp.embedded import EmbeddedEngine, embedded_settings
from velosweep.llama_cpp.engine import Generation, ServerConfig
from velosweep.llama_cpp.server_command import command_arguments
from velosweep.measuring.sample_rows import invalid_reason
from velosweep.values import Mode


def run_of(server: ServerConfig, tmp_path: Path, *, times: int = 1) -> list[Generation]:
    """Runs of the embedded engine."""
    session = EmbeddedEngine().launch(server, lane=CPU, log_path=tmp_path / f"{server.label}.log")
    try:
        session.wait_ready(60)
        return [session.generate(request(n_predict=48), timeout_s=60) for _ in range(times)]
    finally:
        session.close()


def test_every_default_that_drifted_is_said() -> None:
    settings = embedded_settings(speculative(6, speculation=Speculation(p_min=0.5, n_min=1)), lane=CPU)

    assert {
        "speculative.draft.n_max": 6,
        "speculative.draft.n_min": 1,
        "speculative.draft.p_min": 0.5,
        "speculative.draft.n_gpu_layers": 0,
        "n_ctx": 4096,
        "n_parallel": 1,
        "cpuparams.n_threads": 1,
        "cache_ram_mib": 0,
        "fit_params": False,
    }.items() <= settings.items()


def test_vanilla_says_that_it_does_not_speculate() -> None:
    settings: dict[str, Any] = embedded_settings(vanilla(), lane=CPU)

    assert settings["speculative.types"] == [{"enum": ["common_speculative_type", "COMMON_SPECULATIVE_TYPE_NONE"]}]


def test_a_gpu_lane_gets_its_layers() -> None:
    assert embedded_settings(vanilla(gpu_layers=20), lane=gpu_lane("GPU-a"))["n_gpu_layers"] == 20


@pytest.mark.parametrize(
    "kinds", [("draft",), ("ngram-simple",), ("ngram-mod",), ("ngram-cache",), ("draft", "ngram-map-k")]
)
def test_every_setting_is_one_that_this_xllamacpp_has(kinds: tuple[str, ...]) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    from velosweep.llama_cpp.embedded_child import apply_settings

    server = speculative(
        speculation=Speculation(kinds=kinds, synthetic_acceptance=1.5), tensor_split=(1.0,), split_mode="layer"
    )
    apply_settings(xllamacpp.CommonParams(), embedded_settings(server, lane=CPU), xllamacpp)


@pytest.mark.real
def test_greedy_speculation_gives_the_vanilla_text_and_honest_figures(pair: tuple[str, str], tmp_path: Path) -> None:
    main, draft = pair
    plain = run_of(vanilla(main), tmp_path)[0]
    server = speculative(4, main_model=main, draft_model=draft)
    first, again = run_of(server, tmp_path, times=2)

    assert invalid_reason(plain, vanilla(main), request(n_predict=48)) is None
    assert invalid_reason(first, server, request(n_predict=48)) is None
    assert plain.tokens == first.tokens == again.tokens
    assert (first.draft_tokens, first.accepted_tokens) == (again.draft_tokens, again.accepted_tokens)
    assert first.accepted_per_position is not None
    assert len(first.accepted_per_position) == 4
    assert sum(first.accepted_per_position) == first.accepted_tokens


@pytest.mark.real
@pytest.mark.parametrize("depth", [0, 300])
def test_the_time_spent_drafting_and_batches_behind_the_run_are_told(
    pair: tuple[str, str], tmp_path: Path, depth: int
) -> None:
    told = {}
    for one in (vanilla(pair[0]), speculative(4, main_model=pair[0], draft_model=pair[1])):
        server = replace(one, depth=depth)
        session = EmbeddedEngine().launch(server, lane=CPU, log_path=tmp_path / f"{server.label}.log")
        try:
            session.wait_ready(60)
            asked = replace(request(n_predict=48), batches=(5, 9))
            told[server.mode] = [session.generate(asked, timeout_s=60) for _ in range(2)]
        finally:
            session.close()

    for run in told[Mode.VANILLA]:
        assert run.draft_ms is None
    for run in told[Mode.SPECULATIVE]:
        assert run.draft_ms is not None
        assert 0 < run.draft_ms < run.predicted_ms
    for run in (*told[Mode.VANILLA], *told[Mode.SPECULATIVE]):
        assert run.batch_tokens == (5, 9)
        assert run.batch_ms is not None
        assert all(ms > 0 for ms in run.batch_ms)
    first, again = told[Mode.SPECULATIVE]
    assert (first.tokens, first.draft_tokens, first.prompt_tokens) == (
        again.tokens, again.draft_tokens, again.prompt_tokens,
    )  # fmt: skip


def test_experts_on_the_cpu_are_the_overrides_that_llama_cpp_makes_of_them() -> None:
    both = embedded_settings(speculative(n_cpu_moe=2, override_tensor="b=CPU", draft_n_cpu_moe=1), lane=CPU)
    experts = [rf"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU" for layer in (0, 1)]

    assert both["tensor_buft_overrides"] == ",".join([*experts, "b=CPU"])
    assert both["speculative.draft.tensor_buft_overrides"] == experts[0]
    assert "tensor_buft_overrides" not in embedded_settings(vanilla(n_cpu_moe=0), lane=CPU)


@pytest.mark.real
def test_tensors_are_placed_by_pattern_and_an_unknown_buffer_says_so(pair: tuple[str, str], tmp_path: Path) -> None:
    placed = {"override_tensor": r"blk\.1\.ffn_.*=CPU", "draft_override_tensor": "ffn=CPU", "n_cpu_moe": 1}
    server = speculative(2, main_model=pair[0], draft_model=pair[1], **placed)

    assert run_of(server, tmp_path)[0].draft_tokens > 0
    with pytest.raises(LaunchFailed, match=r"a buffer type in engine.override_tensor .* is unknown"):
        run_of(vanilla(pair[0], override_tensor="ffn=NOWHERE"), tmp_path)


@pytest.mark.real
def test_a_kind_that_this_release_knows_nothing_of_runs_under_its_llama_cpp_name(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that has never heard of ngram-map-k, in the llama.cpp that has it."""
    for table in (speculation_kinds.KINDS, speculation_kinds._BY_LLAMA_CPP):
        monkeypatch.delitem(table, "ngram-map-k")
    ours = {name: one for name, one in setting_table.SETTINGS.items() if not name.startswith("ngram_map_k.")}
    for module in (setting_table, arguments, embedded):
        monkeypatch.setattr(module, "SETTINGS", ours)
    monkeypatch.setattr(
        setting_table, "_OUR_FLAGS", {flag for flag in setting_table._OUR_FLAGS if "ngram-map-k-" not in flag}
    )
    speculation = Speculation(kinds=("ngram-map-k",), parameters=(("ngram_map_k.size_n", 2),))
    engine = EmbeddedEngine()
    server = speculative(3, main_model=pair[0], draft_model=None, speculation=speculation)

    known = engine.capabilities_for(speculation)
    check_speculation(speculation, known)
    (run,) = run_of(server, tmp_path)
    shown = command_arguments(server, lane=CPU, capabilities=known)

    assert " ".join(shown).endswith("--spec-type ngram-map-k --spec-ngram-map-k-size-m 3 --spec-ngram-map-k-size-n 2")
    assert run.draft_tokens > 0
    assert len(run.accepted_per_position) == 3
    with pytest.raises(ProgramError, match=r"it knows draft-simple, .*ngram-map-k, "):
        check_speculation(Speculation(kinds=("ngram-of-next-month",)), known)
    with pytest.raises(ProgramError, match=r"parameter draft.conf_min needs; it has .*ngram_map_k_size_n"):
        check_speculation(Speculation(parameters=(("draft.conf_min", 0.5),)), known)


@pytest.mark.real
@pytest.mark.parametrize("p_min", [0.0, 0.7])
def test_rounds_are_the_decodes_that_llama_cpp_counts_also_where_nothing_is_drafted(
    pair: tuple[str, str], tmp_path: Path, p_min: float
) -> None:
    server = speculative(4, main_model=pair[0], draft_model=pair[1], speculation=Speculation(p_min=p_min))
    session = EmbeddedEngine().launch(server, lane=CPU, log_path=tmp_path / "log")
    try:
        session.wait_ready(60)
        before = decodes(session)
        run = session.generate(request(n_predict=48), timeout_s=60)
        counted = decodes(session) - before - 1  # the prompt's
    finally:
        session.close()

    assert run.rounds == counted == 47 - run.accepted_tokens
    assert (run.drafting_rounds < run.rounds) is (p_min > 0)


def decodes(session: Any) -> int:
    """llama.cpp's own count of decodes so far."""
    text = session._client._http.request("GET", "/metrics", timeout_s=10).body.decode()
    return int(float(re.search(r"^llamacpp:n_decode_total (\S+)$", text, re.MULTILINE).group(1)))


@pytest.mark.real
def test_a_prompt_is_refused_beforehand_exactly_where_its_run_would_be_cut_short(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    server, text = vanilla(pair[0], context=256), "word " * 40  # 201 tokens with the first one
    session = EmbeddedEngine().launch(server, lane=CPU, log_path=tmp_path / "log")
    try:
        session.wait_ready(60)
        session.check_request(request(text, n_predict=54))
        whole, cut = (session.generate(request(text, n_predict=n), timeout_s=60) for n in (54, 55))
        with pytest.raises(RequestRefused, match=r"201 tokens of the prompt and 55 to generate.*engine\.context=257"):
            session.check_request(request(text, n_predict=55))
        with pytest.raises(RequestRefused, match="exceeds the available context size"):
            session.generate(request(text * 2), timeout_s=60)
    finally:
        session.close()

    assert invalid_reason(whole, server, request(text, n_predict=54)) is None
    assert "truncated" in (invalid_reason(cut, server, request(text, n_predict=55)) or "")


@pytest.mark.real
def test_a_system_message_is_the_templates_and_not_the_prompts(pair: tuple[str, str], tmp_path: Path) -> None:
    session = EmbeddedEngine().launch(vanilla(pair[0]), lane=CPU, log_path=tmp_path / "log")
    asked = request("Hi", chat=True)
    try:
        session.wait_ready(60)
        with_system = session._client._chat.text(replace(asked, prompt=replace(asked.prompt, system="Be terse.")))
        without = session._client._chat.text(asked)
    finally:
        session.close()

    assert with_system == "<|im_start|>system\nBe terse.<|im_end|>\n" + without


@pytest.mark.real
def test_a_missing_draft_is_told_and_not_measured_as_vanilla(pair: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match=r"gone\.gguf can't be opened"):
        run_of(speculative(main_model=pair[0], draft_model="/gone.gguf"), tmp_path)


@pytest.mark.real
def test_a_damaged_model_is_told(tmp_path: Path) -> None:
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"this is no model" * 100)

    with pytest.raises(LaunchFailed, match="is not GGUF, or damaged"):
        run_of(vanilla(str(junk)), tmp_path)


@pytest.mark.real
def test_an_abort_inside_llama_cpp_ends_the_child_only(pair: tuple[str, str], tmp_path: Path) -> None:
    main, draft = pair
    from velosweep.errors import RunFailed

    with pytest.raises((LaunchFailed, RunFailed), match=r"SIGABRT.*GGML_ASSERT"):
        run_of(speculative(0, main_model=main, draft_model=draft), tmp_path)


@pytest.fixture(autouse=True)
def _no_children() -> Iterator[None]:
    import psutil

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield

    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
