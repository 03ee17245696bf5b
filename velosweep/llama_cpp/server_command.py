"""The llama-server command that people are shown: what was measured, as short as the program allows.

Only what the program would not do of its own accord is said, by the defaults that its own --help states; and n_draft,
which is the answer.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

from velosweep.config.settings import Job, Sampling
from velosweep.llama_cpp.arguments import Values, as_text, server_values, speculation_values, words_of
from velosweep.llama_cpp.capabilities import Capabilities, visible_names
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.llama_cpp.setting_table import SETTINGS, setting_of
from velosweep.values import Device, Lane

# The settings that a server may be told of, in the order in which people write them; those of speculation follow.
_ENGINE = (
    "model", "draft_model", "context", "parallel", "threads", "threads_batch", "gpu_layers", "device", "split_mode",
    "tensor_split", "n_cpu_moe", "override_tensor", "batch", "ubatch", "flash_attention",
    "cache_type_k", "cache_type_v", "load_mode",
)  # fmt: skip
_NEVER = {"draft_context", "synth_len"}  # the first follows the context; the second spoils the text
_ANSWER = {"spec_type", "n_draft"}  # said whatever the default


def request_arguments(job: Job) -> tuple[str, ...]:
    """What a person set of sampling and of the chat template: llama-server takes it for requests that don't say."""
    usual, words = Sampling(), list[str]()
    for name, value in asdict(job.sampling).items():
        if name != "seed" and value != getattr(usual, name):
            words += [SETTINGS[name].flags[0], f"{value:g}"]
    if job.prompts.template_kwargs:
        words += ["--chat-template-kwargs", json.dumps(dict(job.prompts.template_kwargs))]
    return tuple(words)


def command_arguments(
    server: ServerConfig, *, lane: Lane, capabilities: Capabilities, seen: Sequence[Device] = ()
) -> tuple[str, ...]:
    """What a person gives llama-server to run this configuration.

    `capabilities`: of the build that was measured. `seen`: the GPUs that the program finds if it isn't confined to the
    lane's. Raises ProgramError as `server_arguments` does.
    """
    values = _placed(server, lane, seen)
    answer = _ANSWER if server.speculation else set()
    told = {name: values[name] for name in values if name in answer or not _is_default(name, values, capabilities)}
    own = len(server.engine.args)
    words = words_of(server, told, capabilities)
    flags = {capabilities.name(name): setting.short for name, setting in SETTINGS.items()}
    short = {flag: brief for flag, brief in flags.items() if brief and brief in capabilities.flags}
    return (*(short.get(word, word) for word in words[: len(words) - own]), *words[len(words) - own :])


def _placed(server: ServerConfig, lane: Lane, seen: Sequence[Device]) -> Values:
    """The settings in order, with devices by the names that an unconfined program has for them."""
    every = server_values(server, lane)
    names = dict.fromkeys((*_ENGINE, *speculation_values(server, lane)))
    values = {name: every[name] for name in names if name in every and name not in _NEVER}
    if server.concurrency == 1:
        del values["parallel"]
    if server.engine.mmap:
        del values["load_mode"]
    engine, unneeded = server.engine, set[str]()
    moved = (engine.n_cpu_moe, engine.override_tensor, engine.draft_n_cpu_moe, engine.draft_override_tensor)
    if lane.on_cpu:
        unneeded |= {"gpu_layers", "draft_gpu_layers"}
    elif min(engine.gpu_layers, engine.draft_gpu_layers) >= 999 and not any((*moved, engine.args)):
        unneeded |= {"threads", "threads_batch", "draft_threads", "draft_threads_batch"}  # the CPU computes nothing
    if not (seen if lane.on_cpu else engine.draft_device or len(seen) > len(lane.devices)):
        unneeded |= {"device", "draft_device"}
    values = {name: value for name, value in values.items() if name not in unneeded}
    outside = dict(zip(visible_names(lane), (device.program_name or "" for device in lane.devices), strict=False))
    for name in {"device", "draft_device"} & values.keys():
        given = values[name]
        values[name] = tuple(
            outside.get(str(one), str(one)) for one in (given if isinstance(given, tuple) else (given,))
        )
    return values


def _is_default(name: str, values: Values, capabilities: Capabilities) -> bool:
    """Whether the program does that of its own accord."""
    flag = capabilities.name(name)
    stated = capabilities.defaults.get(flag or "")
    if stated is None:
        return False
    if stated.startswith("same as "):
        followed = stated.removeprefix("same as ")
        stated = next((as_text(values[n]) for n in values if followed in setting_of(n).flags and n != name), None)
    value = as_text(values[name])
    if stated is None or value == stated:
        return value == stated
    try:
        return float(value) == float(stated)
    except ValueError:
        return False
