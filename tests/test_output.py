"""Output that can't be written as it is: other encodings, closed descriptors, full disks, terminals of no width."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.reporting import sweeps
from tests.strategies import samples_to_table
from velosweep.cli import main
from velosweep.reporting.console import repair_output
from velosweep.results.parquet_files import write_samples
from velosweep.results.sweep_record import write_record

FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep's folder, as far as the report needs it."""
    made, folder = sweeps.default_sweep(), tmp_path_factory.mktemp("sweep")
    write_record(folder / "sweep.json", made.record)
    write_samples(folder / "samples.parquet", samples_to_table(made.runs))
    return folder


def velosweep(*words: str, stdout: object = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "velosweep", *words],
        env={**os.environ, **environment},
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        text=True,
        encoding="latin-1",
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "latin-1", "cp1252:strict"])
@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("report", "{sweep}", "--format", "md")])
def test_every_text_can_be_read_in_every_encoding(
    words: tuple[str, ...], encoding: str, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, errors = encoding.partition(":")
    screen = io.TextIOWrapper(io.BytesIO(), encoding=name, errors=errors or None)
    monkeypatch.setattr(sys, "stdout", screen)
    repair_output()

    with suppress(SystemExit):  # argparse's way to end its help
        assert main([word.format(sweep=sweep) for word in words]) == 0

    screen.flush()
    said = screen.buffer.getvalue()  # type: ignore[attr-defined]
    assert len(said) > 100
    assert said.isascii() or name != "ascii"


def test_python_s_own_choice_of_an_encoding_is_one_of_them(sweep: Path) -> None:
    done = velosweep("report", str(sweep), "--format", "md", PYTHONIOENCODING="ascii")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words",
    [("--help",), ("report", "{sweep}"), ("report", "{sweep}", "--format", "csv"), ("-m", "n_draft=4", "dry_run=true")],
)
def test_a_full_disk_is_told_in_a_sentence(words: tuple[str, ...], sweep: Path) -> None:
    with FULL.open("w") as full:
        done = velosweep(*(word.format(sweep=sweep) for word in words), stdout=full)

    assert (done.returncode, done.stderr) == (1, "velosweep: The output can't be written: No space left on device\n")


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_no_file_takes_the_place_of_a_closed_descriptor(closed: tuple[int, ...], tmp_path: Path) -> None:
    code = f"""
import os
for descriptor in {closed}:
    os.close(descriptor)
from velosweep.reporting.console import repair_output
import sys
sys.stdout = sys.stderr = None
repair_output()
with open({str(tmp_path / "file")!r}, "w") as file:
    print("a word for the screen", flush=True)
    os.write(1, b"another"), os.write(2, b"another")
    file.write(str(file.fileno()))
"""
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize("columns", ["0", "1", "-5", "x"])
def test_a_terminal_that_says_no_width_has_eighty_columns(columns: str, sweep: Path) -> None:
    reading, writing = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "velosweep", "report", str(sweep)],
        env={**os.environ, "COLUMNS": columns, "TERM": "xterm", "NO_COLOR": "1"},
        stdout=writing,
        stderr=writing,
    )
    os.close(writing)
    said = b""
    while True:
        try:
            came = os.read(reading, 1 << 16)
        except OSError:  # its end is closed
            break
        if not came:
            break
        said += came
    os.close(reading)

    assert process.wait(60) == 0
    text = said.decode()
    assert "Run the synthetic draft" in text
    assert "\x1b[" not in text
    assert 40 < max(len(line) for line in text.splitlines() if "/" not in line) <= 80  # commands and paths stay whole


@pytest.mark.parametrize(("stderr", "known"), [(subprocess.STDOUT, "True"), (subprocess.DEVNULL, "False")])
def test_what_was_printed_is_known_to_be_read_where_both_outputs_are_one(stderr: int, known: str) -> None:
    code = "from velosweep.reporting.console import shown_on_stderr as shown; print(shown())"

    done = subprocess.run([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=stderr, check=True)

    assert done.stdout.decode().strip() == known
