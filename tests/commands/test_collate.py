"""`velosweep collate` rebuilds every derived file from the samples alone, to the same bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.storage.made import journal_of, record, rounds, sample
from velosweep.cli import main
from velosweep.errors import ExitStatus
from velosweep.storage.journal import Journal
from velosweep.storage.provenance import write_record


def sweep(root: Path) -> Path:
    write_record(journal_of(root, rounds(iterations=5)).record, record())
    assert main(["collate", str(root)]) == ExitStatus.OK
    return root


def derived(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in {"journal.jsonl", "sweep.json"}]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_all_files_of_the_contract_are_there(tmp_path: Path) -> None:
    files = set(derived(sweep(tmp_path)))

    jobs = {f"{job}/{name}" for job in range(3) for name in ("summary.json", "samples.parquet")}
    assert {"samples.parquet", "results.parquet", "summaries.json", "report.html"} | jobs == files


def test_removed_and_damaged_files_come_back_to_the_byte(tmp_path: Path) -> None:
    root = sweep(tmp_path)
    before = derived(root)
    for number, name in enumerate(sorted(before)):
        if number % 2:
            (root / name).unlink()
        else:
            (root / name).write_bytes(before[name][: len(before[name]) // 2])

    assert main(["collate", str(root)]) == ExitStatus.OK

    assert before == derived(root)


def test_another_folder_and_another_order_of_arrival_change_no_byte(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one")
    taken = rounds(iterations=5)
    write_record(journal_of(tmp_path / "other", taken[::2] + taken[1::2]).record, record())
    assert main(["collate", str(tmp_path / "other")]) == ExitStatus.OK

    assert derived(one) == derived(tmp_path / "other")


def test_without_its_journal_a_sweep_is_rebuilt_from_samples_parquet(tmp_path: Path) -> None:
    root = sweep(tmp_path)
    before = derived(root)
    (root / "journal.jsonl").unlink()
    for job in range(3):
        shutil.rmtree(root / str(job))

    assert main(["collate", str(root)]) == ExitStatus.OK

    assert before == derived(root)


def test_what_damage_cost_is_said_and_the_rest_collated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sweep(tmp_path)
    (root / "samples.parquet").unlink()
    journal = root / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7])

    status = main(["collate", str(root)])

    assert status == ExitStatus.SOME_FAILED
    said = capsys.readouterr()
    assert "Lost: journal.jsonl, line 21: torn" in said.err
    assert "19 samples of 3 jobs" in said.out


def test_a_sweep_that_is_being_written_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sweep(tmp_path)

    with Journal(root / "journal.jsonl") as journal:
        journal.append(sample(99))
        status = main(["collate", str(root)])

    assert status == ExitStatus.REFUSED
    assert f"is being written by process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_folder_without_a_sweep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], make) -> None:
    make(tmp_path / "none")

    status = main(["collate", str(tmp_path / "none")])

    assert status == ExitStatus.REFUSED
    assert "name the folder of a sweep" in capsys.readouterr().err
