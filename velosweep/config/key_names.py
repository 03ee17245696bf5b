"""The names of keys; for an unknown one the known key that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from velosweep.config.schema import KEYS
from velosweep.errors import ConfigError

KEY_TYPES = {name: key.type_word for name, key in KEYS.items()}
"""Every dotted key with its type as `--help` shows it; a section's is empty or `section`."""
GROUPS = ("model_pair", "prompts", "engine", "protocol", "speculation", "experiment", "hydra/launcher", "hydra/sweeper")
_TEXT_KEY = re.compile(r"(^|\.)(prompt|output|main_model|draft_model|path|file|name|args|vanilla_url|speculative_url)$")
TEXT_KEYS = frozenset(key for key in KEYS if _TEXT_KEY.search(key))
"""Keys whose values may hold spaces and any other character."""

# The specification's flags, and words people bring along from llama.cpp's tools.
_ALIASES = {
    "llama_cpp_path": "llama_cpp.path",
    "model": "model_pair.main_model",
    "draft": "n_draft",
    "draft_max": "n_draft",
    "spec_draft_n_max": "n_draft",
    "ctx_size": "engine.context",
    "n_ctx": "engine.context",
    "n_gpu_layers": "engine.gpu_layers",
    "ngl": "engine.gpu_layers",
    "temp": "sampling.temperature",
    "seed": "sampling.seed",
}


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
    alike = difflib.get_close_matches(plain, known, n=1, cutoff=0.7)
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
