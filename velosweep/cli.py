"""The command line: a command of ours, or Hydra's grammar. Nothing heavy is imported before it is needed."""

import atexit
import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from velosweep import __version__
from velosweep.errors import ExitStatus, Interrupted, OutputFailed, VelosweepError
from velosweep.isolation import drop_current_folder
from velosweep.reporting.console import output_failed, repair_output

COMMANDS = {
    "best": "find what speeds a model up here: best MODEL.gguf (without a model: list those there are)",
    "run": "measure, by ordinary flags: run --main A.gguf --draft B.gguf --n-draft 2,4,8",
    "doctor": "what would run here: programs, versions, devices, models, what is missing",
    "resume": "finish an interrupted sweep",
    "more": "add rounds to a finished sweep",
    "rerun": "repeat a sweep and compare with the old results",
    "collate": "rebuild every derived file of a sweep from its samples",
    "report": "show a sweep's results and rewrite report.html",
    "compare": "two sweeps side by side",
    "bisect": "which build of llama.cpp made it slower: bisect --main A.gguf -l OLD … NEW",
    "command": "the llama-server command of a sweep's answer",
    "serve": "start llama-server with a sweep's answer",
    "synth": "write a synthetic model pair",
    "init": "copy the configuration to a folder of your own",
}
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (see `velosweep.errors`). Raises bugs, and a command's SystemExit."""
    atexit.register(gc.freeze)  # else the last garbage collection would scan all imported modules
    if argv is not None:
        return _status(list(argv))
    drop_current_folder()
    repair_output()
    _clean_up_on_signals()
    try:
        return _status(sys.argv[1:])
    finally:  # all is told and written: a signal while Python ends must not change the exit status
        for name in _ENDING:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)


def _status(arguments: list[str]) -> int:
    """Run one command, and say what it raises, if that is no bug."""
    try:
        status = int(_run(arguments))
        sys.stdout.flush()  # what can't be written is told here, and not by Python at its end
        return status
    except KeyboardInterrupt:
        return _say(Interrupted("Interrupted"))
    except Exception as error:
        terminal_is_gone = isinstance(error, OSError) and error.errno == errno.EIO and error.filename is None
        if isinstance(error, BrokenPipeError) or terminal_is_gone:
            # so that Python does not complain on exit about a closed pipe
            _drop_output()
            return int(ExitStatus.SOME_FAILED)
        refusal = _own_error(error)
        if isinstance(refusal, OutputFailed):
            _drop_output()
        if refusal is None:
            raise
        from velosweep.config.flags import as_typed

        refusal.message = as_typed(refusal.message, ("velosweep", *arguments))
        refusal.remedy = refusal.remedy and as_typed(refusal.remedy, ("velosweep", *arguments))
        return _say(refusal)


def _clean_up_on_signals() -> None:
    """Let TERM and HUP end us as Ctrl-C does, also before servers run; a signal that is ignored stays so (nohup)."""
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        return int(importlib.import_module(f"velosweep.commands.{first}").main(arguments[1:]))
    if not {"--version", "-V"}.isdisjoint(arguments):
        sys.stdout.write(f"velosweep {__version__}\n")
        return int(ExitStatus.OK)
    if first == "help" or not {"--help", "-h"}.isdisjoint(arguments):
        from velosweep.hydra_app.help_page import help_page

        sys.stdout.write(help_page(COMMANDS))
        return int(ExitStatus.OK)
    from velosweep.hydra_app.application import run

    return run(arguments, commands=tuple(COMMANDS))


def _own_error(error: Exception) -> VelosweepError | None:
    """The exception as one of our errors; None for a bug, which needs its traceback."""
    if isinstance(error, VelosweepError):
        return error
    if isinstance(error, FileNotFoundError) and error.filename is None and not _current_folder_exists():
        return VelosweepError("The current folder is gone", remedy="cd to one that exists")
    if isinstance(error, OSError) and (failed := output_failed(error)):
        return failed
    if isinstance(error, OSError) and error.filename is not None:
        return VelosweepError(
            f"{error.filename}: {error.strerror}",
            remedy="check that the folder exists, is yours and has room, or start velosweep in another",
        )
    from velosweep.config.hydra_errors import translate

    return translate(error)


def _current_folder_exists() -> bool:
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        return False
    return True


def _say(error: VelosweepError) -> int:
    """Print an error to stderr, after its traceback where HYDRA_FULL_ERROR=1; returns the exit status."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"velosweep: {_printable(error.message)}\n")
    if error.remedy:
        sys.stderr.write(f"  {_printable(error.remedy)}\n")
    return int(error.exit_status)


def _printable(text: str) -> str:
    """The text with control characters escaped, because it may come from a file or the command line."""
    return "".join(letter if letter.isprintable() or letter == "\n" else f"\\x{ord(letter):02x}" for letter in text)


if __name__ == "__main__":
    sys.exit(main())
