"""What every engine offers: launch an arm, generate, close. Nothing here touches a process."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from velosweep.model import Arm, Generation, Lane, Request


class Session(Protocol):
    """One running llama.cpp that serves one arm."""

    def wait_ready(self, timeout_s: float) -> None:
        """Block until it answers and does what the arm says (drafts, or does not).

        Raises LaunchFailed with cause, remedy and the log's path.
        """

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """Run one request. Raises RunTimeout or RunFailed; `alive` then says whether to launch anew."""

    def memory_bytes(self) -> int | None:
        """Memory it holds now (resident set; device memory where that can be read), None if unknown."""

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""

    @property
    def pid(self) -> int | None:
        """Process that does the decoding, None where there is none of ours."""

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

    def launch(self, arm: Arm, *, lane: Lane, log_path: Path) -> Session:
        """Start a server for `arm` pinned to the lane's devices and return at once.

        Raises LaunchFailed if it can't be started, ProgramError if the build can't do what the arm asks.
        """
