"""The tree of all keys that a person may write: what `velosweep key=value` and the YAML files of conf/ can set."""

# ruff: noqa: RUF009 (`key` returns a dataclass field)
import difflib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from velosweep.config.flags import ALIASES
from velosweep.config.keys import Key, dotted_keys, flattened, gpus, key, structured, yes_no_auto
from velosweep.config.settings import EngineSettings, Protocol, Sampling, Speculation, SyntheticShape, TunerSettings
from velosweep.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaCpp:
    """Where llama.cpp is."""

    path: str | None = key(None, "folder of a llama.cpp (its build/bin is found), or llama-server itself")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairKeys:
    """The keys that a `ModelPair` is made of: two files, or a shape."""

    name: str = key("custom", "what results call the pair")
    main_model: str | None = key(None, "main model: a GGUF file, hf://owner/repo/file.gguf or owner/repo:Q4_K_M")
    draft_model: str | None = key(None, "draft model, likewise")
    synthetic: SyntheticShape | None = key(None, "shape of a pair to be written, instead of files")


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptKeys:
    """The keys that a `PromptSet` is made of."""

    name: str = key("custom", "what results call the set")
    items: tuple[Any, ...] = key((), "prompts: strings, or {id, text, category}")
    file: str | None = key(None, "file with one prompt a line (.txt) or one object a line (.jsonl)")
    limit: int | None = key(None, "take this many, drawn with prompts.seed, evenly over categories", least=1)
    seed: int = key(0, "seed of that draw", least=0)
    categories: tuple[str, ...] | None = key(None, "only prompts of these categories")
    chat: bool | None = key(
        False,
        "apply the main model's chat template: true, false, or auto (where it has one)",
        hint=Any,
        convert=yes_no_auto,
    )
    turns: int | None = key(None, "turns of a conversation, replayed one by one with prompts.chat; null: all", least=1)
    system: str | None = key(None, "system message before each prompt (needs prompts.chat=true)")
    template_kwargs: tuple[tuple[str, int | float | str], ...] = key(
        (), "values that the chat template reads, e.g. {enable_thinking: false}", hint=dict[str, Any], convert=flattened
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportKeys:
    """Extra files of a report."""

    plots: bool = key(False, "also write the charts as SVG and PNG")
    paths: bool = key(False, "show home directories and the host's name in report.html")


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplayKeys:
    """How much is said on the screen."""

    quiet: bool = key(False, "results only")
    verbose: bool = key(False, "also load times and every remark")


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepKeys:
    """The whole tree: what one job is, and from `gpus` on how to run, which changes no result."""

    llama_cpp: LlamaCpp = key(LlamaCpp, "the llama.cpp to measure")
    model_pair: PairKeys = key(PairKeys, "main and draft model")
    n_draft: int = key(8, "most tokens drafted at a time", least=1)
    n_predict: int = key(100, "tokens generated per run", least=2)
    concurrency: int = key(1, "requests at a time, each on a slot of its own", least=1)
    depth: int = key(0, "tokens of context before each prompt", least=0)
    stop: str = key(
        "length", "length: n_predict tokens; natural: end of text or n_predict", choices=("length", "natural")
    )
    prompt: str | None = key(None, "one prompt, instead of the set of prompts=", convert=lambda _, value: value)
    prompts: PromptKeys = key(PromptKeys, "prompts measured together")
    iterations: int = key("${protocol.iterations}", "runs of each mode; default of the protocol", least=1)
    output: str | None = key(None, "also write the summary to this file")
    skip_vanilla: bool = key(False, "measure speculative decoding only (no speedup then)")
    target_speedup: float = key(1.5, "speedup that counts as reached", least=0.0)
    speculation: Speculation = key(Speculation, "how tokens are proposed")
    engine: EngineSettings = key(EngineSettings, "which llama.cpp runs and how")
    protocol: Protocol = key(Protocol, "how often and in which order")
    sampling: Sampling = key(Sampling, "how tokens are chosen")
    gpus: tuple[int | str, ...] | None = key(
        None, "GPUs to use, e.g. [0,1] or UUIDs; null: all that llama.cpp can use", hint=Any, convert=gpus
    )
    gpus_per_lane: int = key(1, "GPUs that hold one model together", least=1)
    cpu_lanes: int = key(1, "lanes on the CPU where there is no GPU", least=1)
    on_busy: str = key("wait", "device in use by another sweep: wait or fail", choices=("wait", "fail"))
    dry_run: bool = key(False, "print the plan and run nothing")
    force: bool = key(False, "accept changed conditions when resuming")
    tuner: TunerSettings = key(TunerSettings, "how hydra/sweeper=tune searches the grid")
    report: ReportKeys = key(ReportKeys, "extra files of a report")
    display: DisplayKeys = key(DisplayKeys, "how much is said on the screen")


RUN_KEYS = ("gpus", "gpus_per_lane", "cpu_lanes", "on_busy", "dry_run", "force", "report", "display", "tuner")
"""Top-level keys that say how to run and change no result: they hold for a whole sweep."""


KEYS: dict[str, Key] = dict(dotted_keys(SweepKeys))
"""Every key by its dotted name, sections before their keys, in the order of the schema."""


def omegaconf_schema() -> type:
    """The class that OmegaConf validates YAML and the command line against."""
    return structured(SweepKeys, __name__)


def __getattr__(name: str) -> type:
    """The classes that OmegaConf has made of sections, for a process that unpickles one."""
    made = vars(sys.modules[omegaconf_schema().__module__]) if name.endswith("Conf") else {}
    if name not in made:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: type = made[name]
    return found


def register(group: str, name: str, target: str, conf: Any) -> None:
    """Give Hydra the schema, to which conf/sweep.yaml refers, and the choice `hydra/<group>=<name>`.

    The choice is made of the plugin class `target` with the settings `conf`. The plugins call this, and define no
    settings: Hydra runs their files outside of the import system, where dataclasses can't resolve their annotations.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance().store
    store(name="velosweep_schema", node=omegaconf_schema(), provider="velosweep")
    node = conf(_target_=f"hydra_plugins.velosweep_plugins.{target}")
    store(group=f"hydra/{group}", name=name, node=node, provider="velosweep")


KEY_TYPES = {name: key.type_word for name, key in KEYS.items()}
"""Every dotted key with its type as `--help` shows it; a section's is empty or `section`."""
GROUPS = ("model_pair", "prompts", "engine", "protocol", "speculation", "experiment", "hydra/launcher", "hydra/sweeper")
_TEXT_KEY = re.compile(r"(^|\.)(prompt|output|main_model|draft_model|path|file|name|args|\w*override_tensor|\w+_url)$")
TEXT_KEYS = frozenset(key for key in KEYS if _TEXT_KEY.search(key))
"""Keys whose values may hold spaces and any other character."""

_ALIASES = {word.lstrip("-").replace("-", "_"): key for word, key in ALIASES.items()}


def nearest(word: str, known: Iterable[str] = (*KEYS, *GROUPS)) -> str | None:
    """The known word that was probably meant: an alias, the same last part, or the most alike; None if none is."""
    known = tuple(known)
    plain = word.replace("-", "_").lstrip("_+")
    plain = plain if plain in known else plain.lower()
    if _ALIASES.get(plain) in known:
        return _ALIASES[plain]
    same_last_part = [key for key in known if _last_part(key) == _last_part(plain)]
    if len(same_last_part) == 1:
        return same_last_part[0]
    by_last_part = {_last_part(key): key for key in known}
    swapped = [word for word in known if sorted(word) == sorted(plain)]  # letters in another order: bset for best
    alike = swapped or difflib.get_close_matches(plain, known, n=1, cutoff=0.7)
    alike = alike or [by_last_part[last] for last in difflib.get_close_matches(plain, by_last_part, n=1, cutoff=0.7)]
    return alike[0] if alike else None


def _last_part(key: str) -> str:
    return key.rpartition(".")[2]


def unknown_key(key: str) -> ConfigError:
    """The error for a key that doesn't exist, with the one that was probably meant."""
    if key in KEYS:
        return ConfigError(f"{key} was taken out of the configuration", remedy=f"set {key}=VALUE; drop ~{key}")
    guess = nearest(key)
    if guess == "experiment":  # the one group that has no default, so that Hydra wants it added
        guess = "+experiment=NAME"
    remedy = f"did you mean {guess}?" if guess else "velosweep --help lists the keys"
    section = key.rpartition(".")[0]
    if KEY_TYPES.get(section) == "map":
        remedy = f"add it: +{key}=VALUE"
    elif section and guess and section.startswith(guess):
        inside = (name.removeprefix(f"{section}.") for name in KEYS if name.startswith(f"{section}."))
        remedy = f"{section} has {', '.join(name for name in inside if '.' not in name)}"
    return ConfigError(f"There is no key {key!r}", remedy=remedy)
