"""Children that can't outlive us, get no LLAMA_ARG_*, and end when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.llama_cpp import process

PYTHON = [sys.executable, "-IS", "-c"]


def ended(pid: int, within_s: float = 30.0) -> bool:
    """Whether the process ends in that time."""
    deadline = time.perf_counter() + within_s

    def gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return process.wait_for(gone, deadline)


def test_both_outputs_go_into_the_log(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "server.log"
    child = process.start([*PYTHON, "import sys; print('out', flush=True); sys.stderr.write('err')"], stderr=log)

    assert child.wait(60) == 0
    assert log.read_text() == "out\nerr"
    child.stop()


def test_llama_arg_variables_do_not_reach_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_SPEC_TYPE", "ngram-mod")
    monkeypatch.setenv("LLAMA_API_KEY", "theirs")
    monkeypatch.setenv("KEPT", "yes")
    script = "import os; print({k: v for k, v in os.environ.items() if 'LLAMA' in k or k == 'KEPT'})"
    child = process.start([*PYTHON, script], stderr=tmp_path / "log", environment={"LLAMA_API_KEY": "ours"})
    child.wait(60)
    child.stop()

    assert eval((tmp_path / "log").read_text()) == {"LLAMA_API_KEY": "ours", "KEPT": "yes"}


def test_a_child_has_no_descriptor_of_ours_and_its_programs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", "lib:.:/cuda")
    (tmp_path / "secret").write_text("x")
    with (tmp_path / "secret").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        script = "import os; print(os.getcwd(), os.environ['LD_LIBRARY_PATH'], *os.listdir('/dev/fd'))"
        child = process.start([*PYTHON, script], stderr=tmp_path / "log")
        child.wait(60)
        child.stop()

    folder, libraries, *descriptors = (tmp_path / "log").read_text().split()
    assert (Path(folder), libraries) == (Path(sys.executable).parent, f"{tmp_path}/lib:/cuda")
    assert sorted(descriptors) == ["0", "1", "2", "3"]  # the last one listed them


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_no_environment_keeps_a_llama_arg(environment: dict[str, str]) -> None:
    dirty = {**environment, "LLAMA_ARG_N_PREDICT": "1"}

    assert not any(name.startswith("LLAMA_ARG_") for name in process.child_environment(dirty))


def test_a_child_that_ignores_sigterm_is_killed_with_all_it_started(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-IS', '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)"
    )
    child = process.start([*PYTHON, script], stderr=tmp_path / "log")
    assert process.wait_for(lambda: "\n" in process.tail(tmp_path / "log"), time.perf_counter() + 60)
    grandchild = int(process.tail(tmp_path / "log"))

    assert child.stop(grace_s=0.2) == -signal.SIGKILL
    assert ended(grandchild)


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[process.ChildProcess] = []
    thread = threading.Thread(
        target=lambda: started.append(process.start([*PYTHON, "import time; time.sleep(60)"], stderr=tmp_path / "log"))
    )
    thread.start()
    thread.join()
    time.sleep(0.2)  # a death signal would have come by now

    assert started[0].exit_code is None
    started[0].stop(grace_s=0)


@pytest.mark.parametrize("watchdog", [False, True], ids=["by the kernel", "by a watchdog"])
def test_a_killed_driver_leaves_no_child(tmp_path: Path, watchdog: bool) -> None:
    if sys.platform != "linux" and not watchdog:
        pytest.skip("only Linux has a death signal")
    script = (
        "import sys, time; from pathlib import Path; from velosweep.llama_cpp import process\n"
        f"process._NEEDS_WATCHDOG = {watchdog}\n"
        "child = process.start([sys.executable, '-IS', '-c', 'import time; time.sleep(60)'], stderr=Path('log'))\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()

    assert ended(pid)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system can't confine a process")
def test_a_child_is_confined_to_its_cores(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    child = process.start(
        [*PYTHON, "import os; print(*os.sched_getaffinity(0))"], stderr=tmp_path / "log", cores=(core,)
    )
    child.wait(60)
    child.stop()

    assert (tmp_path / "log").read_text() == f"{core}\n"


def test_a_program_that_can_not_be_executed_says_so_in_the_log(tmp_path: Path) -> None:
    child = process.start([str(tmp_path / "nothing")], stderr=tmp_path / "log")

    assert child.wait(60) == 126
    assert "No such file" in (tmp_path / "log").read_text()
    child.stop()


def test_a_watchdog_ends_with_the_child_that_it_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_NEEDS_WATCHDOG", True)
    child = process.start([*PYTHON, "import time; time.sleep(60)"], stderr=tmp_path / "log")
    assert process.wait_for(lambda: bool(psutil.Process(child.pid).children()), time.perf_counter() + 60)
    (watchdog,) = psutil.Process(child.pid).children()

    assert child.stop() == -signal.SIGTERM
    assert ended(watchdog.pid)


def test_stopping_twice_is_no_harm(tmp_path: Path) -> None:
    child = process.start([*PYTHON, "import time; time.sleep(60)"], stderr=tmp_path / "log")
    child.stop()

    assert child.stop() == -signal.SIGTERM


def test_a_program_that_never_answers_is_given_up() -> None:
    answer = process.ask([*PYTHON, "import time; print('begun', flush=True); time.sleep(60)"], timeout_s=1.0)

    assert answer.exit_code is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "still running"),
        (1, "exit status 1"),
        (-11, "killed by SIGSEGV (segmentation fault)"),
        (139, "killed by SIGSEGV (segmentation fault)"),
        (134, "killed by SIGABRT (aborted)"),
        (-9, "killed by SIGKILL"),
        (255, "exit status 255"),
    ],
)
def test_exit_codes_are_told_in_words(code: int | None, words: str) -> None:
    assert process.describe_exit(code) == words


def test_a_program_that_prints_without_end_is_stopped() -> None:
    answer = process.ask([*PYTHON, "while True: print('y' * 1000)"], timeout_s=600.0)

    assert answer.exit_code is None
    assert len(answer.stdout) == 1 << 24
