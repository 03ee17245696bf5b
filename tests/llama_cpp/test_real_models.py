"""A real language model through a real llama-server, and through the embedded llama.cpp."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests import real_models
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.config.settings import Sampling
from velosweep.llama_cpp import process
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Engine, Generation, Request, ServerConfig, Session
from velosweep.llama_cpp.server import ServerEngine
from velosweep.measuring.sample_rows import invalid_reason

pytestmark = pytest.mark.real

PROMPTS = {
    "code": request("Write a Python function that returns the n-th Fibonacci number.", 12, chat=True),
    "chat": request("Explain quantum computing in simple terms", 12, chat=True),
    "repetition": request("one two three four, " * 12, 12),
    "cjk_and_emoji": request("こんにちは、世界 🎉 你好，世界 🎉 " * 5, 16),
}


@dataclass
class Servers:
    """A vanilla and a speculative server of one engine, running."""

    configs: tuple[ServerConfig, ServerConfig]
    sessions: tuple[Session, Session]
    runs: dict[tuple[int, Request], Generation] = field(default_factory=dict)

    def both(self, asked: Request) -> tuple[Generation, Generation]:
        """A run of each, taken once."""
        for key in ((0, asked), (1, asked)):
            if key not in self.runs:
                self.runs[key] = self.run(*key)
        return self.runs[0, asked], self.runs[1, asked]

    def run(self, which: int, asked: Request) -> Generation:
        """A run, which must be valid."""
        run = self.sessions[which].generate(asked, timeout_s=120)

        assert invalid_reason(run, self.configs[which], asked) is None
        return run

    def close(self) -> None:
        for session in self.sessions:
            session.close()


def serve(engine: Engine, main: str, draft: str, logs: Path) -> Servers:
    """Both servers, ready."""
    configs = vanilla(main), speculative(4, main_model=main, draft_model=draft)
    vanilla_session, speculative_session = (
        engine.launch(config, lane=CPU, log_path=logs / f"{config.label}.log") for config in configs
    )
    servers = Servers(configs, (vanilla_session, speculative_session))
    try:
        for session in servers.sessions:
            session.wait_ready(120)
    except BaseException:
        servers.close()
        raise
    return servers


@pytest.fixture(scope="module", params=["native", "embedded"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """llama-server with f16 models, and the embedded llama.cpp with quantised ones."""
    native = request.param == "native"
    engine: Engine = ServerEngine(real_models.llama_server()) if native else EmbeddedEngine()
    main, draft = ("f16", "draft-f16") if native else ("q8_0", "draft-q4_0")
    servers = serve(engine, real_models.model(main), real_models.model(draft), tmp_path_factory.mktemp("logs"))
    yield servers
    servers.close()


@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_speculation_gives_the_vanilla_text_and_every_draft_is_counted(servers: Servers, name: str) -> None:
    plain, drafted = servers.both(PROMPTS[name])

    assert plain.tokens == drafted.tokens
    assert plain.text == drafted.text
    assert (plain.draft_tokens or 0, plain.accepted_tokens or 0) == (0, 0)
    assert drafted.accepted_per_position is not None
    assert len(drafted.accepted_per_position) == 4
    assert drafted.draft_tokens >= drafted.accepted_tokens > 0
    assert sum(drafted.accepted_per_position) == drafted.accepted_tokens


def test_text_of_several_bytes_a_character_arrives_whole(servers: Servers) -> None:
    _, drafted = servers.both(PROMPTS["cjk_and_emoji"])

    assert not drafted.text.isascii()
    assert "\N{REPLACEMENT CHARACTER}" not in drafted.text[:-1]


def test_the_chat_template_is_applied_where_it_is_asked_for(servers: Servers) -> None:
    templated, _ = servers.both(PROMPTS["chat"])
    bare, _ = servers.both(replace(PROMPTS["chat"], chat=False))

    assert templated.prompt_tokens > bare.prompt_tokens + 10
    assert templated.text != bare.text


def test_a_warm_run_is_drafted_and_its_seed_decides_it(servers: Servers) -> None:
    warm = replace(PROMPTS["chat"], sampling=Sampling(temperature=0.8, seed=1))
    once, drafted = servers.both(warm)
    other = servers.run(0, replace(warm, sampling=Sampling(temperature=0.8, seed=2)))

    assert once.tokens == servers.run(0, warm).tokens != other.tokens
    assert drafted.draft_tokens > drafted.accepted_tokens > 0


def test_a_text_may_end_by_itself(servers: Servers) -> None:
    asked = replace(request("Say hi.", 64, chat=True), stop="natural")
    plain, drafted = servers.both(asked)

    assert plain.tokens == drafted.tokens
    assert plain.stop_reason == drafted.stop_reason == "eos"
    assert 2 <= plain.predicted_tokens < 64


def test_the_template_gets_the_system_message_and_its_values(servers: Servers) -> None:
    bare = PROMPTS["chat"]
    system = replace(bare, prompt=replace(bare.prompt, system="Answer as a pirate who loves long sentences."))
    with_values = replace(bare, template_kwargs=(("add_generation_prompt_of_nobody", False),))

    assert servers.run(0, system).prompt_tokens != servers.run(0, bare).prompt_tokens  # the template has one of its own
    assert servers.run(0, with_values).prompt_tokens == servers.run(0, bare).prompt_tokens


def test_a_context_of_2000_tokens_is_measured(tmp_path: Path) -> None:
    asked = request(" ".join(str(number) for number in range(530)), 12)
    model = real_models.model("two-blocks")
    servers = serve(ServerEngine(real_models.llama_server()), model, model, tmp_path)
    try:
        plain, drafted = servers.both(asked)
    finally:
        servers.close()

    assert 1900 < plain.prompt_tokens == drafted.prompt_tokens < 2200
    assert plain.tokens == drafted.tokens
    assert drafted.draft_tokens == drafted.accepted_tokens > 0


def test_a_main_model_in_f32_is_measured(tmp_path: Path) -> None:
    main, draft = real_models.model("f32"), real_models.model("draft-f16")
    servers = serve(ServerEngine(real_models.llama_server()), main, draft, tmp_path)
    try:
        plain, drafted = servers.both(replace(PROMPTS["code"], n_predict=16))
    finally:
        servers.close()

    assert plain.tokens == drafted.tokens
    assert drafted.draft_tokens > drafted.accepted_tokens > 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a compiler")
def test_no_library_of_the_current_folder_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = real_models.llama_server()
    monkeypatch.chdir(tmp_path)
    attack = f'fclose(fopen("{tmp_path}/loaded", "w"));'
    source = f"#include <stdio.h>\n__attribute__((constructor)) void f(void) {{ {attack} }}"
    for name in ("libggml-cpu-x.so", "libggml-vulkan-x.so", "libggml-cuda.so"):
        subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-o", name, "-"], input=source, text=True, check=True)
    said = process.ask([program, "--list-devices"])

    assert "Available devices" in said.stdout + said.stderr
    assert not (tmp_path / "loaded").exists()
