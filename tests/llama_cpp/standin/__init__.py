"""Stand-ins for llama.cpp's programs that behave as each generation did. Faults are in tests/standin.

`write(folder, generation)` puts executables there which print that generation's recorded --help, refuse what it
refuses, and serve (or print) as it did: names of fields, what is told and what is not, the repeated-prompt artefact.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HELP = Path(__file__).parents[2] / "golden" / "help"

_TRAITS: dict[str, dict[str, object]] = {
    # traits: see generation.py
    "2024-12": {
        "build": "4291 (26a8406b)",
        "settings": "n_max",
        "draft_n": False,
        "cache_n": False,
        "tokens": False,
        "drafts_need_cache": True,
        "repeats_drafts": True,
        "counters": False,
        "type_needed": False,
        "prefix": "llama_perf_context_print: ",
        "vanilla_program": "llama-cli",
    },
    "2025-08": {
        "build": "6097 (4850b52a)",
        "settings": "n_max",
        "draft_n": True,
        "cache_n": False,
        "tokens": True,
        "drafts_need_cache": True,
        "repeats_drafts": True,
        "counters": False,
        "type_needed": False,
        "prefix": "llama_perf_context_print: ",
        "vanilla_program": "llama-cli",
    },
    "2026-02": {
        "build": "1 (unknown)",
        "settings": "type",
        "draft_n": True,
        "cache_n": True,
        "tokens": True,
        "drafts_need_cache": False,
        "repeats_drafts": True,
        "counters": False,
        "type_needed": False,
        "prefix": "common_perf_print: ",
        "vanilla_program": "llama-completion",
    },
    "2026-10": {
        "build": "0.5.0-dev (build 1, commit 0c1e570)",
        "settings": "types",
        "draft_n": True,
        "cache_n": True,
        "tokens": True,
        "drafts_need_cache": False,
        "repeats_drafts": False,
        "counters": True,
        "type_needed": True,
        "prefix": "0.00.771.389 I common_perf_print: ",
        "vanilla_program": "llama-completion",
    },
}

# those whose --help is recorded
GENERATIONS = {name: traits for name, traits in _TRAITS.items() if (HELP / f"{name}-llama-server.txt").exists()}


def write(folder: Path, generation: str, **traits: object) -> Path:
    """Executables of `generation` (with `traits` of its own) in `folder`/build/bin, as llama.cpp's build leaves them.

    Returns `folder`, which is what llama_cpp.path names.
    """
    known = {**GENERATIONS[generation], **traits}
    programs = folder / "build" / "bin"
    programs.mkdir(parents=True)
    names = ["llama-server", str(known["vanilla_program"]), "llama-speculative-simple", "llama-speculative"]
    for name in names:
        config = {**known, "program": name, "help": str(HELP / f"{generation}-{name}.txt")}
        body = (
            f"#!{sys.executable} -IS\n"
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "import generation, json\n"
            f"generation.main(json.loads({json.dumps(config)!r}))\n"
        )
        program = programs / name
        program.write_text(body)
        program.chmod(0o755)
    return folder
