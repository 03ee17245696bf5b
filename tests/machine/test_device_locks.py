"""Locks between real processes: what matters is what the system does when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from velosweep.errors import BusyError, Interrupted, StorageError
from velosweep.machine.device_locks import lock_devices, lock_folder
from velosweep.values import Device

GPU = Device(kind="cuda", name="NVIDIA H100", uuid="GPU-aaaa", index=0)
OTHER_GPU = Device(kind="cuda", name="NVIDIA H100", uuid="GPU-bbbb", index=1)
CPU = Device(kind="cpu", name="AMD EPYC")

HOLDER = """
import sys
from velosweep.values import Device
from velosweep.machine.device_locks import lock_devices

keys = sys.argv[1:]
devices = [Device(kind="cpu" if key == "cpu" else "cuda", name="H100", uuid=key) for key in keys]
with lock_devices(devices, on_busy="wait", sweep="/sweeps/other", poll_s=0.01):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VELOSWEEP_LOCK_DIR", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def holder():
    started = []

    def start(*keys):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *keys], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def holder_of(device):
    """What the holder of a device wrote down, None where nobody holds it."""
    path = lock_folder() / f"{device.uuid or 'cpu'}.lock"
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        return json.loads(path.with_suffix(".json").read_text())


def holding(process):
    assert process.stdout.readline() == "held\n"
    return process


def test_a_device_in_use_is_refused_with_who_uses_it(holder):
    other = holding(holder("GPU-aaaa"))

    with (
        pytest.raises(
            BusyError, match=rf"NVIDIA H100 \(GPU-aaaa\) is in use by /sweeps/other \(process {other.pid}, since"
        ),
        lock_devices([GPU], on_busy="fail", sweep="/sweeps/mine"),
    ):
        pytest.fail("held twice")


def test_another_device_is_free(holder):
    holding(holder("GPU-aaaa"))

    with lock_devices([OTHER_GPU], on_busy="fail", sweep="/sweeps/mine"):
        assert holder_of(OTHER_GPU)["sweep"] == "/sweeps/mine"


def test_all_cpu_lanes_are_one_device(holder):
    holding(holder("cpu"))

    with pytest.raises(BusyError, match="AMD EPYC is in use"), lock_devices([CPU, CPU], on_busy="fail", sweep="/s"):
        pytest.fail("held twice")


def test_a_killed_holder_leaves_no_lock_and_no_name(holder):
    other = holding(holder("GPU-aaaa", "cpu"))
    assert other.pid == holder_of(GPU)["pid"]
    other.send_signal(signal.SIGKILL)
    other.wait()

    assert holder_of(GPU) is None
    with lock_devices([GPU, CPU], on_busy="fail", sweep="/sweeps/mine"):
        assert os.getpid() == holder_of(GPU)["pid"]


def test_waiting_ends_when_the_holder_is_killed(holder):
    other = holding(holder("GPU-aaaa"))
    messages = []

    def on_wait(message):
        messages.append(message)
        other.send_signal(signal.SIGKILL)
        other.wait()

    with lock_devices([GPU], on_busy="wait", sweep="/sweeps/mine", on_wait=on_wait, poll_s=0.01):
        assert os.getpid() == holder_of(GPU)["pid"]
    assert len(messages) == 1
    assert "in use by /sweeps/other" in messages[0]


def test_waiting_says_for_whom_once_and_can_be_interrupted(holder):
    holding(holder("GPU-aaaa"))
    messages, asked = [], []

    with (
        pytest.raises(Interrupted, match="Stopped while waiting for NVIDIA H100"),
        lock_devices(
            [GPU],
            on_busy="wait",
            sweep="/sweeps/mine",
            on_wait=messages.append,
            poll_s=0.01,
            should_stop=lambda: len(asked) > 5 or bool(asked.append(1)),
        ),
    ):
        pytest.fail("held twice")
    assert len(messages) == 1


