"""llama.cpp's command-line programs, a process a run, as the specification does it.

Vanilla: llama-completion, or the llama-cli of before 2026. Speculative: llama-speculative-simple, else
llama-speculative. Times are the programs' own; the time to the first token is the prompt's.
"""

import re
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from velosweep.config.settings import Prompt, Sampling, Speculation
from velosweep.errors import LaunchFailed, ProgramError, RunFailed, RunTimeout
from velosweep.llama_cpp import failures, process
from velosweep.llama_cpp.arguments import program_arguments
from velosweep.llama_cpp.capabilities import Capabilities, capabilities_of, find_in, list_devices, pinning_environment
from velosweep.llama_cpp.engine import Engine, Generation, Request, ServerConfig, Session
from velosweep.values import Device, Lane, Mode

VANILLA_PROGRAMS = ("llama-completion", "llama-cli", "main")
SPECULATIVE_PROGRAMS = ("llama-speculative-simple", "llama-speculative", "speculative")


class BinariesEngine(Engine):
    """The programs of one folder."""

    name = "binaries"

    def __init__(self, folder: str) -> None:
        """`folder`: absolute path of the programs. Raises ProgramError if one is missing or can't be asked."""
        self._programs: dict[Mode, Capabilities] = {}
        for mode, names in ((Mode.VANILLA, VANILLA_PROGRAMS), (Mode.SPECULATIVE, SPECULATIVE_PROGRAMS)):
            program = find_in(Path(folder), *names)
            if program is None:
                raise ProgramError(
                    f"None of {', '.join(names)} is in {folder}",
                    remedy="build llama.cpp with its examples (cmake --build build --config Release)",
                )
            self._programs[mode] = capabilities_of(str(program))
        vanilla = self._programs[Mode.VANILLA]
        if Path(vanilla.program).stem == "llama-cli" and vanilla.name("no_display_prompt") is None:
            raise ProgramError(f"{vanilla.program} has no --no-display-prompt", remedy="use engine=server")

    @property
    def build(self) -> str:
        return self._programs[Mode.VANILLA].build

    def capabilities_for(self, speculation: Speculation | None) -> Capabilities:
        return self._programs[Mode.SPECULATIVE]

    def devices(self) -> tuple[Device, ...]:
        return list_devices(self._programs[Mode.VANILLA].program)

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> "BinariesSession":
        """Nothing starts before the first run. Raises ProgramError if the program can't do what is asked."""
        capabilities = self._programs[server.mode]
        arguments = program_arguments(server, lane=lane, capabilities=capabilities)
        return BinariesSession(server, capabilities, arguments, lane, log_path)


@dataclass
class BinariesSession(Session):
    """Runs one program anew for each request."""

    server: ServerConfig
    capabilities: Capabilities
    arguments: list[str]
    lane: Lane
    log_path: Path
    _child: process.ChildProcess | None = None
    _closed: bool = False

    @property
    def alive(self) -> bool:
        return not self._closed

    @property
    def pid(self) -> int | None:
        """The running process, None between runs."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    def wait_ready(self, timeout_s: float) -> None:
        """Run for two tokens, so that a model that can't be loaded fails the launch. Raises LaunchFailed."""
        short = Request(prompt=Prompt(id="short", text="Hello"), n_predict=2, sampling=Sampling(seed=1))
        try:
            log, _ = self._run(short, timeout_s)  # a speculative program rounds up to a whole draft
        except RunFailed as error:
            raise LaunchFailed(error.message, remedy=error.remedy) from None
        failure = failures.diagnose(log, None)
        if failure.cause == failures.UNFIT_VOCABULARY:
            raise LaunchFailed(f"{failure.cause} (log: {self.log_path})", remedy=failure.remedy)

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        if request.chat:
            raise RunFailed("engine=binaries can't apply a chat template", remedy="use engine=server for chat prompts")
        log, text = self._run(request, timeout_s)
        vanilla = self.server.mode is Mode.VANILLA
        generation = parse_vanilla(log, text.strip("\n")) if vanilla else parse_speculative(log)
        if generation is None:
            wanted = "eval time" if vanilla else "decoded … tokens in … seconds"
            raise RunFailed(
                f"{Path(self.capabilities.program).name} printed no {wanted!r} (log: {self.log_path})",
                remedy="use engine=server, which every llama.cpp since 2024 measures the same way",
            )
        return generation

    def _run(self, request: Request, timeout_s: float) -> tuple[str, str]:
        """(stderr, stdout) of one process."""
        temperature = request.sampling.temperature
        values = {
            "prompt": request.prompt.text,
            "n_predict": str(request.n_predict),
            "temperature": f"{temperature:g}",
            "seed": str(request.sampling.seed),
            "top_k": "1" if temperature <= 0 else str(request.sampling.top_k),
        }
        flags = {flag: value for name, value in values.items() if (flag := self.capabilities.name(name))}
        argv = [self.capabilities.program, *self.arguments, *chain.from_iterable(flags.items())]
        before = self.log_path.stat().st_size if self.log_path.exists() else 0
        with tempfile.TemporaryFile() as stdout:
            self._child = process.start(
                argv,
                stderr=self.log_path,
                stdout=stdout,
                environment=pinning_environment(self.lane),
                cores=self.lane.cores,
            )
            code = self._child.wait(timeout_s)
            self._child.stop(grace_s=1.0)
            log = self.log_path.read_bytes()[before:].decode(errors="replace")
            text = process.written(stdout)
        if code is None:
            raise RunTimeout(f"{Path(argv[0]).name} did not end within {timeout_s:g} s (log: {self.log_path})")
        if code != 0:
            failure = failures.diagnose(log, code)
            raise RunFailed(
                f"{Path(argv[0]).name} failed ({process.describe_exit(code)}): {failure.cause} (log: {self.log_path})",
                remedy=failure.remedy,
            )
        return log, text

    def close(self) -> None:
        self._closed = True
        if self._child is not None:
            self._child.stop(grace_s=1.0)


