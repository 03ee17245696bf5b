"""Each sample is on disk when it exists, and damage costs only what it hit."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.results.made import START, journal_of, rounds, sample, speculative
from tests.strategies import samples_to_table
from velosweep.errors import BusyError, SchemaError, StorageError
from velosweep.results import journal as journal_module
from velosweep.results.journal import Journal, JournalEvent, read_journal
from velosweep.results.journal_table import journal_to_table
from velosweep.results.paths import SweepPaths


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    taken = rounds()
    paths = journal_of(tmp_path, taken)

    contents = read_journal(paths.journal)

    assert tuple(taken) == contents.samples
    assert contents.damaged == ()


def test_events_keep_their_kind_and_data(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.note("launch", arm_id="v", load_s=1.5, memory_bytes=None, log="logs/v-0.log")

    (event,) = read_journal(tmp_path / "journal.jsonl").events

    assert (
        JournalEvent(kind="launch", data={"arm_id": "v", "load_s": 1.5, "memory_bytes": None, "log": "logs/v-0.log"})
        == event
    )


def test_a_new_journal_in_which_nothing_was_written_is_gone_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).close()
    assert list(tmp_path.iterdir()) == []

    with Journal(path) as journal:
        journal.note("plan", blocks=[])
    Journal(path).close()
    assert [event.kind for event in read_journal(path).events] == ["plan"]


def test_every_line_is_plain_json(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, rounds())

    rows = [json.loads(line) for line in paths.journal.read_text("utf-8").splitlines()]

    assert {"journal", "sample"} == {row["kind"] for row in rows}


def test_figures_that_are_not_finite_are_undefined(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [sample(tokens_per_second=math.nan, total_time_ms=math.inf)])

    (one,) = read_journal(paths.journal).samples

    assert (one.tokens_per_second, one.total_time_ms) == (None, None)


@given(
    prompt=st.text(),
    error=st.none() | st.text(),
    speed=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    positions=st.none() | st.lists(st.integers(0, 2**31 - 1)).map(tuple),
    seconds=st.floats(0, 2**32).map(lambda seconds: timedelta(seconds=seconds)),
)
def test_any_sample_is_read_back_as_it_was_as_value_and_in_a_table(prompt, error, speed, positions, seconds) -> None:
    one = sample(
        prompt=prompt, error=error, tokens_per_second=speed, accepted_per_position=positions, started_at=START + seconds
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = journal_of(Path(folder), [one])

        assert read_journal(paths.journal).samples == (one,)
        assert journal_to_table(paths.journal)[0].equals(samples_to_table([one]))


def test_undecodable_bytes_of_a_log_do_not_stop_a_sweep(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [sample(error="bad byte \udc80, and a smile \U0001f642")])

    (one,) = read_journal(paths.journal).samples

    assert one.error == "bad byte �, and a smile \U0001f642"


def test_a_last_line_torn_at_any_byte_loses_only_itself(tmp_path: Path) -> None:
    taken = [sample(0), speculative(1, 0)]
    paths = journal_of(tmp_path, taken)
    whole = paths.journal.read_bytes()
    begin = whole[:-1].rindex(b"\n") + 1

    for size in range(begin + 1, len(whole)):
        paths.journal.write_bytes(whole[:size])
        contents = read_journal(paths.journal)

        assert (taken[0],) == contents.samples
        assert [number for number, _ in contents.damaged] == [3]


def test_appending_after_a_torn_line_keeps_both_sides_whole(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [sample(0), sample(1)])
    paths.journal.write_bytes(paths.journal.read_bytes()[:-40])

    journal_of(tmp_path, [sample(2)])
    contents = read_journal(paths.journal)

    assert (sample(0), sample(2)) == contents.samples
    assert [number for number, _ in contents.damaged] == [3]


@pytest.fixture(scope="module")
def three_samples(tmp_path_factory: pytest.TempPathFactory) -> SweepPaths:
    return journal_of(tmp_path_factory.mktemp("flip"), [sample(0), sample(1), sample(2)])


@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_and_costs_at_most_two_lines(three_samples: SweepPaths, place, bit) -> None:
    content = bytearray(three_samples.journal.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    flipped = three_samples.root / "flipped.jsonl"
    flipped.write_bytes(content)

    contents = read_journal(flipped)

    assert len(contents.samples) >= 1, "only the line hit is lost, and the next where its line end was hit"
    assert set(contents.samples) <= {sample(0), sample(1), sample(2)}
    assert contents.damaged


def test_a_newer_journal_is_refused_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(journal_module._line("journal", {"schema_version": 99}))

    with pytest.raises(SchemaError, match=r"schema 99.*upgrade velosweep"):
        read_journal(path)


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        threads = [
            threading.Thread(target=lambda lane=lane: [journal.append(sample(i, lane=lane)) for i in range(25)])
            for lane in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    contents = read_journal(tmp_path / "journal.jsonl")

    assert (len(contents.samples), contents.damaged) == (100, ())


def test_a_full_disk_is_reported_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(sample(0))
        real_write = os.write

        calls: list[int] = []

        def half_then_full(handle: int, content: bytes) -> int:
            calls.append(handle)
            if len(calls) == 1:
                return real_write(handle, bytes(content)[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(StorageError, match=r"No space left.*free some space"):
            journal.append(sample(1))
        monkeypatch.undo()
        journal.append(sample(2))

    contents = read_journal(path)

    assert (sample(0), sample(2)) == contents.samples
    assert contents.damaged == ()


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits there")
def test_a_file_size_limit_is_reported_by_a_real_process(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\nfrom tests.results.made import sample\n"
        "from velosweep.results.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in range(100):\n    journal.append(sample(number))\n"
    )
    path = tmp_path / "journal.jsonl"

    ended = subprocess.run(
        [sys.executable, "-c", program, str(path), str(Path(__file__).parents[2])], capture_output=True, text=True
    )

    assert "StorageError: Can't write" in ended.stderr
    assert "ulimit -f" in ended.stderr
    assert read_journal(path).damaged == ()
    assert len(read_journal(path).samples) >= 2


def test_a_second_writer_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "journal.jsonl"),
        pytest.raises(BusyError, match=rf"process {os.getpid()} on .*hydra\.sweep\.dir"),
    ):
        Journal(tmp_path / "journal.jsonl")


def test_the_lock_is_gone_when_its_holder_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\nfrom velosweep.results.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1])); print('ready', flush=True); time.sleep(60)\n"
    )
    path = tmp_path / "journal.jsonl"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError, match=f"process {holder.pid} "):
            Journal(path)
        holder.kill()
        holder.wait()

    Journal(path).close()


def test_nothing_but_the_journal_is_left_behind(tmp_path: Path) -> None:
    journal_of(tmp_path, [sample()])

    assert [entry.name for entry in tmp_path.iterdir()] == ["journal.jsonl"]


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.close()
    journal.close()

    with pytest.raises(StorageError, match="closed"):
        journal.append(sample())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match=r"Can't create the folder .*a file stands"):
        Journal(tmp_path / "file" / "journal.jsonl")
