"""Child processes that can't outlive us. The only module that imports subprocess.

A child runs in its own process group, its output goes straight into files (nothing of ours wakes up to copy
it), and its environment has no LLAMA_ARG_*. Its current folder is its program's own: llama.cpp loads every
`libggml-*` that it finds in the current one, and anybody may have put one into ours. If we die in any way, SIGKILL
included, the kernel ends it (Linux, PR_SET_PDEATHSIG) or a watchdog waiting on a pipe does (other POSIX systems, and
scripts, which have children of their own that the kernel would leave).
"""

import concurrent.futures
import contextlib
import functools
import ipaddress
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from velosweep.isolation import program_environment

# Run by a bare interpreter that becomes the program. PDEATHSIG is set after the fork and survives execve; doing it
# in preexec_fn instead would run Python between fork and exec of a threaded process, which may deadlock.
_GUARD = """
import os, sys
parent, fd, cores, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
if cores and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
if fd < 0:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(143)
else:
    group = os.getpid()
    if os.fork() == 0:
        os.setsid()
        if os.read(fd, 1) == b"":
            try:
                os.killpg(group, 9)
            except OSError:
                pass
        os._exit(0)
    os.close(fd)
try:
    os.execv(argv[0], argv)
except OSError as error:
    sys.stderr.write(f"exec: {argv[0]}: {error.strerror}\\n")
    os._exit(126)
"""

_NEEDS_WATCHDOG = sys.platform not in ("linux", "win32")
_START_S = 60.0
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_SCRUBBED = frozenset({"LLAMA_API_KEY", "LLAMA_LOG_FILE", "LLAMA_LOG_VERBOSITY", "LLAMA_LOG_COLORS"})


def child_environment(parent: Mapping[str, str], extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """`parent` without what silently changes a llama.cpp run, then `extra` (None removes a variable)."""
    kept: dict[str, str | None] = {
        name: value
        for name, value in program_environment(parent).items()
        if not name.startswith("LLAMA_ARG_") and name not in _SCRUBBED
    }
    return {name: value for name, value in {**kept, **(extra or {})}.items() if value is not None}


class ChildProcess:
    """A running child. Safe to use from any thread."""

    def __init__(self, popen: subprocess.Popen[bytes], watchdog: int | None) -> None:
        self.pid = popen.pid  # also the id of its process group
        self._popen = popen
        self._watchdog = watchdog
        self._lock = threading.Lock()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._popen.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code, or None if it still runs after `timeout_s`."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, *, grace_s: float = 5.0) -> int | None:
        """Ask its whole group to end, kill what is left after `grace_s`; idempotent, never raises."""
        with self._lock:
            if self._popen.poll() is None:
                self._signal(signal.SIGTERM)
                if self.wait(grace_s) is None:
                    self._signal(_KILL)
                    self.wait(max(grace_s, 1.0))
            # What the leader started may live on in its group.
            self._signal(_KILL)
            if self._popen.stdin is not None:
                with contextlib.suppress(OSError):
                    self._popen.stdin.close()
            if self._watchdog is not None:
                with contextlib.suppress(OSError):
                    os.write(self._watchdog, b"q")
                os.close(self._watchdog)
                self._watchdog = None
            return self._popen.poll()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.pid, number)
            else:
                self._popen.kill()


def start(
    argv: Sequence[str],
    *,
    stderr: Path | IO[bytes],
    stdout: IO[bytes] | None = None,
    environment: Mapping[str, str | None] | None = None,
    stdin: bytes = b"",
    cores: Sequence[int] = (),
) -> ChildProcess:
    """Start `argv` (argv[0] an absolute path), its output appended to the given files, and return at once.

    `stdout` None goes to the same file as stderr. `environment` is laid over the scrubbed one of this process.
    `stdin`: what the child reads first from a pipe that then stays open as long as we live; empty for no pipe.
    `cores`: logical processors it may use (where the system can confine it); empty for all of ours.
    Raises OSError if the interpreter that becomes the program can't be started; a program that can't be executed
    shows as exit code 126 with a line in `stderr`.
    """
    watched = _NEEDS_WATCHDOG or (sys.platform != "win32" and _is_script(argv[0]))

    def begin() -> ChildProcess:
        if isinstance(stderr, Path):
            stderr.parent.mkdir(parents=True, exist_ok=True)
        watchdog_read, watchdog_write = os.pipe() if watched else (None, None)
        guard = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid())]
        guard += ["-1" if watchdog_read is None else str(watchdog_read), ",".join(map(str, cores))]
        with contextlib.ExitStack() as files:
            errors = files.enter_context(stderr.open("ab")) if isinstance(stderr, Path) else stderr
            popen = subprocess.Popen(
                [*argv] if sys.platform == "win32" else [*guard, *argv],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=stdout or errors,
                stderr=errors,
                env=child_environment(os.environ, environment),
                cwd=Path(argv[0]).parent,
                # Its own session: Ctrl-C in the terminal reaches us only, and we decide in which order things end.
                start_new_session=True,
                pass_fds=() if watchdog_read is None else (watchdog_read,),
            )
        if watchdog_read is not None:
            os.close(watchdog_read)
        if popen.stdin is not None:
            with contextlib.suppress(OSError):  # a child that is gone is no error here
                popen.stdin.write(stdin)
                popen.stdin.flush()
        return ChildProcess(popen, watchdog_write)

    try:
        return _starter(os.getpid()).submit(begin).result(_START_S)
    except concurrent.futures.TimeoutError:
        raise OSError(f"the system did not start it within {_START_S:g} s") from None


