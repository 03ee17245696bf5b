"""Files are whole or not there, and refusals of the system are said in words."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.results.made import job_record
from velosweep.errors import StorageError
from velosweep.files import make_folder, replacing, storage_error, write_bytes, write_text
from velosweep.results.paths import JobPaths, SweepPaths, safe_name


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")

    def write_half() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()

    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(StorageError, match="nobody reads from it; name a file"):
        write_text(path, "lost")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_text(path, "read")

    assert os.read(reader, 100) == b"read"
    assert [(entry.name, entry.is_fifo()) for entry in tmp_path.iterdir()] == [("pipe", True)]
    os.close(reader)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left.*free some space"),
        (errno.EROFS, "Read-only.*hydra.sweep.dir"),
        (errno.EACCES, "Permission denied.*hydra.sweep.dir"),
        (errno.EIO, "Input/output error.*check it"),
    ],
)
def test_the_systems_refusal_is_said_with_its_cure(tmp_path: Path, monkeypatch, number: int, words: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)

    with pytest.raises(StorageError, match=words):
        write_bytes(tmp_path / "a.json", b"content")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(StorageError, match=r"Permission denied; you may not write there"):
        write_bytes(tmp_path / "a.json", b"content")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_file_that_may_not_be_read_is_not_called_one_to_write(number: int) -> None:
    refused = OSError(number, os.strerror(number))

    remedies = [storage_error(Path("a"), refused, doing=doing).remedy or "" for doing in ("read", "write")]

    assert remedies[0] == "change its permissions, or use a copy that you may read"
    assert remedies[1].startswith("you may not write there")


def test_files_get_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a.json", b"content")
        make_folder(tmp_path / "b" / "c")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b" / "c").stat().st_mode) == 0o750


@pytest.mark.parametrize("directory", ["../other", "/etc", "a/../../b"])
def test_a_job_never_writes_outside_its_sweep(tmp_path: Path, directory: str) -> None:
    with pytest.raises(StorageError, match="outside its sweep"):
        SweepPaths(tmp_path).job(job_record(0, directory=directory))


@pytest.mark.parametrize("name", ["..", "", "/", "a" * 500, "\x1b[31m", "con\x00trol", "über/ober", ".a", "\n"])
def test_any_name_becomes_one_harmless_component(tmp_path: Path, name: str) -> None:
    path = JobPaths(tmp_path).prompt(name)

    assert tmp_path / "prompts" == path.parent
    assert path.name == safe_name(name) + ".json"
    assert not path.name.startswith(".")
    path.parent.mkdir()
    path.write_text("can be written")


@pytest.mark.parametrize("content", [b"\xff same", memoryview(b"\xff same")])
def test_what_can_be_derived_again_is_left_alone_where_it_says_the_same(
    tmp_path: Path, content: bytes | memoryview
) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    write_bytes(path, content, durable=False)
    link.symlink_to(path)
    inode = path.stat().st_ino

    write_bytes(path, content, durable=False)
    write_bytes(link, content, durable=False)
    assert path.stat().st_ino == inode
    assert not link.is_symlink()
    write_bytes(path, b"\xff that", durable=False)
    assert path.read_bytes() == b"\xff that"
    inode = path.stat().st_ino
    write_bytes(path, b"\xff that")
    assert path.stat().st_ino != inode