def test_an_interrupted_wait_gives_back_what_it_had(holder):
    holding(holder("GPU-bbbb"))
    with (
        pytest.raises(Interrupted),
        lock_devices([GPU, OTHER_GPU], on_busy="wait", sweep="/s", poll_s=0.01, should_stop=lambda: True),
    ):
        pytest.fail("held twice")

    assert holder_of(GPU) is None


def test_an_error_while_holding_releases(folder):
    with pytest.raises(ZeroDivisionError), lock_devices([GPU], on_busy="fail", sweep="/s"):
        raise ZeroDivisionError

    assert holder_of(GPU) is None
    assert list(folder.glob("*.json")) == []


def test_two_sweeps_that_name_the_same_gpus_in_other_order_never_deadlock(holder):
    for _ in range(4):
        one, other = holder("GPU-aaaa", "GPU-bbbb"), holder("GPU-bbbb", "GPU-aaaa")
        for process in (one, other):
            process.stdin.write("\n")
            process.stdin.close()
        for process in (one, other):
            assert process.stdout.read() == "held\nreleased\n"
            assert process.wait() == 0


def test_two_sweeps_of_one_process_keep_each_other_out():
    refused = []

    def second():
        try:
            with lock_devices([GPU], on_busy="fail", sweep="/sweeps/second"):
                pass
        except BusyError as error:
            refused.append(str(error))

    with lock_devices([GPU], on_busy="fail", sweep="/sweeps/first"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    assert len(refused) == 1
    assert "/sweeps/first" in refused[0]


def test_a_child_process_of_the_holder_does_not_inherit_the_lock():
    with lock_devices([GPU], on_busy="fail", sweep="/s"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        assert holder_of(GPU) is None
        with lock_devices([GPU], on_busy="fail", sweep="/s"):
            pass
    finally:
        child.communicate(b"\n")


def test_a_foreign_note_beside_the_lock_is_no_holder(folder, holder):
    other = holding(holder("GPU-aaaa"))
    (folder / "GPU-aaaa.json").write_text("{torn")

    with pytest.raises(BusyError, match="in use by another sweep"), lock_devices([GPU], on_busy="fail", sweep="/s"):
        pytest.fail("held twice")
    assert other.poll() is None


def test_the_lock_folder_is_the_users_alone(folder):
    with lock_devices([GPU], on_busy="fail", sweep="/s"):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.glob("*.lock"))


def test_the_lock_folder_does_not_depend_on_the_session(monkeypatch):
    monkeypatch.delenv("VELOSWEEP_LOCK_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    monkeypatch.setenv("TMPDIR", "/elsewhere")

    assert Path("/elsewhere") not in lock_folder().parents


def test_a_lock_folder_that_is_a_link_is_refused(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    monkeypatch.setenv("VELOSWEEP_LOCK_DIR", str(tmp_path / "link"))

    with pytest.raises(StorageError, match="not yours"):
        lock_folder()


def test_a_later_device_is_not_held_while_waiting_for_an_earlier_one(holder):
    holding(holder("GPU-aaaa"))
    held_meanwhile = []

    with (
        pytest.raises(Interrupted),
        lock_devices(
            [OTHER_GPU, GPU],
            on_busy="wait",
            sweep="/s",
            poll_s=0.01,
            on_wait=lambda _: held_meanwhile.append(holder_of(OTHER_GPU)),
            should_stop=lambda: bool(held_meanwhile),
        ),
    ):
        pytest.fail("held twice")

    assert held_meanwhile == [None]


def test_a_dead_holders_note_names_nobody_for_the_next_ones_lock(folder, holder):
    dead = holding(holder("GPU-aaaa"))
    note = (folder / "GPU-aaaa.json").read_text()
    dead.kill()
    dead.wait()
    holding(holder("GPU-aaaa"))
    (folder / "GPU-aaaa.json").write_text(note)

    with pytest.raises(BusyError, match="in use by another sweep"), lock_devices([GPU], on_busy="fail", sweep="/s"):
        pytest.fail("held twice")
