"""The house keeps its own rules: lint, types, who may know whom, and nothing generated under version control."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]], ids=" ".join
)
def test_the_house_rules_hold(command: list[str]) -> None:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_top_level_is_what_was_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {name.split("/")[0] for name in listed.splitlines()}

    visible = {name for name in top if not name.startswith(".")}

    assert visible == {"pyproject.toml", "README.md", "LICENSE", "conf", "velosweep", "outputs", "tests"}


def test_no_generated_file_is_under_version_control() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    generated = (".gguf", ".parquet", ".pyc", ".so", ".whl", ".log")

    assert [name for name in listed.splitlines() if name.endswith(generated)] == []


PACKAGE = ROOT / "velosweep"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_plugins" not in path.parts)  # which Hydra names


def used_twice(places: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that stand in several places, with these."""
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name, place in places:
        by_name[name].append(place)
    return {name: found for name, found in by_name.items() if len(found) > 1}


def test_no_module_has_the_name_of_another() -> None:
    modules = [path for path in MODULES if not path.stem.startswith("__")]
    packages = [path.parent for path in MODULES if path.stem == "__init__"]

    assert used_twice((path.stem, str(path.relative_to(ROOT))) for path in modules + packages) == {}


def test_no_public_class_has_the_name_of_another() -> None:
    def public_classes() -> Iterator[tuple[str, str]]:
        for path in MODULES:
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield node.name, str(path.relative_to(ROOT))

    assert used_twice(public_classes()) == {}


def test_modules_are_under_300_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}

    assert {name: length for name, length in lengths.items() if length >= 300} == {}


def test_functions_fit_a_screen_of_50_lines() -> None:
    def functions() -> Iterator[tuple[str, int]]:
        for path in MODULES:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield f"{path.relative_to(ROOT)} {node.name}", (node.end_lineno or 0) - node.lineno + 1

    assert {name: length for name, length in functions() if length > 50} == {}
