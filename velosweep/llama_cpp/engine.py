"""What every engine offers: launch a server, generate, close. Nothing here touches a process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from velosweep.config.settings import EngineSettings, Prompt, Sampling, Speculation
from velosweep.llama_cpp.capabilities import Capabilities
from velosweep.values import Device, Lane, Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """One loaded server configuration; jobs share it. Vanilla ones have n_draft 0 and no speculation."""

    id: str
    mode: Mode
    main_model: str
    draft_model: str | None
    n_draft: int
    speculation: Speculation | None
    engine: EngineSettings
    concurrency: int = 1
    depth: int = 0

    @property
    def context(self) -> int:
        """Tokens that all its slots hold together: each the depth, and engine.context for prompt and answer."""
        return (self.engine.context + self.depth) * self.concurrency

    @property
    def label(self) -> str:
        """Short name for the screen: `vanilla` or `n_draft 8`."""
        return "vanilla" if self.mode is Mode.VANILLA else f"n_draft {self.n_draft}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What one run asks of a session."""

    prompt: Prompt
    n_predict: int
    sampling: Sampling
    chat: bool = False
    template_kwargs: tuple[tuple[str, int | float | str], ...] = ()
    stop: str = "length"
    batches: tuple[int, ...] = ()  # sizes of batches to be timed after the run, outside what is measured
    depth_timeout_s: float = 600.0  # how long reading the context before the prompt may take


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """What llama.cpp and the client's clock said of one run.

    `time_to_first_token_ms` and `total_time_ms` are the client's, from sending the request until the first and the
    last token; the other times are llama.cpp's own. None is what a build, or its log, does not say.

    Of several streams: `tokens` and `text` are the first one's; the client's times and the prompt's are means over the
    streams' first requests; drafts and rounds are sums over all requests; `predicted_tokens` and `predicted_ms` are of
    the time in which all streams were busy: the token that it begins with, and those of all streams that came in it.
    """

    tokens: tuple[int, ...]
    text: str
    prompt_tokens: int
    predicted_tokens: int
    prompt_ms: float
    predicted_ms: float
    time_to_first_token_ms: float
    total_time_ms: float
    draft_tokens: int | None = None  # None also of a vanilla run
    accepted_tokens: int | None = None
    accepted_per_position: tuple[int, ...] | None = None  # [i]: how often draft position i was accepted
    rounds: int | None = None  # the main model's steps after the prompt: predicted_tokens - 1 - accepted_tokens
    drafting_rounds: int | None = None  # those that had a draft to verify
    draft_ms: float | None = None  # how long drafting took by llama.cpp's own log
    batch_tokens: tuple[int, ...] | None = None  # tokens read in one batch each after the run,
    batch_ms: tuple[float, ...] | None = None  # and how long each took; None where it wasn't or can't be asked
    layers_on_gpu: int | None = None  # of all the server's models together
    layers: int | None = None
    truncated: bool = False
    shortest: int | None = None  # tokens of the shortest of several streams' requests; so what follows but the last two
    stream_tokens_per_second: tuple[float, ...] | None = None
    stream_first_token_ms: tuple[float, ...] | None = None
    between_tokens_p50_ms: float | None = None
    between_tokens_p95_ms: float | None = None
    between_tokens_p99_ms: float | None = None
    depth_ms: float | None = None  # reading the context before the prompt, once for several runs; None: the run's own
    stop_reason: str | None = None  # `limit` (n_predict), `eos` (the text's own end) or `word`


class Session(Protocol):
    """One llama.cpp that runs one server configuration."""

    def wait_ready(self, timeout_s: float) -> None:
        """Block until it answers and does what the configuration says (drafts, or does not).

        Raises LaunchFailed with cause, remedy and the log's path.
        """

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """Run one request. Raises RunTimeout or RunFailed; `alive` then says whether to launch anew."""

    def check_request(self, request: Request) -> None:
        """Raise RequestRefused for a request that can't be answered whole; nothing is generated.

        A build that can't tell lets it pass. Raises RunFailed if it can't be asked.
        """
        return

    def memory_bytes(self) -> int | None:
        """Memory it holds now (resident set; device memory where that can be read), None if unknown."""
        return None

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""

    @property
    def pid(self) -> int | None:
        """Process that does the decoding, None where there is none of ours."""
        return None

    def close(self) -> None:
        """End it and everything it started; never raises, idempotent."""


class Engine(Protocol):
    """A way to run llama.cpp."""

    @property
    def name(self) -> str:
        """`server`, `embedded`, `binaries` or `attached`; the `engine` column."""

    @property
    def build(self) -> str:
        """What the program says of its version; the `llama_cpp_build` column."""

    def capabilities_for(self, speculation: Speculation | None) -> Capabilities | None:
        """What its llama.cpp can do, as far as this speculation needs it; None where that is not ours to ask."""
        return None

    def devices(self) -> tuple[Device, ...]:
        """The GPUs that it can use, in its order; none where that is not ours to ask."""
        return ()

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> Session:
        """Start a server for `server` pinned to the lane's devices and return at once.

        Raises LaunchFailed if it can't be started, ProgramError if the build can't do what is asked.
        """
