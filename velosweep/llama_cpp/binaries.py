"""llama.cpp's command-line programs, a process a run, as the specification does it.

Vanilla: llama-completion, or the llama-cli of before 2026. Speculative: llama-speculative-simple, else
llama-speculative. Times are the programs' own; the time to the first token is the prompt's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from velosweep.errors import LaunchFailed, ProgramError, RunFailed, RunTimeout
from velosweep.llama_cpp import failures, process
from velosweep.llama_cpp.arguments import program_arguments
from velosweep.llama_cpp.capabilities import Capabilities, find_in, of_program, program_folders
from velosweep.llama_cpp.device_list import list_devices, pinning_environment
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.llama_cpp.printed_timings import parse_speculative, parse_vanilla
from velosweep.values import Device, Lane, Mode

VANILLA_PROGRAMS = ("llama-completion", "llama-cli", "main")
SPECULATIVE_PROGRAMS = ("llama-speculative-simple", "llama-speculative", "speculative")


def find_programs(path: str) -> Path | None:
    """The folder of a llama.cpp at `path` that holds a speculative and a vanilla program; None if there is none."""
    base = Path(path).expanduser()
    for folder in program_folders(base.parent if base.is_file() else base):
        if find_in(folder, *VANILLA_PROGRAMS) and find_in(folder, *SPECULATIVE_PROGRAMS):
            return folder.absolute()
    return None


class BinariesEngine:
    """The programs of one folder."""

    name = "binaries"

    def __init__(self, folder: str) -> None:
        """`folder`: absolute path of the programs. Raises ProgramError if one is missing or can't be asked."""
        self._programs = {
            Mode.VANILLA: self._ask(folder, VANILLA_PROGRAMS),
            Mode.SPECULATIVE: self._ask(folder, SPECULATIVE_PROGRAMS),
        }
        vanilla = self._programs[Mode.VANILLA]
        if Path(vanilla.program).stem == "llama-cli" and vanilla.name("no_display_prompt") is None:
            raise ProgramError(f"{vanilla.program} has no --no-display-prompt", remedy="use engine=server")

    @staticmethod
    def _ask(folder: str, names: tuple[str, ...]) -> Capabilities:
        program = find_in(Path(folder), *names)
        if program is None:
            raise ProgramError(
                f"None of {', '.join(names)} is in {folder}",
                remedy="build llama.cpp with its examples (cmake --build build --config Release)",
            )
        return of_program(str(program))

    @property
    def build(self) -> str:
        """Version as the vanilla program says it."""
        return self._programs[Mode.VANILLA].build

    def devices(self) -> tuple[Device, ...]:
        """The GPUs that the programs can use."""
        return list_devices(self._programs[Mode.VANILLA].program, self._programs[Mode.VANILLA])

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> BinariesSession:
        """Nothing starts before the first run. Raises ProgramError if the program can't do what is asked."""
        capabilities = self._programs[server.mode]
        arguments = program_arguments(server, lane=lane, capabilities=capabilities)
        return BinariesSession(server, [capabilities.program, *arguments], capabilities, lane=lane, log_path=log_path)


class BinariesSession:
    """Runs one program anew for each request."""

    def __init__(
        self, server: ServerConfig, argv: list[str], capabilities: Capabilities, *, lane: Lane, log_path: Path
    ) -> None:
        self._server = server
        self._argv = argv
        self._capabilities = capabilities
        self._lane = lane
        self._log_path = log_path
        self._child: process.ChildProcess | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether it can be asked again: each run has its own process."""
        return not self._closed

    @property
    def pid(self) -> int | None:
        """The running process, None between runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def memory_bytes(self) -> int | None:
        """Nothing is held between runs."""
        return None

    def wait_ready(self, timeout_s: float) -> None:
        """Run for one token, so that a model that can't be loaded fails the launch. Raises LaunchFailed."""
        prompt = "Hello"
        try:
            # A speculative program rounds up to a whole draft.
            log, _ = self._run(prompt, n_predict=2, seed=1, temperature=0.0, timeout_s=timeout_s)
        except RunFailed as error:
            raise LaunchFailed(error.message, remedy=error.remedy) from None
        failure = failures.diagnose(log, None)
        if failure.kind == "vocabulary":
            raise LaunchFailed(f"{failure.cause} (log: {self._log_path})", remedy=failure.remedy)

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """One run in a process of its own. Raises RunTimeout, RunFailed."""
        if request.chat:
            raise RunFailed("engine=binaries can't apply a chat template", remedy="use engine=server for chat prompts")
        sampling = request.sampling
        log, text = self._run(
            request.prompt.text,
            n_predict=request.n_predict,
            seed=sampling.seed,
            temperature=sampling.temperature,
            timeout_s=timeout_s,
        )
        vanilla = self._server.mode is Mode.VANILLA
        generation = parse_vanilla(log, text.strip("\n")) if vanilla else parse_speculative(log)
        if generation is None:
            wanted = "eval time" if vanilla else "decoded … tokens in … seconds"
            raise RunFailed(
                f"{Path(self._argv[0]).name} printed no {wanted!r} (log: {self._log_path})",
                remedy="use engine=server, which every llama.cpp since 2024 measures the same way",
            )
        return generation

    def _run(self, prompt: str, *, n_predict: int, seed: int, temperature: float, timeout_s: float) -> tuple[str, str]:
        """(stderr, stdout) of one process."""
        name = self._capabilities.name
        argv = [*self._argv, str(name("prompt")), prompt, str(name("n_predict")), str(n_predict)]
        argv += [str(name("temperature")), f"{temperature:g}", str(name("seed")), str(seed)]
        argv += [str(name("top_k")), "1" if temperature <= 0 else "40"] if name("top_k") else []
        before = self._log_path.stat().st_size if self._log_path.exists() else 0
        with tempfile.TemporaryDirectory(prefix="velosweep-") as folder:
            stdout = Path(folder) / "stdout"
            self._child = process.start(
                argv,
                stderr=self._log_path,
                stdout=stdout,
                environment=pinning_environment(self._lane),
                cores=self._lane.cores,
            )
            code = self._child.wait(timeout_s)
            self._child.stop(grace_s=1.0)
            log = self._log_path.read_bytes()[before:].decode(errors="replace")
            text = stdout.read_text(encoding="utf-8", errors="replace")
        if code is None:
            raise RunTimeout(f"{Path(argv[0]).name} did not end within {timeout_s:g} s (log: {self._log_path})")
        if code != 0:
            failure = failures.diagnose(log, code)
            raise RunFailed(
                f"{Path(argv[0]).name} failed ({process.describe_exit(code)}): {failure.cause} (log: {self._log_path})",
                remedy=failure.remedy,
            )
        return log, text

    def close(self) -> None:
        """End a run that is still going; idempotent."""
        self._closed = True
        if self._child is not None:
            self._child.stop(grace_s=1.0)
