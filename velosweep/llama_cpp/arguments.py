"""An arm in llama-server's words: every setting that moves a result is said, none is left to a default."""

from __future__ import annotations

from collections.abc import Iterator

from velosweep.config.settings import EngineSettings, Speculation
from velosweep.errors import ProgramError
from velosweep.llama_cpp.capabilities import FLAGS, Capabilities
from velosweep.llama_cpp.device_list import visible_names
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.values import Lane, Mode

# velosweep's name of a kind -> llama.cpp's
SPEC_TYPES = {"draft": "draft-simple"}

# The kinds' own settings with llama.cpp's defaults of October 2026, so that a drifting default moves nothing.
PARAMETERS: dict[str, dict[str, int | float | str]] = {
    "ngram-simple": {"ngram_simple.size_n": 12, "ngram_simple.size_m": 48, "ngram_simple.min_hits": 1},
    "ngram-map-k": {"ngram_map_k.size_n": 12, "ngram_map_k.size_m": 48, "ngram_map_k.min_hits": 1},
    "ngram-map-k4v": {"ngram_map_k4v.size_n": 12, "ngram_map_k4v.size_m": 48, "ngram_map_k4v.min_hits": 1},
    "ngram-mod": {"ngram_mod.n_match": 24, "ngram_mod.n_min": 48, "ngram_mod.n_max": 64},
    "ngram-cache": {},
}
_OPTIONAL_PARAMETERS = {"ngram_cache.static", "ngram_cache.dynamic"}
# The setting of each draftless kind that is its longest draft: n_draft sets it.
DRAFT_LENGTH = {
    "ngram-simple": "ngram_simple.size_m",
    "ngram-map-k": "ngram_map_k.size_m",
    "ngram-map-k4v": "ngram_map_k4v.size_m",
    "ngram-mod": "ngram_mod.n_max",
}


