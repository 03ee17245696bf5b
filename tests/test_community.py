"""What people who carry on expect is there, and true: issue forms, workflows, hooks, and what CONTRIBUTING names."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
CONTRIBUTING = (GITHUB / "CONTRIBUTING.md").read_text("utf-8")
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_and_asks_for_doctor_and_the_sweep(path: Path) -> None:
    form = parsed(path)
    fields = form["body"]
    labels = [field["attributes"]["label"] for field in fields]
    text = path.read_text("utf-8")

    assert form["name"]
    assert form["description"]
    assert len(set(labels)) == len(labels)
    assert len({field["id"] for field in fields}) == len(fields)
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert "velosweep doctor" in labels
    assert "sweep.json" in text


def test_there_are_issue_forms_and_their_configuration_parses() -> None:
    assert FORMS
    assert parsed(GITHUB / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": True}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflows_steps_run_what_there_is(path: Path) -> None:
    workflow = parsed(path)
    portable = workflow["env"]["PORTABLE_TESTS"].split()
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]

    assert ".ci/run" in commands
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
    assert [folder for folder in portable if not list((ROOT / folder).glob("test_*.py"))] == []
    assert all(command.startswith((".ci/run", "python -m pip install ", "python -m pytest")) for command in commands)


def test_portable_tests_import_nothing_of_unix_alone() -> None:
    (workflow,) = WORKFLOWS
    unix = re.compile(r"^(?:import|from) (?:fcntl|resource|pwd|grp|termios)\b", re.M)
    files = [
        path for folder in parsed(workflow)["env"]["PORTABLE_TESTS"].split() for path in (ROOT / folder).glob("*.py")
    ]

    assert [path.name for path in files if unix.search(path.read_text("utf-8"))] == []


def test_hooks_run_the_checks_of_the_house() -> None:
    hooks = [hook for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    programs = {hook["entry"].split()[0] for hook in hooks}

    assert programs == {"ruff", "mypy", "lint-imports"}
    assert all((Path(sys.executable).parent / program).is_file() for program in programs)


def tools() -> Any:
    """The settings of tools in pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]


def named(pattern: str) -> list[str]:
    found = re.findall(pattern, CONTRIBUTING)
    assert found
    return found


def test_the_modules_that_contributing_runs_exist() -> None:
    modules = [name for name in named(r"-m ([a-z_.]+)") if name not in {"venv", "pytest", "long", "matrix"}]
    short = [f"tests.benchmarks.bench{name}" for name in re.findall(r"`(_[a-z]+)`", CONTRIBUTING)]

    assert [name for name in modules + short if find_spec(name) is None] == []


def test_the_paths_that_contributing_names_exist() -> None:
    paths = named(r"`((?:velosweep|tests|conf|\.ci)/[\w./-]*)`") + named(r"pytest [-\w ]*(tests/\w+)")
    links = [name for name in named(r"\]\(([\w./-]+)\)") if name != "../velosweep/README.md"]  # yet to be written

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [link for link in links if not (GITHUB / link).exists()] == []


def test_contributing_lists_the_layers_in_their_order() -> None:
    (contract,) = (c for c in tools()["importlinter"]["contracts"] if c["type"] == "layers")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", CONTRIBUTING, re.M)

    assert re.findall(r"\w+", " ".join(rows)) == [layer.removeprefix("velosweep.") for layer in contract["layers"]]


def test_the_markers_that_contributing_names_exist() -> None:
    markers = {marker.split(":")[0] for marker in tools()["pytest"]["ini_options"]["markers"]}

    assert set(named(r"pytest -m (\w+)")) <= markers


def test_the_changes_begin_with_what_is_not_released_and_name_this_version() -> None:
    from velosweep import __version__

    titles = re.findall(r"^## (.*)", (GITHUB / "CHANGELOG.md").read_text("utf-8"), re.M)

    assert titles[0] == "Unreleased"
    assert titles[1].startswith(__version__)
