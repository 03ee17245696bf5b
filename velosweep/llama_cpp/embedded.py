"""The llama.cpp that comes with velosweep (package xllamacpp), driven as llama-server is."""

import contextlib
import functools
import importlib.metadata
import json
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path

from velosweep.config.settings import Speculation
from velosweep.config.speculation_kinds import KINDS
from velosweep.errors import ProgramError
from velosweep.isolation import python_command
from velosweep.llama_cpp import process
from velosweep.llama_cpp.arguments import server_values
from velosweep.llama_cpp.capabilities import Capabilities, parse_devices
from velosweep.llama_cpp.engine import Engine, ServerConfig
from velosweep.llama_cpp.server import ServerSession, start_child
from velosweep.llama_cpp.setting_table import SETTINGS, Setting, Value, spec_flag
from velosweep.values import Device, Lane

_CHILD = "velosweep.llama_cpp.embedded_child"
# What --n-cpu-moe stands for, layer by layer (llama.cpp's common/common.h): CommonParams has no field for it.
_EXPERTS = r"blk\.{}\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_ASKING = threading.Lock()
# What a llama-server of October 2026 does by itself, as its --help says.
DEFAULTS = {setting.flags[0]: setting.default for setting in SETTINGS.values() if setting.default is not None} | {
    SETTINGS[name].flags[0]: str(value) for kind in KINDS.values() for name, value in kind.parameters.items()
}


class EmbeddedEngine(Engine):
    """One child process with xllamacpp's server for each server configuration."""

    name = "embedded"

    def __init__(self) -> None:
        """Raises ProgramError if the package isn't installed."""
        try:  # its version: the wheel doesn't say which llama.cpp it was built from
            self._build = f"xllamacpp {importlib.metadata.version('xllamacpp')}"
        except importlib.metadata.PackageNotFoundError:
            raise ProgramError(
                "The embedded llama.cpp (package xllamacpp) isn't installed",
                remedy="install velosweep again, or set llama_cpp.path to a llama.cpp of your own",
            ) from None

    @property
    def build(self) -> str:
        return self._build

    def capabilities_for(self, speculation: Speculation | None) -> Capabilities:
        """As a llama-server of its age would say; of kinds and parameters beyond our tables the package is asked."""
        today = {name: setting for name, setting in SETTINGS.items() if not setting.gone}
        flags = {flag: "N" for setting in today.values() for flag in (setting.flags[0], setting.short) if flag}
        kinds = tuple(kind.llama_cpp for kind in KINDS.values())
        if speculation and {*speculation.kinds, *dict(speculation.parameters)} - {*KINDS, *today}:
            kinds, parameters = _known_speculation()
            ours = {setting.attribute for setting in SETTINGS.values()}
            flags |= {flag: "N" for flag, attribute in parameters.items() if attribute not in ours}
        program = "The embedded llama.cpp"
        return Capabilities(program=program, build=self.build, flags=flags, spec_types=kinds, defaults=DEFAULTS)

    def devices(self) -> tuple[Device, ...]:
        """Asked once; the wheels for Linux have none."""
        with _ASKING:
            return _devices()

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> ServerSession:
        api_key = secrets.token_urlsafe(24)
        settings = {**embedded_settings(server, lane=lane), "api_keys": [api_key]}
        told = json.dumps(settings).encode() + b"\n"
        child = start_child(python_command("-m", _CHILD), lane=lane, log_path=log_path, stdin=told)
        return ServerSession(server, child, log_path=log_path, api_key=api_key)


@functools.cache
def _devices() -> tuple[Device, ...]:
    """Asked in a child, as whatever loads llama.cpp."""
    asked = python_command("-m", _CHILD, "--devices")
    return parse_devices(process.ask(asked, environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}), "The embedded llama.cpp")


def ask_devices_early() -> None:
    """Have the embedded engine's devices found out in the background; whoever needs them waits for the rest of it."""

    def ask() -> None:
        with contextlib.suppress(OSError, ProgramError):  # whoever needs them asks again, and says what is wrong
            EmbeddedEngine().devices()

    threading.Thread(target=ask, daemon=True, name="velosweep-devices").start()


@functools.cache
def _known_speculation() -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The kinds and parameters (flag -> attribute) that the package knows. Asked in a child."""
    answer = json.loads(process.ask(python_command("-m", _CHILD, "--speculation")).stdout)
    return tuple(answer["kinds"]), {spec_flag(name): f"speculative.{name}" for name in answer["parameters"]}


def embedded_settings(server: ServerConfig, *, lane: Lane) -> dict[str, object]:
    """`server` as attributes of xllamacpp's CommonParams: dotted name -> value."""
    values = server_values(server, lane)
    if server.engine.draft_device is None or lane.on_cpu:
        values.pop("draft_device", None)  # the variables that pin the child show it no other device
    settings: dict[str, object] = {}
    for name, value in values.items():
        setting = SETTINGS.get(name) or Setting((), _known_speculation()[1].get(spec_flag(name)))
        if setting.attribute is not None:
            settings[setting.attribute] = _attribute_value(setting, value)
    settings["hostnames"] = [settings["hostnames"]]
    for prefix in ("", "draft_"):
        experts = [f"{_EXPERTS.format(layer)}=CPU" for layer in range(int(str(values.get(f"{prefix}n_cpu_moe", 0))))]
        if experts:
            where = SETTINGS[f"{prefix}override_tensor"].attribute or ""
            settings[where] = ",".join([*experts, *([str(settings[where])] if where in settings else [])])
    return settings


def _attribute_value(setting: Setting, value: Value) -> object:
    if isinstance(value, tuple):
        return [_attribute_value(setting, item) for item in value]
    if setting.enum is not None:
        kind, prefix = setting.enum
        member = setting.members.get(str(value), str(value).upper().replace("-", "_"))
        return {"enum": [kind, f"{prefix}{member}"]}
    if value in ("on", "off"):
        return value == "on"
    return not value if setting.negated else value