class _Builder:
    """Collects arguments in one program's spelling."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self.argv: list[str] = []

    def need(self, meaning: str, value: object | None = None, *, why: str) -> None:
        """Say it or refuse: without this the run would be something else than what was asked."""
        if not self.say(meaning, value):
            raise ProgramError(
                f"{self._capabilities.program} (build {self._capabilities.build}) has none of "
                f"{', '.join(FLAGS[meaning])}, which {why} needs",
                remedy="use a newer llama.cpp",
            )

    def say(self, meaning: str, value: object | None = None) -> bool:
        """Say it where the program has a word for it; whether it had."""
        name = self._capabilities.name(meaning)
        if name is None:
            return False
        self.argv += [name] if value is None else [name, _text(value)]
        return True


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def server_arguments(server: ServerConfig, *, lane: Lane, capabilities: Capabilities, port: int) -> list[str]:
    """llama-server's arguments (without the program) for `server` on `lane`.

    Raises ProgramError if this build can't do what the arm asks.
    """
    builder = _Builder(capabilities)
    builder.need("model", server.main_model, why="every run")
    builder.need("host", "127.0.0.1", why="a server")
    builder.need("port", port, why="a server")
    builder.need("parallel", 1, why="a server that does one thing at a time")
    _common(builder, server.engine, lane, capabilities)
    builder.say("metrics")
    builder.say("slots")
    builder.say("no_ui")
    builder.say("no_context_shift")
    builder.say("cache_ram", 0)
    builder.say("no_cache_idle_slots")
    builder.say("cache_reuse", 0)
    builder.say("no_kv_unified")
    if server.mode is Mode.SPECULATIVE and server.speculation is not None:
        _speculation(builder, server, server.speculation, lane, capabilities)
    else:
        # Where speculation may be the default one day, vanilla has to say so.
        builder.say("spec_type", "none")
    return [*builder.argv, *server.engine.args]


def program_arguments(server: ServerConfig, *, lane: Lane, capabilities: Capabilities) -> list[str]:
    """Arguments of a command-line program (llama-completion, llama-speculative, …) but for prompt and sampling.

    Raises ProgramError if the program can't do what the arm asks.
    """
    builder = _Builder(capabilities)
    builder.need("model", server.main_model, why="every run")
    builder.need("ignore_eos", why="a run of a fixed length")
    _common(builder, server.engine, lane, capabilities)
    builder.say("no_escape")
    builder.say("samplers", "top_k;temperature")  # as the server is asked
    if server.mode is Mode.SPECULATIVE and server.speculation is not None:
        _speculation(builder, server, server.speculation, lane, capabilities)
    else:
        builder.say("no_conversation")
        builder.say("no_display_prompt")
        builder.say("spec_type", "none")
    return [*builder.argv, *server.engine.args]


def command_arguments(server: ServerConfig, *, lane: Lane, capabilities: Capabilities | None = None) -> tuple[str, ...]:
    """What a person gives llama-server to run this arm: the setting, without what only measuring needs.

    `capabilities`: of the build that was measured; None (the embedded one has no command line) takes today's names.
    Raises ProgramError as `server_arguments` does.
    """
    builder = _Builder(capabilities or todays_names())
    builder.need("model", server.main_model, why="every run")
    builder.say("context", server.engine.context)
    builder.say("threads", threads_of(server.engine))
    if not on_cpu(lane):
        builder.say("gpu_layers", server.engine.gpu_layers)
    if server.speculation is not None:
        _speculation(builder, server, server.speculation, lane, capabilities or todays_names())
    return (*builder.argv, *server.engine.args)


def todays_names() -> Capabilities:
    """A build that knows every flag by its newest name."""
    flags = {names[0]: "N" for names in FLAGS.values()}
    kinds = ("draft-simple", "draft-eagle3", "draft-dflash", "draft-dspark", "draft-mtp", *PARAMETERS)
    return Capabilities(program="llama-server", sha256="", build="today's", flags=flags, spec_types=kinds)


def threads_of(engine: EngineSettings) -> int:
    """Decoding threads; the configuration resolves None before a plan is made, one is the safe reading of it here."""
    return engine.threads or 1


def on_cpu(lane: Lane) -> bool:
    """Whether the lane has no device but the CPU."""
    return all(device.kind == "cpu" for device in lane.devices)


def _common(builder: _Builder, engine: EngineSettings, lane: Lane, capabilities: Capabilities) -> None:
    threads = threads_of(engine)
    cpu = on_cpu(lane)
    builder.need("context", engine.context, why="every run")
    builder.need("threads", threads, why="every run")
    builder.say("threads_batch", engine.threads_batch or threads)
    builder.say("batch", engine.batch)
    builder.say("ubatch", engine.ubatch)
    builder.say("gpu_layers", 0 if cpu else engine.gpu_layers)
    for argument in _flash_attention(engine.flash_attention, capabilities):
        builder.argv.append(argument)
    builder.say("cache_type_k", engine.cache_type_k)
    builder.say("cache_type_v", engine.cache_type_v)
    if engine.split_mode is not None:
        builder.need("split_mode", engine.split_mode, why="engine.split_mode")
    if engine.tensor_split:
        builder.need("tensor_split", ",".join(f"{share:g}" for share in engine.tensor_split), why="engine.tensor_split")
    _devices(builder, engine, lane)
    if not builder.say("load_mode", "mmap" if engine.mmap else "none"):
        builder.say("mmap" if engine.mmap else "no_mmap")
    builder.say("fit", "off")
    builder.say("offline")
    builder.say("warmup")


def _devices(builder: _Builder, engine: EngineSettings, lane: Lane) -> None:
    """The lane's devices by name: a build with two back ends would else use the same GPU through both."""
    if on_cpu(lane):
        builder.say("device", "none")
        return
    names = visible_names(lane)
    for_main = [name for name in names if name != engine.draft_device] or names
    if for_main:
        builder.say("device", ",".join(for_main))


def _flash_attention(value: str, capabilities: Capabilities) -> Iterator[str]:
    """`on`, `off` or `auto`; builds before autumn 2025 have a switch instead, off by default."""
    name = capabilities.name("flash_attention")
    if name is None:
        return
    if capabilities.takes_value("flash_attention"):
        yield from (name, value)
    elif value == "on":
        yield name