# What the programs print of their times, since 2024.
_FLAGS = re.MULTILINE | re.ASCII
# `0.00.771.389 I ` in builds of 2026; before it nothing.
_STAMP = r"^(?:\d+\.\d+\.\d+\.\d+ [A-Z] )?"
_PREFIX = r"(?:llama_print_timings|llama_perf_context_print|common_perf_print): *"
_NUMBER = r"(inf|nan|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_INTEGER = r"(\d{1,15})"
_LINE = re.compile(
    _STAMP + _PREFIX + r"(prompt eval|eval) time = *" + _NUMBER + r" ms / *" + _INTEGER + r" (?:tokens|runs)\b", _FLAGS
)
_PHASE = re.compile(
    _STAMP + r"(encoded|decoded) +" + _INTEGER + r" tokens in +" + _NUMBER + r" seconds, speed: +" + _NUMBER + r" t/s",
    _FLAGS,
)
_COUNT = re.compile(_STAMP + r"(n_draft|n_predict|n_drafted|n_accept) *= *" + _INTEGER + r"\s*$", _FLAGS)


def parse_vanilla(log: str, text: str = "") -> Generation | None:
    """The last account in `log`, of a run that generated `text`; None if there is none, or without decoding steps.

    Each step gave a token; the one before them came out of the prompt's evaluation.
    """
    found = {name: (float(ms), int(count)) for name, ms, count in _LINE.findall(log)}
    if "eval" not in found or "prompt eval" not in found:
        return None
    (prompt_ms, prompt_tokens), (eval_ms, steps) = found["prompt eval"], found["eval"]
    return Generation(
        tokens=(),
        text=text,
        prompt_tokens=prompt_tokens,
        predicted_tokens=steps + 1,
        prompt_ms=prompt_ms,
        predicted_ms=eval_ms,
        time_to_first_token_ms=prompt_ms,
        total_time_ms=prompt_ms + eval_ms,
    )


def parse_speculative(log: str) -> Generation | None:
    """The `encoded`/`decoded` account; None if there is none.

    Never "eval time": verification batches are counted as prompt evaluation there. Times come from the speed, which
    has six digits where the seconds have three decimals. No text to compare with vanilla's: these programs repeat the
    prompt and go on beyond what was asked.
    """
    phases = {name: (int(tokens), float(seconds), float(speed)) for name, tokens, seconds, speed in _PHASE.findall(log)}
    if "encoded" not in phases or "decoded" not in phases:
        return None
    counts = {name: int(count) for name, count in _COUNT.findall(log)}
    tokens, accepted = phases["decoded"][0], counts.get("n_accept")
    prompt_ms, decode_ms = _milliseconds(*phases["encoded"]), _milliseconds(*phases["decoded"])
    return Generation(
        tokens=(),
        text="",
        prompt_tokens=phases["encoded"][0],
        predicted_tokens=tokens,
        prompt_ms=prompt_ms,
        # All the program's tokens are decoded after the prompt; ours counts the first as the prompt's. Leaving out one
        # token's time makes (n - 1) / predicted_ms the program's own speed.
        predicted_ms=decode_ms * (tokens - 1) / tokens if tokens else 0.0,
        time_to_first_token_ms=prompt_ms,
        total_time_ms=prompt_ms + decode_ms,
        draft_tokens=counts.get("n_drafted"),
        accepted_tokens=accepted,
        rounds=None if accepted is None else tokens - accepted,  # the first token, too, comes out of a round here
    )


def _milliseconds(tokens: int, seconds: float, speed: float) -> float:
    return tokens / speed * 1000 if 0 < speed < float("inf") else seconds * 1000
