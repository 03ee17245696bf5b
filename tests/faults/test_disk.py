"""Disks that are full or read-only, at every write: nothing measured is lost, and the words say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.harness import Bench, Drive, complete

SWEEP = ("n_draft=4,8", "iterations=2")
# In a mount namespace of its own: a small disk at $0, kept for us to see when the command has ended.
SMALL_DISK = 'mount -t tmpfs -o size=1m tmpfs "$0" && "$@"; status=$?; cp -r "$0/." "$0.kept"; exit $status'
# The folder becomes read-only as soon as the file $0.now is there; what is open for writing stays so.
READ_ONLY = (
    '(until [ -e "$0.now" ]; do sleep 0.02; done; mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'
    ' && touch "$0.done") & "$@"'
)


def needs_namespaces() -> None:
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("this system grants no mount namespaces")


def in_namespace(bench: Bench, script: str) -> Drive:
    needs_namespaces()
    bench.root.mkdir()
    return bench.sweep(*SWEEP, wrap=["unshare", "-Urm", "sh", "-c", script, str(bench.root)])


def go_on(bench: Bench) -> None:
    drive = bench.run("resume", str(bench.root))

    assert drive.process.returncode == 0, drive.said
    complete(bench, n_draft=[4, 8], iterations=2)
    assert bench.states() == ["done", "done"]
    assert bench.leftovers() == []


@pytest.mark.parametrize(("after", "room"), [(2, 0), (5, 8192)], ids=["the journal", "the results"])
def test_a_full_disk_ends_the_sweep_in_words_and_keeps_every_sample(bench: Bench, after: int, room: int) -> None:
    bench.hold(after)
    drive = in_namespace(bench, SMALL_DISK)
    inside = Path(f"/proc/{drive.process.pid}/root{bench.root}")
    bench.wait_for(lambda: bench.events("held") and sum(bench.taken(inside).values()) >= after)
    before = bench.taken(inside)
    fill(inside / "filler", room)
    bench.release()

    assert drive.wait() == 1, drive.said
    assert "No space left on device" in drive.said
    assert drive.said.count(f"velosweep resume {bench.root}") == drive.said.count("velosweep resume") == 1
    assert "Traceback" not in drive.said
    shutil.copytree(f"{bench.root}.kept", bench.root, dirs_exist_ok=True)  # the same folder on a larger disk
    (bench.root / "filler").unlink()
    assert before <= bench.taken()
    go_on(bench)


def fill(path: Path, room: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(handle, bytes(4096))
    os.ftruncate(handle, os.fstat(handle).st_size - room)
    os.close(handle)


def test_a_disk_without_room_for_the_configuration_is_named_before_anything_runs(bench: Bench) -> None:
    drive = in_namespace(bench, 'mount -t tmpfs -o size=4k tmpfs "$0" && "$@"')

    assert drive.wait() == 2, drive.said
    assert f"Can't write {bench.root}: No space left on device\n  free some space there\n" in drive.said


def test_a_disk_that_turns_read_only_before_the_results_costs_no_sample(bench: Bench) -> None:
    bench.hold(3)
    drive = in_namespace(bench, READ_ONLY)
    bench.wait_until_held()
    Path(f"{bench.root}.now").touch()
    bench.wait_for(Path(f"{bench.root}.done").exists)
    bench.release()

    assert drive.wait() == 1, drive.said
    assert "Read-only file system" in drive.said
    assert "Traceback" not in drive.said
    complete(bench, n_draft=[4, 8], iterations=2)
    go_on(bench)


def test_a_journal_that_can_no_longer_be_written_ends_every_lane(bench: Bench) -> None:
    code = f"""
import errno, os
write, now = os.write, {str(bench.folder / "now")!r}
def refuse(handle, data):
    if os.path.exists(now) and os.readlink(f"/proc/self/fd/{{handle}}").endswith("journal.jsonl"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    return write(handle, data)
os.write = refuse
"""
    bench.set(devices=["Stand-in GPU", "Stand-in GPU"])
    bench.hold(3)
    drive = bench.sweep("n_draft=4,8", "iterations=2", code=code)
    bench.wait_until_held()
    (bench.folder / "now").touch()
    bench.release()

    assert drive.wait() == 1, drive.said
    assert "Read-only file system" in drive.said
    assert bench.states() == ["pending", "pending"]
    assert bench.leftovers() == []
    drive = bench.run("resume", str(bench.root))
    assert drive.process.returncode == 0, drive.said
    complete(bench, n_draft=[4, 8], iterations=2, groups=2)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(bench: Bench) -> None:
    bench.root.write_text("a file where the folder is to be")
    drive = bench.sweep("n_draft=4")

    assert drive.wait() == 2, drive.said
    assert "sweep" in drive.said
    assert bench.events("start") == []
