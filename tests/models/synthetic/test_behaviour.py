"""What a real llama.cpp makes of synthetic pairs: eps decides the acceptance, text is printable, types load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.llama_cpp.servers import CPU, speculative, vanilla
from velosweep.config.settings import Prompt, Sampling, SyntheticShape
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Request
from velosweep.models.synthetic.pair import write_files

pytestmark = pytest.mark.real

# Narrower models feel llama.cpp's rounding (a batch's is another than a single token's) enough to miss 100 %.
SHAPE = SyntheticShape(
    layers=4, kept_layers=1, width=256, feed_forward=512, heads=4, kv_heads=2, vocabulary=320, eps=0.0
)


@pytest.fixture
def run(tmp_path):
    """Generate with a pair of a shape: the speculative arm, or the vanilla one where n_draft is 0."""

    def generate(shape, n_draft, *, temperature=0.0):
        main, draft = tmp_path / f"{shape.eps}-main.gguf", tmp_path / f"{shape.eps}-draft.gguf"
        write_files(shape, "draft", (main, draft))
        models = {"main_model": str(main), "kind": "embedded", "context": 512}
        arm = speculative(n_draft, draft_model=str(draft), **models) if n_draft else vanilla(**models)
        session = EmbeddedEngine().launch(arm, lane=CPU, log_path=tmp_path / f"{shape.eps}-{n_draft}.log")
        try:
            session.wait_ready(60)
            prompt, sampling = Prompt(id="p", text="Explain it"), Sampling(temperature=temperature)
            return session.generate(Request(prompt=prompt, n_predict=96, sampling=sampling), timeout_s=60)
        finally:
            session.close()

    return generate


def acceptance(generation):
    return generation.accepted_tokens / generation.draft_tokens


def test_eps_decides_how_often_the_draft_is_right(run):
    rates = [acceptance(run(replace(SHAPE, eps=eps), 4)) for eps in (0.0, 0.1, 3.0)]

    assert rates[0] > 0.97
    assert rates[0] > rates[1] > rates[2]
    assert rates[2] < 0.3


def test_greedy_speculation_gives_the_vanilla_text(run):
    shape = replace(SHAPE, eps=0.1)

    assert run(shape, 0).tokens == run(shape, 5).tokens


def test_text_is_printable_ascii_even_when_it_is_hot(run):
    text = run(SHAPE, 0, temperature=3.0).text

    assert len(text) == 96
    assert text.isascii()
    assert text.isprintable()
    assert len(set(text)) > 20


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_0"])
def test_every_type_runs(run, kind):
    assert acceptance(run(replace(SHAPE, type=kind), 3)) > 0.8
