"""prompts.chat=auto: the chat template is applied where the main model has one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.models.gguf_bytes import model, vocabulary
from tests.planning.jobs import job
from velosweep.config.settings import EngineSettings, Job, ModelPair, Prompt, PromptSet, Speculation
from velosweep.errors import ConfigError
from velosweep.measuring.job_resolver import JobResolver


def asked(path: Path, **changes: object) -> Job:
    prompts = PromptSet(name="mine", prompts=(Prompt(id="a", text="Explain"),), chat=None)
    return job(
        model_pair=ModelPair(name="one", main_model=str(path)),
        speculation=Speculation(kinds=("ngram-simple",)),
        engine=EngineSettings(kind="embedded"),
        prompts=replace(prompts, **changes),  # type: ignore[arg-type]
    )


def written(folder: Path, **values: object) -> Path:
    path = folder / "main.gguf"
    known = {"general.architecture": "llama", "llama.block_count": 1, **vocabulary([str(n) for n in range(8)])}
    path.write_bytes(model({**known, **values}, {"token_embd.weight": ((32, 8), 0), "output.weight": ((32, 8), 0)}))
    return path


@pytest.mark.parametrize(
    ("template", "chat"), [("{% for m in messages %}", True), ("{{ .System }}", False), (None, False)]
)
def test_auto_is_settled_by_the_main_models_header(tmp_path: Path, template: str | None, chat: bool) -> None:
    values = {"tokenizer.chat_template": template} if template else {}

    resolved = JobResolver(say=print).resolve(asked(written(tmp_path, **values)))

    assert resolved.prompts.chat is chat


def test_why_auto_means_raw_text_is_known_and_only_then(tmp_path: Path) -> None:
    path = written(tmp_path, **{"tokenizer.chat_template": "{% for m in messages %}"})
    attached = EngineSettings(kind="attached", vanilla_url="http://127.0.0.1:9")
    resolver = JobResolver(say=print)

    resolver.resolve(asked(path))
    resolver.resolve(replace(asked(path, chat=False), engine=attached))
    assert not resolver.raw_text
    assert resolver.resolve(replace(asked(path), engine=attached)).prompts.chat is False
    assert ["prompts.chat=true applies it" in why for why in resolver.raw_text] == [True]


def test_prompts_that_need_a_template_are_refused_where_there_is_none(tmp_path: Path) -> None:
    path = written(tmp_path)

    for changes in ({"system": "Be terse."}, {"prompts": (Prompt(id="a", text="And?", before=("Explain",)),)}):
        with pytest.raises(ConfigError, match="there is no chat template for them"):
            JobResolver(say=print).resolve(asked(path, **changes))
