"""What a job is made of, where several keys make it: values joined, and checked against each other.

All functions raise ConfigError with key, value and what to do.
"""

import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path

from velosweep.config.keys import expanded
from velosweep.config.model_references import is_local, reference_name
from velosweep.config.schema import LlamaCpp, PairKeys
from velosweep.config.settings import EngineSettings, ModelPair, Protocol, Speculation
from velosweep.errors import ConfigError


def model_pair(keys: PairKeys) -> ModelPair:
    """The pair. Files that are named win over a synthetic shape, and then name the pair."""
    shape = keys.synthetic
    if shape is not None and not keys.main_model and not keys.draft_model:
        if shape.kept_layers > shape.layers:
            raise ConfigError(
                f"model_pair.synthetic.kept_layers is {shape.kept_layers} of {shape.layers} layers",
                remedy=f"it can be {shape.layers} at most",
            )
        return ModelPair(name=keys.name, main_model="", synthetic=shape)
    if not keys.main_model:
        raise ConfigError(
            "model_pair.main_model has no value", remedy="set it to a GGUF file, or choose model_pair=synthetic"
        )
    named = shape is None and keys.name != "custom"
    models = [keys.main_model, keys.draft_model] if keys.draft_model else [keys.main_model]
    main, *draft = [str(expanded(model)) if is_local(model) else model for model in models]
    name = keys.name if named else " + ".join(map(reference_name, (main, *draft)))
    return ModelPair(name=name, main_model=main, draft_model=draft[0] if draft else None)


def engine(settings: EngineSettings, llama_cpp: LlamaCpp) -> EngineSettings:
    """The settings with the program that is named. Raises ConfigError for an attached engine without a server."""
    if settings.kind == "attached" and not (settings.vanilla_url or settings.speculative_url):
        raise ConfigError(
            "engine.kind is 'attached' and no server is named",
            remedy="set engine.vanilla_url and engine.speculative_url, e.g. http://127.0.0.1:8080",
        )
    if settings.kind == "attached":
        _check_attached(settings)
    return replace(settings, program=str(expanded(llama_cpp.path))) if llama_cpp.path else settings


def _check_attached(settings: EngineSettings) -> None:
    """Refuse settings that would label a running server with what it was not started with."""
    own = ("kind", "program", "vanilla_url", "speculative_url")
    said = [
        f"engine.{field.name}={value}"
        for field in fields(EngineSettings)
        if field.name not in own and (value := getattr(settings, field.name)) != field.default
    ]
    if said:
        raise ConfigError(
            f"{', '.join(said)} can't be given to a server that already runs (engine=attached)",
            remedy="start the server so, and leave it out here; or let velosweep start it with engine=server",
        )


def protocol(protocol: Protocol, iterations: int) -> Protocol:
    """The protocol with its iterations. Raises ConfigError where launches or the adaptive rule can't be kept."""
    if protocol.launches > iterations:
        raise ConfigError(
            f"iterations is {iterations}",
            remedy=f"it must be at least {protocol.launches} (protocol.launches shares them out)",
        )
    rule = protocol.adaptive
    if rule is not None and rule.max_pairs < rule.min_pairs:
        raise ConfigError(
            f"protocol.adaptive.max_pairs is {rule.max_pairs}",
            remedy=f"it must be at least {rule.min_pairs} (protocol.adaptive.min_pairs)",
        )
    return replace(protocol, iterations=iterations)


def check_measurable(pair: ModelPair, speculation: Speculation, skip_vanilla: bool) -> None:
    """Raise ConfigError where a draft model is missing, or nothing would be measured."""
    if speculation.needs_draft_model and pair.synthetic is None and not pair.draft_model:
        raise ConfigError(
            "model_pair.draft_model has no value",
            remedy="set it to a GGUF file, or choose a speculation that needs none, e.g. speculation=ngram-simple",
        )
    if skip_vanilla and not speculation.kinds:
        raise ConfigError(
            "skip_vanilla=true with speculation=none leaves nothing to measure", remedy="drop one of the two"
        )


def check_context(key: str, tokens: int, engine: EngineSettings) -> None:
    """Refuse an answer or a draft that the context can't hold, since then no run could be whole."""
    if engine.kind != "attached" and tokens >= engine.context:  # an attached server's context is its own
        other = " (2 to 16 are usual)" if key == "n_draft" else f", or set engine.context={2 * tokens}"
        raise ConfigError(
            f"{key} is {tokens}, and engine.context is {engine.context}",
            remedy=f"the context takes prompt, answer and draft: lower {key}{other}",
        )


def check_main_model(pair: ModelPair) -> None:
    """A missing file is refused later; said here only beside what else is wrong."""
    if pair.main_model and is_local(pair.main_model) and not os.path.exists(pair.main_model):  # noqa: PTH110
        raise ConfigError(f"No model at {pair.main_model}", remedy="set model_pair.main_model to a GGUF file")


def output_path(output: str | None, base: Path) -> str | None:
    """Absolute path of the extra summary, if it could be written; None where none is wanted."""
    if output is None:
        return None
    path = (base / expanded(output)).absolute()
    remedy = "set output to a file in a folder that you can write to"
    if path.is_dir():
        raise ConfigError(f"output={output} is a folder", remedy=f"name a file, for instance {output}/summary.json")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise ConfigError(f"output={output} can't be written", remedy=remedy)
        return str(path)
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir():
        raise ConfigError(f"output={output}: {folder} is not a folder", remedy=remedy)
    try:
        with tempfile.TemporaryFile(dir=folder):  # root may write everywhere by its rights, and still not in /proc
            pass
    except OSError as error:
        raise ConfigError(f"output={output}: {folder} can't be written to", remedy=remedy) from error
    return str(path)
