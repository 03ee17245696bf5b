"""Which errors in figures would no test see: `python -m tests.benchmarks.bench_mutation [--sample N] [MODULE…]`.

Mutates velosweep/statistics, and what writes results.parquet and summary.json, with the operators of cosmic-ray (`pip
install cosmic-ray`) and runs the tests of a module's layer against each mutant, which exists only in the memory of a
forked process. Prints each survivor as a diff, and the share killed.

Not counted, because no figure can depend on it: annotations, docstrings, arguments of `dataclass` and `lru_cache`,
`strict=` of zip, TYPE_CHECKING. Coverage simulations, Hypothesis properties and what runs processes of its own are left
out for their time; they could only kill more.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
WRITERS = ("results_file", "derived_files", "job_files", "parquet_files", "setting_columns")
LIMIT_S = 180
SLOW = {"test_coverage.py", "test_properties.py", "test_journal.py", "test_sweep_record.py"}
SLOW_TESTS = "not layout_changes_no_value and not several_processes and not pandas_polars"
FIRST = {
    "results_file": ("test_results_file_summaries.py", "test_results_file.py"),
    "job_files": ("test_derived_files.py",),
    "setting_columns": ("test_derived_files.py", "test_loading.py"),
    "intervals": ("test_worked_cases.py", "test_reported_changes.py"),
    "comparison_figures": ("test_summarise.py", "test_worked_cases.py"),
    "runs": ("test_job_comparison.py", "test_summarise.py"),
    "within_rounds": ("test_two_way.py", "test_worked_cases.py", "test_summarise.py"),
    "two_way": ("test_two_way.py", "test_best_of_several.py"),
    "used_rows": ("test_pairing.py", "test_job_comparison.py"),
    "sweep_changes": ("test_sweep_changes.py", "test_reported_changes.py"),
}
COMPARISONS = {"Eq": "NotEq", "NotEq": "Eq", "Lt": "LtE Gt", "LtE": "Lt GtE", "Gt": "GtE Lt", "GtE": "Gt LtE"}
BINARY = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "FloorDiv": "Mul", "Mod": "Mul", "Pow": "Mul"}
OPERATORS = (
    *(f"core/ReplaceComparisonOperator_{old}_{new}" for old, others in COMPARISONS.items() for new in others.split()),
    *("core/ReplaceComparisonOperator_Is_IsNot", "core/ReplaceComparisonOperator_IsNot_Is"),
    *(f"core/ReplaceBinaryOperator_{old}_{new}" for old, new in BINARY.items()),
    *("core/ReplaceBinaryOperator_BitAnd_BitOr", "core/ReplaceBinaryOperator_BitOr_BitAnd"),
    *("core/ReplaceUnaryOperator_Delete_Not", "core/ReplaceUnaryOperator_Delete_USub"),
    *("core/ReplaceUnaryOperator_Delete_Invert", "core/AddNot", "core/ReplaceAndWithOr", "core/ReplaceOrWithAnd"),
    *("core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/NumberReplacer", "core/ZeroIterationForLoop"),
    *("core/ReplaceBreakWithContinue", "core/ReplaceContinueWithBreak", "scale"),
)


@dataclass(frozen=True)
class Mutant:
    """A changed module. `layer`: its package; `name`: within this."""

    layer: str
    name: str
    source: str
    changed: str

    def diff(self) -> str:
        """The lines that changed."""
        lines = difflib.unified_diff(self.source.splitlines(), self.changed.splitlines(), self.name, n=0, lineterm="")
        return "\n".join(list(lines)[2:])


class Scale:
    """Makes a decimal number 2 % larger: thresholds and levels must be tested near their value."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Where the number stands."""
        if node.type == "number" and "." in node.value:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """The node with the larger number."""
        node.value = repr(1.02 * float(node.value))
        return node


