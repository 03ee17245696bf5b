"""The page of `velosweep --help`, made from the schema and the files of conf/."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from velosweep.config.schema import KEYS
from velosweep.config.search_path import own_conf, package_conf

_EXAMPLES = (
    ("velosweep", "one job: the synthetic pair, vanilla against speculative"),
    ("velosweep -m n_draft=4,8,12", "a sweep, sharing one vanilla series"),
    ("velosweep -m 'n_draft=range(2,17,2)' model_pair=llama8b_1b", "over a pair of your own"),
    ("velosweep model_pair.main_model=BIG.gguf model_pair.draft_model=SMALL.gguf", "two files, no YAML"),
    ("velosweep 'prompt=\"Tell me, briefly, of Ada\"'", "a text with commas: quotes within quotes"),
    ("velosweep -m +experiment=ndraft_grid", "a whole sweep from one YAML file"),
    ("velosweep -m n_draft=4,8 dry_run=true", "print the plan, run nothing"),
    ("velosweep llama_cpp.path=/path/to/llama.cpp", "your own build of llama.cpp"),
)
_FLAGS = (
    ("-m, --multirun", "measure every combination of the values named"),
    ("--cfg job", "show the configuration instead of running (--resolve fills in ${…})"),
    ("--config-dir DIR", "a folder of YAML files, beside conf/ in the current folder"),
    ("--info searchpath", "where configuration is looked for"),
    ("-sc install=SHELL", 'completion: eval "$(velosweep -sc install=bash)"'),
    ("--hydra-help", "all flags of Hydra, which reads the command line"),
    ("--version", "version"),
)
_WIDTH = 80
_KEY_COLUMN = 36
_GROUPS = ("model_pair", "prompts", "engine", "protocol", "speculation", "experiment")


def help_page(verbs: Mapping[str, str]) -> str:
    """The whole page, plain text."""
    parts = [
        "velosweep: which draft model and n_draft should I run here, is the speedup real?\n"
        "Measures llama.cpp with and without speculative decoding, over every combination\nyou name.\n",
        "  velosweep [-m] [KEY=VALUE ...]        measure\n  velosweep COMMAND ...                 see below\n",
        "Examples\n" + _columns(_EXAMPLES, apart=True),
        "Commands (velosweep COMMAND --help)\n" + _columns(tuple(verbs.items())),
        "Groups: GROUP=NAME takes conf/GROUP/NAME.yaml (+experiment=NAME)\n" + _columns(tuple(_groups())),
        "Keys, with their defaults and types (a group's file may set another default:\n"
        "velosweep --cfg job shows what holds)\n" + _columns(_keys(), least=_KEY_COLUMN),
        "Flags\n" + _columns(_FLAGS),
        "Exit status: 0 all measured, 1 some jobs failed, 2 refused before anything ran,\n"
        "3 nothing measured, 130 interrupted (velosweep resume DIR goes on).\n",
    ]
    return "\n".join(parts)


def _keys() -> tuple[tuple[str, str], ...]:
    """`engine.context=4096`, and `int: context, in tokens`; of sections name and explanation."""
    return tuple(
        (f"{name}={key.default_word}", f"{key.type_word}: {key.text}") if key.type_word else (name, key.text)
        for name, key in KEYS.items()
    )


def _columns(rows: tuple[tuple[str, str], ...], *, apart: bool = False, least: int = 0) -> str:
    """Two columns within 80; `apart` puts the explanation on a line of its own, for long first columns.

    `least` above 0 is the width of the first column, and those that are longer stand on a line of their own.
    """
    if apart:
        return "".join(f"  {left}\n      {right}\n" for left, right in rows)
    width = least or max(len(left) for left, _ in rows) + 2
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, _WIDTH - 2 - width, break_on_hyphens=False)
        first = [] if len(left) + 2 > width else [f"  {left:<{width}}{wrapped.pop(0)}"]
        lines += first or [f"  {left}"]
        lines += [f"  {'':<{width}}{line}" for line in wrapped]
    return "".join(f"{line}\n" for line in lines)


def _groups() -> list[tuple[str, str]]:
    """Each group with its choices, the person's own included."""
    folders = [folder for folder in (own_conf(), package_conf()) if folder]
    found = [(group, ", ".join(_choices(folders, group))) for group in _GROUPS]
    return [
        *((group, choices) for group, choices in found if choices),
        ("hydra/launcher", "gpu_lanes, basic, slurm, dask"),
        ("hydra/sweeper", "grid, tune, basic"),
    ]


def _choices(folders: list[Path], group: str) -> list[str]:
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})
