"""What a server configuration asks of llama.cpp, and that as a command line.

Every setting that can change a result is given; none is left to a default, since defaults differ between builds.
"""

import os
import re
from pathlib import Path

from velosweep.config.settings import EngineSettings, Speculation
from velosweep.config.speculation_kinds import KINDS
from velosweep.errors import ProgramError
from velosweep.llama_cpp.capabilities import Capabilities, visible_names
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.llama_cpp.setting_table import SETTINGS, Value, is_ours, setting_of
from velosweep.values import Lane

Values = dict[str, Value]

# Settings without which a run would be something else than what was asked, and what they are needed for. A build may
# lack any other: then it has no such feature.
_NEEDED = {
    "model": "every run",
    "context": "every run",
    "threads": "every run",
    "host": "a server",
    "port": "a server",
    "parallel": "a server that does one thing at a time",
    "ignore_eos": "a run of a fixed length",
    "split_mode": "engine.split_mode",
    "tensor_split": "engine.tensor_split",
    **{name: f"engine.{name}" for name in ("n_cpu_moe", "override_tensor", "draft_n_cpu_moe", "draft_override_tensor")},
    "draft_model": "a draft model",
    "n_draft": "n_draft",
    "n_min": "speculation.n_min",
    "p_min": "speculation.p_min",
    "synth_len": "speculation.synthetic_acceptance",
}
# llama.cpp's level of logging with one line of statistics a request, and nothing that is printed a token.
TRACE = 4


def server_arguments(server: ServerConfig, *, lane: Lane, capabilities: Capabilities) -> list[str]:
    """llama-server's arguments (without the program) for `server` on `lane`.

    Raises ProgramError if this build can't do what is asked.
    """
    return words_of(server, server_values(server, lane), capabilities)


def program_arguments(server: ServerConfig, *, lane: Lane, capabilities: Capabilities) -> list[str]:
    """Arguments of a command-line program (llama-completion, llama-speculative, …) but for prompt and sampling.

    Raises ProgramError if the program can't do what is asked.
    """
    values: Values = {"model": server.main_model, "ignore_eos": True, **engine_values(server, lane)}
    values |= {"no_escape": True, "samplers": "top_k;temperature"}  # as the server is asked
    if server.speculation is None:
        values |= {"no_conversation": True, "no_display_prompt": True}
    return words_of(server, {**values, **speculation_values(server, lane)}, capabilities)


def server_values(server: ServerConfig, lane: Lane) -> Values:
    """All settings of a server, by the table's names."""
    return {
        "model": server.main_model,
        "host": "127.0.0.1",
        "port": 0,  # the system chooses one, so that no two servers can meet on it
        "parallel": server.concurrency,
        "verbosity": TRACE,  # a line more a request says how long drafting took
        **engine_values(server, lane),
        "metrics": True,
        "slots": True,
        "no_ui": True,
        "no_context_shift": True,
        "cache_ram": 0,
        "no_cache_idle_slots": True,
        "cache_reuse": 0,
        "no_kv_unified": True,
        **speculation_values(server, lane),
    }


def engine_values(server: ServerConfig, lane: Lane) -> Values:
    """How a model is loaded and computed."""
    engine = server.engine
    threads = engine.threads or 1  # None is resolved before a plan is made; one is the safe reading of it here
    values: Values = {
        "context": server.context,
        "threads": threads,
        "threads_batch": engine.threads_batch or threads,
        "gpu_layers": 0 if lane.on_cpu else engine.gpu_layers,
        **_given(engine, "batch", "ubatch", "flash_attention", "cache_type_k", "cache_type_v"),
        **_given(engine, "split_mode", "tensor_split", "n_cpu_moe", "override_tensor"),
    }
    # The lane's devices by name: a build with two back ends would otherwise use the same GPU through both.
    names = tuple(visible_names(lane))
    devices = tuple(name for name in names if name != engine.draft_device) or names
    if devices or lane.on_cpu:
        values["device"] = devices or "none"
    return {**values, "load_mode": "mmap" if engine.mmap else "none", "fit": "off", "offline": True, "warmup": True}


def _given(engine: EngineSettings, *names: str) -> Values:
    """Those of the engine's settings that have a value."""
    return {name: value for name in names if (value := getattr(engine, name)) not in (None, ())}


def speculation_values(server: ServerConfig, lane: Lane) -> Values:
    """How tokens are proposed; where speculation may be the default one day, vanilla has to say that it is off."""
    speculation, engine = server.speculation, server.engine
    if speculation is None:
        return {"spec_type": ("none",)}
    values: Values = {"draft_model": server.draft_model} if server.draft_model else {}
    values |= {
        "spec_type": tuple(kind.llama_cpp for kind in speculation.all_kinds),
        "n_draft": server.n_draft,
        "n_min": speculation.n_min,
        "p_min": speculation.p_min,
        "p_split": 0.1,
        "draft_threads": engine.threads or 1,
        "draft_threads_batch": engine.threads_batch or engine.threads or 1,
        "draft_gpu_layers": 0 if lane.on_cpu else engine.draft_gpu_layers,
        "draft_context": server.context,
        **_given(engine, "draft_cache_type_k", "draft_cache_type_v", "draft_n_cpu_moe", "draft_override_tensor"),
    }
    if lane.on_cpu:
        values["draft_device"] = "none"
    elif engine.draft_device is not None or visible_names(lane):
        values["draft_device"] = engine.draft_device or tuple(visible_names(lane))
    values |= kind_parameters(speculation, server.n_draft)
    if speculation.synthetic_acceptance is not None:
        values["synth_len"] = speculation.synthetic_acceptance + 1  # llama.cpp counts the target's own token, too
    return values


