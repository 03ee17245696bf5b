"""Whatever varies is part of a job's name, shortened to what tells jobs apart."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from tests.planning.jobs import job
from velosweep.config.settings import (
    Adaptive,
    EngineSettings,
    ModelPair,
    Prompt,
    PromptSet,
    Protocol,
    Sampling,
    Speculation,
    SyntheticShape,
)
from velosweep.planning.identity import identify
from velosweep.planning.job_names import JobNames, names_of_jobs, shortened
from velosweep.planning.job_settings import default_of as default
from velosweep.planning.job_settings import other_settings, overridden_settings

MAIN = "/m/SmolLM2-135M-f16.gguf"


def named(*changes: dict[str, Any]) -> JobNames:
    jobs = [job(num=num, **change) for num, change in enumerate(changes)]
    return names_of_jobs(identify(jobs, {}))


def labels(*changes: dict[str, Any]) -> list[str]:
    return list(named(*changes).labels.values())


def pair(draft: str | None, main: str = MAIN) -> ModelPair:
    stems = " + ".join(path.rpartition("/")[2].removesuffix(".gguf") for path in (main, draft) if path)
    return ModelPair(name=stems, main_model=main, draft_model=draft)


def engine(**changes: Any) -> EngineSettings:
    return EngineSettings(kind="server", program="llama-server", threads=1, **changes)


def test_drafts_are_told_apart_by_the_words_in_which_they_differ() -> None:
    drafts = [pair(f"/m/SmolLM2-135M-{kind}.gguf") for kind in ("Q4_1", "q8_0")]
    names = named(*({"model_pair": draft, "n_draft": n} for draft in drafts for n in (2, 4)))

    assert list(names.labels.values()) == [
        "Q4_1 draft, n_draft 2", "Q4_1 draft, n_draft 4", "q8_0 draft, n_draft 2", "q8_0 draft, n_draft 4",
    ]  # fmt: skip
    assert list(names.series.values()) == ["Q4_1 draft", "Q4_1 draft", "q8_0 draft", "q8_0 draft"]
    assert set(names.vanilla.values()) == {"vanilla"}
    assert [names.titles[key] for key in names.keys] == ["draft", "n_draft"]


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("engine", (engine(), engine(cache_type_k="q8_0")), ["cache_type_k f16", "cache_type_k q8_0"]),
        (
            "engine",
            (EngineSettings(kind="server"), EngineSettings(kind="embedded")),
            ["engine server", "engine embedded"],
        ),
        ("engine", (engine(mmap=True), engine(mmap=False)), ["mmap true", "mmap false"]),
        ("engine", (engine(), engine(tensor_split=(3.0, 1.0))), ["tensor_split none", "tensor_split 3.0,1.0"]),
        ("speculation", (Speculation(), Speculation(p_min=0.8)), ["p_min 0", "p_min 0.8"]),
        (
            "speculation",
            tuple(Speculation(kinds=("ngram-mod",), parameters=(("ngram_mod.n_match", n),)) for n in (16, 24)),
            ["n_match 16", "n_match 24"],
        ),
        ("n_predict", (50, 100), ["n_predict 50", "n_predict 100"]),
        ("skip_vanilla", (False, True), ["skip_vanilla false", "skip_vanilla true"]),
        (
            "prompts",
            tuple(PromptSet(name="custom", prompts=(Prompt(id="line-1", text=text),)) for text in ("One", "Two")),
            ["One", "Two"],
        ),
        (
            "model_pair",
            tuple(
                ModelPair(name="synthetic", main_model=f"/c/m{eps}", draft_model=f"/c/d{eps}", synthetic=shape)
                for eps in (0.03, 0.1)
                for shape in (SyntheticShape(eps=eps),)
            ),
            ["eps 0.03", "eps 0.1"],
        ),
    ],
)
def test_whatever_key_varies_is_named_by_its_last_word(key: str, values: tuple[Any, ...], said: list[str]) -> None:
    assert labels(*({key: value} for value in values)) == said


def test_two_varying_keys_with_the_same_last_word_stand_in_full() -> None:
    both = [replace(job().sampling, seed=seed) for seed in (1, 2)]
    order = [replace(job().protocol, seed=seed) for seed in (1, 2)]

    assert labels({"sampling": both[0], "protocol": order[0]}, {"sampling": both[1], "protocol": order[1]}) == [
        "sampling.seed 1, protocol.seed 1",
        "sampling.seed 2, protocol.seed 2",
    ]


def test_of_a_choice_that_sets_many_keys_its_name_is_enough() -> None:
    kinds = (
        {"speculation": Speculation()},
        {"speculation": Speculation(kinds=("ngram-mod",), p_min=0.5, parameters=(("ngram_mod.n_match", 24),))},
    )
    pairs = (
        {"model_pair": ModelPair(name="llama8b_1b", main_model="/m/8b.gguf", draft_model="/m/1b.gguf")},
        {"model_pair": ModelPair(name="codellama13b_1b", main_model="/m/13b.gguf", draft_model="/m/c1b.gguf")},
    )

    assert labels(*kinds) == ["draft model", "ngram-mod"]
    assert labels(*pairs) == ["llama8b_1b", "codellama13b_1b"]


def test_a_job_without_speculation_is_named_so_and_vanilla_by_what_it_sees() -> None:
    jobs = [
        {"engine": engine(cache_type_k=kind), "speculation": speculation}
        for kind in ("f16", "q8_0")
        for speculation in (Speculation(), Speculation(kinds=()))
    ]
    names = named(*jobs)

    assert list(names.labels.values()) == [
        "draft model, cache_type_k f16", "no speculation, cache_type_k f16",
        "draft model, cache_type_k q8_0", "no speculation, cache_type_k q8_0",
    ]  # fmt: skip
    assert set(names.vanilla.values()) == {"vanilla, cache_type_k f16", "vanilla, cache_type_k q8_0"}


def test_a_single_job_is_its_n_draft() -> None:
    assert labels({}) == ["n_draft 4"]
    assert labels({"speculation": Speculation(kinds=())}) == ["no speculation"]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (("Llama-3.2-1B-Q4_K_M", "Llama-3.2-3B-Q4_K_M"), ["1B", "3B"]),
        (("Llama-3.2-1B", "Llama-3.1-1B"), ["3.2", "3.1"]),
        (("draft-b24-q4", "draft-b16-q4", "draft-b24-q8"), ["b24-q4", "b16-q4", "b24-q8"]),
        (("smollm2_135m_q4_1", "smollm2_135m_q4_0"), ["q4_1", "q4_0"]),
        (("model", "model-draft"), ["model", "model-draft"]),
        (("Llama-1B", "Qwen-0.5B-Q8_0"), ["Llama-1B", "Qwen-0.5B-Q8_0"]),
        (("a-b", "a_b"), ["a-b", "a_b"]),
        (("only-one-Q4_0",), ["only-one-Q4_0"]),
        (("llama-f16-4", "llama-f16-24"), ["f16-4", "f16-24"]),
    ],
)
def test_files_are_shortened_to_what_tells_them_apart(names: tuple[str, ...], short: list[str]) -> None:
    assert list(shortened([f"/m/{name}.gguf" for name in names]).values()) == short


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    assert list(shortened(["/a/b9000/bin/server", "/a/b9100/bin/server"]).values()) == ["b9000", "b9100"]


def test_a_setting_that_is_not_said_has_its_default() -> None:
    assert default("engine.cache_type_k") == "f16"
    assert default("iterations") == 5
    assert default("speculation.ngram_mod.n_match") is None


@pytest.mark.parametrize(
    ("section", "prefix"),
    [
        (Adaptive, "protocol.adaptive."), (EngineSettings, "engine."), (Protocol, "protocol."),
        (Sampling, "sampling."), (Speculation, "speculation."), (SyntheticShape, "model_pair.synthetic."),
    ],
)  # fmt: skip
def test_every_setting_has_the_default_that_its_key_has(section: type, prefix: str) -> None:
    known = {field.name: field.default for field in fields(section)}
    scalars = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in known.items()}
    told = {"protocol.iterations": "iterations", "engine.program": "llama_cpp.path"}

    assert {name: default(told.get(prefix + name, prefix + name)) for name in known} == scalars


def test_a_setting_of_stopping_when_sure_is_told_apart_from_its_default() -> None:
    rules = [Protocol(adaptive=adaptive) for adaptive in (Adaptive(target=0.005), Adaptive())]

    assert labels(*({"protocol": rule} for rule in rules)) == ["target 0.005", "target 0.01"]


def test_what_is_no_key_has_no_default() -> None:
    assert [default(key) for key in ("protocol.num", "engine.added", "prompts.template_kwargs.stop")] == [None] * 3


def test_overrides_say_what_an_older_sweep_set() -> None:
    words = ["n_draft=4", "+speculation.p_min=0.5", "engine.cache_type_k=q8_0", "engine=server", "hydra.verbose=true"]

    assert overridden_settings(words) == {"speculation.p_min": 0.5, "engine.cache_type_k": "q8_0"}


def test_what_a_job_says_beside_its_core_is_what_differs_from_the_defaults() -> None:
    changed = job(engine=engine(cache_type_k="q8_0"), speculation=Speculation(p_min=0.5), skip_vanilla=True)

    assert other_settings(changed) == {
        "engine.kind": "server",
        "llama_cpp.path": "llama-server",
        "engine.threads": 1,
        "engine.cache_type_k": "q8_0",
        "speculation.p_min": 0.5,
        "skip_vanilla": True,
        "prompt": "Explain quantum computing",
    }


def test_a_model_whose_name_says_its_role_is_called_by_its_file_alone() -> None:
    models = [pair(f"/m/{name}.gguf", main) for main in ("/m/main.gguf", "/m/f16.gguf") for name in ("draft", "head")]

    assert labels(*({"model_pair": one} for one in models)) == [
        "main.gguf, draft.gguf", "main.gguf, head draft", "f16 main model, draft.gguf", "f16 main model, head draft",
    ]  # fmt: skip