def _is_script(program: str) -> bool:
    """Whether an interpreter runs it: it may start the real program as a child, as packages' wrappers do."""
    try:
        with Path(program).open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False  # the guard will say what is wrong with it


@functools.lru_cache(maxsize=1)
def _starter(pid: int) -> ThreadPoolExecutor:
    """One thread that starts all children of the process `pid` and lives as long; a fork gets another.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process: a server started by a lane's thread
    would die with that thread.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="velosweep-spawner")


class ProgramOutput(NamedTuple):
    """What a short-lived program printed; `exit_code` is None when it was stopped after its time."""

    exit_code: int | None
    stdout: str
    stderr: str


_MOST_TOLD = 1 << 24  # bytes of an answer


def ask(
    argv: Sequence[str], *, timeout_s: float = 30.0, environment: Mapping[str, str | None] | None = None
) -> ProgramOutput:
    """Run a program that answers and ends, such as `llama-server --help`; nothing that it starts is left behind.

    One that prints without end is stopped; one that a signal ended is asked once more: somebody may have sent it.
    Raises OSError as `start` does.
    """
    for _ in range(2):
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:  # nameless: KILL leaves nothing
            child = start(argv, stdout=stdout, stderr=stderr, environment=environment)
            settled = partial(_has_ended_or_told_too_much, child, (stdout.fileno(), stderr.fileno()))
            try:
                wait_for(settled, time.perf_counter() + timeout_s)
                exit_code = child.exit_code
            finally:
                child.stop(grace_s=0)
            answer = ProgramOutput(exit_code, written(stdout, _MOST_TOLD), written(stderr, _MOST_TOLD))
        if not signal_of(exit_code):
            break
    return answer


def _has_ended_or_told_too_much(child: ChildProcess, outputs: Sequence[int]) -> bool:
    return child.exit_code is not None or any(os.fstat(output).st_size > _MOST_TOLD for output in outputs)


def written(file: IO[bytes], limit: int = -1) -> str:
    """What a child wrote to a file of ours, up to `limit` bytes."""
    file.seek(0)
    return file.read(limit).decode(errors="replace").replace("\r\n", "\n")


def signal_of(code: int | None) -> int:
    """The signal that ended a program; 0 where none did. A shell between us and the program reports it as 128 + n."""
    return 0 if code is None else -code if code < 0 else code - 128 if 128 < code < 160 else 0


def describe_exit(code: int | None) -> str:
    """An exit code in words: `still running`, `exit status 1`, `killed by SIGSEGV (segmentation fault)`."""
    if code is None:
        return "still running"
    if not (number := signal_of(code)):
        return f"exit status {code}"
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"killed by signal {number}"
    words = (signal.strsignal(number) or "").lower()
    return f"killed by {name} ({words})" if words not in ("", "killed") else f"killed by {name}"


def tail(path: Path, size: int = 1 << 16) -> str:
    """The last `size` bytes of a log file, "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def listener(host: str, port: int) -> int | None:
    """The process that listens on a port of this machine; None where it runs elsewhere or the system doesn't tell."""
    import psutil

    try:
        local = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
        found = psutil.net_connections(kind="tcp") if local else []
    except (ValueError, psutil.Error, OSError):
        return None
    return next((one.pid for one in found if one.status == psutil.CONN_LISTEN and one.laddr.port == port), None)


def wait_for(condition: Callable[[], bool], deadline: float, *, longest_s: float = 0.1) -> bool:
    """Call `condition` until it is true or perf_counter passes `deadline`, sleeping longer each time."""
    pause = 0.005
    while not condition():
        left = deadline - time.perf_counter()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, longest_s)
    return True
