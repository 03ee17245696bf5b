"""What people are warned of before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.measuring.headers import header
from tests.models.gguf_bytes import model, vocabulary
from tests.models.model_files import write_model
from tests.models.test_model_checks import TENSORS, write
from tests.planning.jobs import job
from velosweep.config.settings import EngineSettings, Job, ModelPair, Sampling, Speculation
from velosweep.errors import ConfigError
from velosweep.measuring.job_resolver import JobResolver
from velosweep.measuring.preflight_warnings import hive_folder_warnings, preflight_warnings
from velosweep.models.gguf_model import GgufInfo
from velosweep.values import Device, Lane

CPU = Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))
GPU = Lane(number=0, devices=(Device(kind="cuda", name="H100"),))
MANY = 10_000


def sizes(main: int, draft: int) -> Mapping[str, GgufInfo]:
    return {"main.gguf": header(main, None), "draft.gguf": header(draft, None)}


def trained_for(context: int) -> Mapping[str, GgufInfo]:
    """A pair whose draft model was trained for so many tokens."""
    return {"main.gguf": header(5, None), "draft.gguf": replace(header(1, None), trained_context=context)}


def with_threads(threads: int, **changes: Any) -> Job:
    one = job(**changes)
    return replace(one, engine=replace(one.engine, threads=threads))


def thinking(*args: str, chat: bool = True) -> Job:
    one = job()
    prompts = replace(one.prompts, chat=chat, template_kwargs=(("enable_thinking", False),))
    return replace(one, prompts=prompts, engine=replace(one.engine, args=args))


def with_template(template: str) -> Mapping[str, GgufInfo]:
    return {"main.gguf": replace(header(5, None), chat_template=template), "draft.gguf": header(1, None)}


@pytest.mark.parametrize(
    ("one", "headers", "lanes", "remedies"),
    [
        (job(), sizes(5, 1), [CPU], []),
        (job(), sizes(5, 5), [CPU], ["choose a draft model a fifth"]),
        (job(), {}, [CPU], []),
        (job(speculation=Speculation(kinds=("ngram-simple",))), sizes(1, 5), [CPU], []),
        (job(n_draft=20, n_predict=20), {}, [CPU], ["raise n_predict above 21"]),
        (job(n_draft=19, n_predict=20), {}, [CPU], ["raise n_predict above 20"]),
        (job(n_draft=18, n_predict=20), {}, [CPU], []),
        (job(n_draft=20, n_predict=20, speculation=Speculation(kinds=())), {}, [CPU], []),
        (job(n_predict=255), trained_for(256), [CPU], []),
        (job(n_predict=256), trained_for(256), [CPU], ["stay below 256"]),
        (job(n_predict=100, depth=200), trained_for(256), [CPU], ["stay below 256"]),
        (job(sampling=Sampling(top_p=0.9)), {}, [CPU], ["set sampling.temperature=0.8"]),
        (job(sampling=Sampling(temperature=0.8, top_p=0.9)), {}, [CPU], []),
        (job(sampling=Sampling(repeat_penalty=1.1)), {}, [CPU], []),
        (thinking(), with_template("{% if enable_thinking %}"), [CPU], []),
        (thinking(), with_template("{% if thinking %}"), [CPU], ["check its spelling"]),
        (thinking(chat=False), with_template("{% if thinking %}"), [CPU], []),
        (thinking("--chat-template-file"), with_template("{% if thinking %}"), [CPU], []),
        (thinking(), {}, [CPU], []),
        (with_threads(MANY), {}, [CPU], ["leave engine.threads out"]),
        (with_threads(MANY), {}, [], []),
        (with_threads(1), {}, [CPU] * MANY, ["leave engine.threads out"]),
        (with_threads(1), {}, [GPU] * MANY, []),
    ],
)
def test_what_is_probably_a_mistake_is_warned_of_with_what_to_do(
    one: Job, headers: Mapping[str, GgufInfo], lanes: list[Lane], remedies: list[str]
) -> None:
    warnings = list(preflight_warnings([one, one], headers, lanes))

    assert len(warnings) == len(remedies)
    assert all(remedy in warning.lower() for remedy, warning in zip(remedies, warnings, strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_predict": 255}, None),
        ({"n_predict": 256}, r"n_predict is 256, and the model .*main\.gguf was trained for a context of 256"),
        ({"n_predict": 100, "depth": 200}, r"n_predict is 100 and depth 200, and the model"),
        ({"n_predict": 300, "args": ("--override-kv", "llama.context_length=int:512")}, None),
    ],
)
def test_more_than_the_main_model_was_trained_for_is_refused_before_anything_runs(
    changes: dict[str, Any], words: str | None, tmp_path: Path
) -> None:
    values = vocabulary(["a", "b"]) | {"llama.context_length": 256}
    for name in ("main.gguf", "draft.gguf"):
        write(tmp_path, model(values, TENSORS), name)
    pair = ModelPair(name="p", main_model=str(tmp_path / "main.gguf"), draft_model=str(tmp_path / "draft.gguf"))
    engine = EngineSettings(kind="embedded", threads=1, args=changes.pop("args", ()))
    resolver = JobResolver(say=lambda text: None)

    if words is None:
        resolver.resolve(job(model_pair=pair, engine=engine, **changes))
        return
    with pytest.raises(ConfigError, match=words):
        resolver.resolve(job(model_pair=pair, engine=engine, **changes))


@pytest.mark.parametrize("kinds", [("draft-mtp",), ("ngram-simple", "draft-mtp")])
def test_heads_of_the_main_model_have_no_use_for_a_plain_draft_model(kinds: tuple[str, ...], tmp_path: Path) -> None:
    heads = {"general.architecture": "glm4moe", "glm4moe.nextn_predict_layers": 1}
    main = write_model(tmp_path / "main.gguf", **heads)
    draft = write_model(tmp_path / "draft.gguf")
    pair = ModelPair(name="p", main_model=str(main), draft_model=str(draft))
    engine = EngineSettings(kind="embedded", threads=1)
    asked = job(model_pair=pair, engine=engine, speculation=Speculation(kinds=kinds))

    assert JobResolver(say=lambda text: None).resolve(asked).model_pair.draft_model is None


@pytest.mark.parametrize(
    ("root", "directory", "named"),
    [
        ("/out", "0", None),
        ("/out", "n_draft=4", "n_draft=4"),
        ("/out/host=here/x", "", "host=here"),
        ("/out", "colour=red", None),
        ("/out", "n_draft", None),
    ],
)
def test_a_folder_that_shadows_a_column_of_ours_is_warned_of(root: str, directory: str, named: str | None) -> None:
    warnings = list(hive_folder_warnings(Path(root), [job(directory=directory)]))

    assert [named in warning for warning in warnings if named] == ([True] if named else [])
    assert bool(warnings) is (named is not None)
