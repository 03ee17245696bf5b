"""What is recorded of the machine and the program that measured."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from velosweep.errors import StorageError
from velosweep.machine.environment import collect_environment, program_sha256


def test_a_program_is_known_by_its_content_and_a_folder_of_several_is_not(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"one")

    assert program_sha256(program) == sha256(b"one").hexdigest()
    assert program_sha256(tmp_path) is None


def test_a_program_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"Can't read .*absent"):
        program_sha256(tmp_path / "absent")


@pytest.mark.parametrize(
    ("programs", "recorded"),
    [
        ([], (None, None)),
        ([("/a", "1")], ("/a", "1")),
        ([("/f", None)], ("/f", None)),
        ([("/a", "1"), ("/b", "2")], (None, None)),
    ],
)
def test_of_several_programs_none_is_recorded(
    programs: list[tuple[str, str | None]], recorded: tuple[str | None, str | None]
) -> None:
    found = collect_environment(engine="server", llama_cpp_build="b1", programs=programs)

    assert (found.program, found.program_sha256) == recorded