def kind_parameters(speculation: Speculation, n_draft: int) -> Values:
    """The kinds' own settings: their defaults, n_draft as the length of their drafts, then what the person set.

    Raises ProgramError for a name that another kind has, or that velosweep gives under a key of its own.
    """
    kinds = speculation.all_kinds
    values: Values = {}
    for kind in kinds:
        values |= kind.parameters
        values |= dict.fromkeys(kind.draft_lengths, n_draft)
    if "ngram_mod.n_min" in values:
        values["ngram_mod.n_min"] = min(KINDS["ngram-mod"].parameters["ngram_mod.n_min"], n_draft)
    known = {*values, *(name for kind in kinds for name in kind.optional_parameters)}
    for name, value in speculation.parameters:
        if name not in known and is_ours(name):
            raise ProgramError(
                f"speculation {'+'.join(speculation.kinds)} has no parameter {name}; "
                f"it has {', '.join(sorted(known)) or 'none'}",
                remedy=f"{setting_of(name).flags[0]} is set by a key of its own, or by another kind: velosweep --help",
            )
        values[name] = absolute_paths(value) if isinstance(value, str) else value
    return values


def words_of(server: ServerConfig, values: Values, capabilities: Capabilities) -> list[str]:
    """The values in one program's words, then the person's own arguments."""
    needed = dict(_NEEDED)
    if server.speculation is not None:
        values = _for_kinds(server.speculation, values, capabilities)
        needed |= {"spec_type": "speculation"}
        needed |= {name: f"speculation parameter {name}" for name, _ in server.speculation.parameters}
        if server.engine.draft_device is not None and values.get("draft_device") != "none":
            needed["draft_device"] = "engine.draft_device"
    if capabilities.name("load_mode") is None:  # before 2026 there were two switches
        switch = "mmap" if server.engine.mmap else "no_mmap"
        values = {switch if name == "load_mode" else name: value for name, value in values.items()}
    words: list[str] = []
    for name, value in values.items():
        flag = capabilities.name(name)
        if flag is None and name in needed:
            raise ProgramError(
                f"{capabilities} has none of {', '.join(setting_of(name).flags)}, which {needed[name]} needs",
                remedy=_remedy(name, capabilities),
            )
        choices = capabilities.choices(flag) if flag and name == "split_mode" else ()
        if choices and value not in choices:
            raise ProgramError(
                f"{capabilities} knows no {flag} {value}; it knows {', '.join(choices)}",
                remedy="set engine.split_mode to one of these, or use a newer llama.cpp",
            )
        if flag is None or (name == "verbosity" and not capabilities.traces):
            continue
        if name == "flash_attention" and not capabilities.flags[flag]:
            value = value == "on"  # a switch, off by default, in builds before autumn 2025
        if name in ("mmap", "no_mmap") or value is True:
            words.append(flag)
        elif value is not False:
            words += [flag, as_text(value)]
        elif name not in SETTINGS and f"--no-{flag[2:]}" in capabilities.flags:
            words.append(f"--no-{flag[2:]}")
    return [*words, *map(absolute_paths, server.engine.args)]


def absolute_paths(word: str) -> str:
    """A word for a program that runs in another folder: files of this one, also behind `=`, `,` or `:`, by whole path.

    What is there and looks like a file: with a slash, or an ending that is no number's.
    """

    def whole(part: re.Match[str]) -> str:
        path = Path(part[0])
        named = len(path.parts) > 1 or part[0].startswith("./") or path.suffix[1:2].isalpha()
        return str(path.absolute()) if named and os.path.exists(path) else part[0]  # noqa: PTH110

    return re.sub(r"[^,:=]+", whole, word)


def check_speculation(speculation: Speculation, capabilities: Capabilities) -> None:
    """Raise ProgramError for a kind or a parameter that a program doesn't know."""
    if not speculation.kinds:
        return
    _for_kinds(speculation, {}, capabilities)
    for name in kind_parameters(speculation, 1):
        if capabilities.name(name) is None and name in dict(speculation.parameters):
            raise ProgramError(
                f"{capabilities} has no {setting_of(name).flags[0]}, which speculation parameter {name} needs",
                remedy=_remedy(name, capabilities),
            )


def _remedy(name: str, capabilities: Capabilities) -> str:
    if name in SETTINGS:
        return "use a newer llama.cpp"
    others = ", ".join(sorted(capabilities.parameters)) or "no further parameters"
    return f"it has {others}; or set llama_cpp.path to a llama.cpp that knows it"


def _for_kinds(speculation: Speculation, values: Values, capabilities: Capabilities) -> Values:
    """The values that the kinds want and this build knows. Raises ProgramError for a kind that it can't do."""
    for kind in (kind.llama_cpp for kind in speculation.all_kinds):
        if kind not in capabilities.kinds:
            others = ", ".join(name for name in capabilities.spec_types if name != "none") or "a draft model only"
            raise ProgramError(
                f"{capabilities} can't speculate with {kind}; it knows {others}",
                remedy="choose another speculation, or set llama_cpp.path to a llama.cpp that knows it",
            )
    wanted = [kind.llama_cpp for kind in speculation.all_kinds if kind.llama_cpp in capabilities.spec_types]
    unwanted = set() if wanted else {"spec_type"}
    if not any(kind.draft_settings for kind in speculation.all_kinds):
        unwanted |= {"n_draft", "n_min", "p_min", "p_split", "draft_device", "draft_context"}
        unwanted |= {name for name in values if name.startswith("draft_") and name != "draft_model"}
    kept = {name: value for name, value in values.items() if name not in unwanted}
    return {**kept, "spec_type": tuple(wanted)} if wanted else kept


def as_text(value: Value) -> str:
    """A value as llama.cpp's programs take it."""
    if isinstance(value, tuple):
        return ",".join(map(as_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
