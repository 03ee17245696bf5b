"""Work is shared out where it is much, and Python's collector of cycles comes back after it."""

from __future__ import annotations

import gc
import os
import time
from functools import partial
from pathlib import Path

import pytest

from velosweep.errors import StorageError
from velosweep.results import worker_pool as crew
from velosweep.results.worker_pool import without_collector


def prepare() -> None:
    """A worker needs nothing."""


def place_and_piece(piece: int) -> tuple[int, bool, int]:
    """Where a piece is worked on: the process, whether it looks for cycles, and the piece."""
    return os.getpid(), gc.isenabled(), piece


def test_few_pieces_are_not_worth_a_process(tmp_path: Path) -> None:
    with crew.crew(tmp_path, 2, prepare) as workers:
        done = list(workers.map(place_and_piece, range(2)))

    assert workers.alone
    assert [(os.getpid(), gc.isenabled(), piece) for piece in range(2)] == done


def test_many_pieces_come_back_in_order_from_processes_that_look_for_no_cycles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_workers", lambda _: 2)

    with crew.crew(tmp_path, 9, prepare) as workers:
        done = list(workers.map(place_and_piece, range(9)))

    assert [piece for _, _, piece in done] == list(range(9))
    assert os.getpid() not in {process for process, _, _ in done}
    assert not any(enabled for _, enabled, _ in done)


def test_processes_begin_before_there_is_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_workers", lambda _: 2)

    with crew.crew(tmp_path, 9, partial(leave_a_mark, tmp_path)):
        latest = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < latest:
            time.sleep(0.05)
        marks = {int(path.name) for path in tmp_path.iterdir()}

    assert (len(marks), os.getpid() in marks) == (2, False)


def leave_a_mark(folder: Path) -> None:
    """Which process was here."""
    (folder / str(os.getpid())).touch()


def test_a_process_that_cannot_begin_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_workers", lambda _: 2)

    with (
        pytest.raises(StorageError, match="was ended from outside"),
        crew.crew(tmp_path, 9, end_at_once) as workers,
    ):
        list(workers.map(place_and_piece, range(9)))


def end_at_once() -> None:
    """As the system ends a process when memory is short."""
    os._exit(9)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_afterwards(*, enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with without_collector():
            inside = gc.isenabled()

        assert (False, enabled) == (inside, gc.isenabled())
    finally:
        (gc.enable if before else gc.disable)()