def mutants(layer: str, name: str, seed: int) -> Iterator[Mutant]:
    """All of a module that differ in what is computed, shuffled."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = path_of(layer, name).read_text()
    nodes = list(ast_nodes(get_ast(source)))
    operators = [Scale() if operator == "scale" else get_operator(operator)() for operator in OPERATORS]
    places = [
        (operator, occurrence)
        for operator in operators
        for occurrence in range(sum(len(list(operator.mutation_positions(node))) for node in nodes))
    ]
    random.Random(seed).shuffle(places)
    seen = {_meaning(source)}
    for operator, occurrence in places:
        changed = mutate_code(source, operator, occurrence)
        try:
            meaning = _meaning(changed)
        except SyntaxError:  # the ** of {**x} is no operator
            continue
        if meaning not in seen:
            seen.add(meaning)
            yield Mutant(layer=layer, name=name, source=source, changed=changed)


def _meaning(source: str) -> str:
    """The module without what no figure depends on."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            node.decorator_list = [_bare(decorator) for decorator in node.decorator_list]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arguments):  # how they may be passed is mypy's concern
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.posonlyargs, node.kwonlyargs = [], []
            node.defaults = [*node.defaults, *(default for default in node.kw_defaults if default)]
            node.kw_defaults = []
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "strict"]
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.test = ast.Constant(None)
    return ast.dump(tree)


def _bare(decorator: ast.expr) -> ast.expr:
    return decorator.func if isinstance(decorator, ast.Call) else decorator


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Of the mutated module only."""
        if fullname != f"velosweep.{self.mutant.layer}.{self.mutant.name}":
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(path_of(self.mutant.layer, self.mutant.name)))

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        module.__file__ = str(path_of(self.mutant.layer, self.mutant.name))
        exec(compile(self.mutant.changed, f"{self.mutant.name}.py", "exec"), module.__dict__)


def killed(mutant: Mutant) -> bool:
    """Whether a test fails, in a process of its own; one that takes too long is killed too."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] != 0
    try:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # of processor time: a busy machine kills no mutant
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.meta_path.insert(0, Importer(mutant))
        for module in [module for module in sys.modules if module.startswith(f"velosweep.{mutant.layer}")]:
            del sys.modules[module]  # what imports the mutant must see it
        import pytest

        first, *others = tests_of(mutant.layer, mutant.name)
        options = ["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-k", SLOW_TESTS]
        os._exit(int(pytest.main([*options, str(first)]) or pytest.main([*options, *map(str, others)])))
    finally:  # whatever happened, the fork must not go on with its parent's code
        os._exit(1)


def path_of(layer: str, name: str) -> Path:
    """The file of a module."""
    return ROOT / "velosweep" / layer / f"{name}.py"


def tests_of(layer: str, name: str) -> list[Path]:
    """All test files of the layer, those that most likely see an error in the module first."""
    files = sorted(path for path in (ROOT / "tests" / layer).glob("test_*.py") if path.name not in SLOW)
    first = FIRST.get(name, (f"test_{name}.py",))
    return sorted(files, key=lambda path: first.index(path.name) if path.name in first else len(first))


def main() -> None:
    """Print survivors, and the share killed by module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    statistics = sorted(path.stem for path in (ROOT / "velosweep" / "statistics").glob("[a-z]*.py"))
    parser.add_argument("modules", nargs="*", default=[*statistics, *WRITERS])
    parser.add_argument("--sample", type=int, help="so many mutants of each module (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    _import_what_tests_need()
    total = seen = 0
    for name in arguments.modules:
        layer = "results" if name in WRITERS else "statistics"
        if layer == "results":
            importlib.import_module("velosweep.statistics.summarise")
        chosen = list(islice(mutants(layer, name, arguments.seed), arguments.sample))
        if chosen and killed(replace(chosen[0], changed=chosen[0].source)):
            raise SystemExit(f"the tests of {name} fail without any mutation")
        with ThreadPoolExecutor(arguments.workers) as pool:
            dead = 0
            for mutant, found in zip(chosen, pool.map(killed, chosen), strict=True):
                dead += found
                if not found:
                    print(mutant.diff(), flush=True)
        print(f"{name}: {dead} of {len(chosen)} killed", flush=True)
        total, seen = total + len(chosen), seen + dead
    print(f"{seen} of {total} killed: {seen / total:.1%}")


def _import_what_tests_need() -> None:
    """Once, before forking: what does not import the statistics."""
    libraries = ("numpy", "scipy.stats", "scipy.special", "pyarrow.compute", "hypothesis", "pytest")
    for name in libraries:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