def _speculation(
    builder: _Builder, server: ServerConfig, speculation: Speculation, lane: Lane, capabilities: Capabilities
) -> None:
    if server.draft_model:
        builder.need("draft_model", server.draft_model, why="a draft model")
    types = [SPEC_TYPES.get(kind, kind) for kind in speculation.kinds]
    known = capabilities.spec_types
    if "draft-simple" not in known:
        # Builds before mid-2026 have no name for it: -md alone means it. Those before 2026 know nothing else.
        types = [kind for kind in types if kind != "draft-simple"]
    for kind in types:
        if kind not in known:
            _refuse_kind(kind, capabilities)
    if types:
        builder.need("spec_type", ",".join(types), why="speculation")
    if any(kind.startswith("draft") for kind in speculation.kinds):
        _draft(builder, server, speculation, lane)
    _parameters(builder, server, speculation)
    if speculation.synthetic_acceptance is not None:
        # llama.cpp counts the target's own token too.
        builder.need("synth_len", speculation.synthetic_acceptance + 1, why="speculation.synthetic_acceptance")


def _refuse_kind(kind: str, capabilities: Capabilities) -> None:
    known = ", ".join(t for t in capabilities.spec_types if t != "none") or "a draft model only"
    raise ProgramError(
        f"{capabilities.program} (build {capabilities.build}) can't speculate with {kind}; it knows {known}",
        remedy="choose another speculation, or use a newer llama.cpp",
    )


def _draft(builder: _Builder, server: ServerConfig, speculation: Speculation, lane: Lane) -> None:
    engine, cpu, threads = server.engine, on_cpu(lane), threads_of(server.engine)
    builder.need("n_draft", server.n_draft, why="n_draft")
    builder.need("n_min", speculation.n_min, why="speculation.n_min")
    builder.need("p_min", speculation.p_min, why="speculation.p_min")
    builder.say("p_split", 0.1)
    builder.say("draft_threads", threads)
    builder.say("draft_threads_batch", engine.threads_batch or threads)
    builder.say("draft_gpu_layers", 0 if cpu else engine.draft_gpu_layers)
    builder.say("draft_context", engine.context)
    builder.say("draft_cache_type_k", engine.draft_cache_type_k)
    builder.say("draft_cache_type_v", engine.draft_cache_type_v)
    if cpu:
        builder.say("draft_device", "none")
    elif engine.draft_device is not None:
        builder.need("draft_device", engine.draft_device, why="engine.draft_device")
    elif names := visible_names(lane):
        builder.say("draft_device", ",".join(names))


def kind_parameters(server: ServerConfig) -> dict[str, int | float | str]:
    """All settings of the arm's draftless kinds: the defaults above, n_draft as their length, then the arm's own.

    Raises ProgramError for a name that no kind of the arm has.
    """
    assert server.speculation is not None  # noqa: S101 - a speculative arm has one
    settings: dict[str, int | float | str] = {}
    for kind in server.speculation.kinds:
        settings.update(PARAMETERS.get(kind, {}))
        if kind in DRAFT_LENGTH:
            settings[DRAFT_LENGTH[kind]] = server.n_draft
    if "ngram_mod.n_min" in settings:
        settings["ngram_mod.n_min"] = min(int(settings["ngram_mod.n_min"]), server.n_draft)
    allowed = set(settings) | (_OPTIONAL_PARAMETERS if "ngram-cache" in server.speculation.kinds else set())
    for name, value in server.speculation.parameters:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise ProgramError(
                f"speculation {'+'.join(server.speculation.kinds)} has no parameter {name}; it has {known}"
            )
        settings[name] = value
    return settings


def _parameters(builder: _Builder, server: ServerConfig, speculation: Speculation) -> None:
    own = {name for name, _ in speculation.parameters}
    for name, value in kind_parameters(server).items():
        if name in own:
            builder.need(name, value, why=f"speculation parameter {name}")
        else:
            builder.say(name, value)
