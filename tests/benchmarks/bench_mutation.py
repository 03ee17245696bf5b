"""Which errors in figures would no test see: `python -m tests.benchmarks.bench_mutation [--sample N] [MODULE…]`.

Mutates velosweep/statistics, and what writes results.parquet and summary.json, with the operators of cosmic-ray (`pip
install cosmic-ray`). A mutant exists only in the memory of a forked process, where those tests of its layer run that
execute the changed line, quickest and most telling first. Prints each survivor as a diff, and the share killed.

Not counted, because no figure can depend on it: annotations, docstrings, arguments of `dataclass` and `lru_cache`,
`strict=` of zip, TYPE_CHECKING; and what surviving_mutants.yaml lists with the reason why it may live (not run).
Coverage simulations, Hypothesis properties and what runs processes of its own are left out for their time; they could
only kill more.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import importlib.abc
import importlib.util
import inspect
import os
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib.machinery import ModuleSpec
from itertools import islice, zip_longest
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WRITERS = ("results_file", "derived_files", "job_files", "parquet_files", "setting_columns")
SLOW = {"test_coverage.py", "test_properties.py", "test_journal.py", "test_sweep_record.py"}
SLOW_TESTS = " and ".join(
    f"not {name}"
    for name in (
        *("layout_changes_no_value", "several_processes", "pandas_polars"),
        *("read_one_in_19_of_20_sweeps", "equal_jobs_seldom_look_changed"),
    )
)
COMPARISONS = {"Eq": "NotEq", "NotEq": "Eq", "Lt": "LtE Gt", "LtE": "Lt GtE", "Gt": "GtE Lt", "GtE": "Gt LtE"}
BINARY = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "FloorDiv": "Mul", "Mod": "Mul", "Pow": "Mul"}
FAULT = 99  # exit status of a process that could not try its mutant; pytest's are under 10
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

    @property
    def module(self) -> str:
        """Its name."""
        return f"velosweep.{self.layer}.{self.name}"

    def code(self) -> CodeType:
        """Of the changed module."""
        return compile(self.changed, str(path_of(self.layer, self.name)), "exec")

    def diff(self) -> str:
        """The lines that changed."""
        lines = difflib.unified_diff(self.source.splitlines(), self.changed.splitlines(), self.name, n=0, lineterm="")
        return "\n".join(list(lines)[2:])

    def line(self) -> int:
        """The first one that changed."""
        pairs = zip(self.source.splitlines(), self.changed.splitlines(), strict=False)
        return next(number for number, (old, new) in enumerate(pairs, 1) if old != new)

    def may_live(self) -> bool:
        """Whether surviving_mutants.yaml lists it."""
        was, became = (_without_spaces(text.splitlines()[self.line() - 1]) for text in (self.source, self.changed))
        listed = [reason["mutants"] for reason in survivors().get(self.name, ())]
        mutants = [(_without_spaces(old), new) for lines in listed for old, new in lines.items()]
        return any(was == old and (new == "any" or became in map(_without_spaces, new)) for old, new in mutants)

    def place(self) -> tuple[int, int]:
        """First and last line of the statement that changed; of a compound one, its head; all lines of the module
        where that belongs to no function, and of the function where that is its signature."""
        line = self.line()
        nodes = [node for node in ast.walk(ast.parse(self.source)) if isinstance(node, ast.stmt)]
        holds = [node for node in nodes if node.lineno <= line <= (node.end_lineno or 0)]
        functions = [node for node in holds if isinstance(node, ast.FunctionDef)]
        if not functions:
            return 1, len(self.source.splitlines())
        inner = max(holds, key=lambda node: (node.lineno, -(node.end_lineno or 0)))
        body: list[ast.stmt] = getattr(inner, "body", [])
        if body and not isinstance(inner, ast.FunctionDef):
            return inner.lineno, max(line, body[0].lineno - 1)
        return inner.lineno, inner.end_lineno or line

    @cached_property
    def function(self) -> str | None:
        """The function or Class.method whose body changed, if nothing else did."""
        line = self.line()
        for outer in ast.parse(self.source).body:
            for node in outer.body if isinstance(outer, ast.ClassDef) else [outer]:
                if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or 0):
                    return f"{outer.name}.{node.name}" if isinstance(outer, ast.ClassDef) else node.name
        return None


@cache
def survivors() -> dict[str, list[dict[str, Any]]]:
    """The mutants that may live, by module, with the reason."""
    found: dict[str, list[dict[str, Any]]] = yaml.safe_load(
        Path(__file__).with_name("surviving_mutants.yaml").read_text()
    )
    return found


def _without_spaces(line: str) -> str:
    return "".join(line.partition("  # ")[0].split())


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
        if fullname != self.mutant.module:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(path_of(self.mutant.layer, self.mutant.name)))

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        module.__file__ = str(path_of(self.mutant.layer, self.mutant.name))
        exec(self.mutant.code(), module.__dict__)


@dataclass(eq=False)
class Watch:
    """A plugin of pytest: how long each test takes, and which lines of a layer it executes, its fixtures included."""

    folder: str
    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    of_fixtures: dict[int, set[tuple[str, int]]] = field(default_factory=dict)
    executed: set[tuple[str, int]] = field(default_factory=set)

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        """Note a line of the layer; leave other code alone."""
        if event == "line":
            self.executed.add((frame.f_code.co_filename, frame.f_lineno))
        return self.trace if frame.f_code.co_filename.startswith(self.folder) else None

    @contextmanager
    def watching(self) -> Iterator[set[tuple[str, int]]]:
        """The lines that are executed meanwhile."""
        before, self.executed, outer = self.executed, set(), sys.gettrace()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        try:
            yield self.executed
        finally:
            sys.settrace(outer)
            self.executed = before

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """What a fixture executes counts for each test that uses it."""
        with self.watching() as lines:
            result = yield
        self.of_fixtures[id(fixturedef)] = lines
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Watch one test, which may find nothing in caches of ours."""
        clear_caches()
        begun = time.process_time()
        with self.watching() as lines:
            result = yield
        self.seconds[item.nodeid] = time.process_time() - begun
        known = getattr(item, "_fixtureinfo", None)
        fixtures = [one for several in known.name2fixturedefs.values() for one in several] if known else []
        self.lines[item.nodeid] = lines.union(*(self.of_fixtures.get(id(one), ()) for one in fixtures))
        return result

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that execute what changed."""
        path = str(path_of(mutant.layer, mutant.name))
        first, last = mutant.place()
        return sorted(set().union(*(self.by_line[path, line] for line in range(first, last + 1))))

    @cached_property
    def by_line(self) -> dict[tuple[str, int], set[str]]:
        """The tests that execute a line."""
        found = defaultdict[tuple[str, int], set[str]](set)
        for test, lines in self.lines.items():
            for line in lines:
                found[line].add(test)
        return found


@dataclass(eq=False)
class Chosen:
    """A plugin of pytest: only these tests, in this order; the process ends if one takes ten times its time."""

    tests: list[str]
    seconds: dict[str, float]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose."""
        found = {item.nodeid: item for item in items}
        items[:] = [found[test] for test in self.tests]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin to measure."""
        signal.setitimer(signal.ITIMER_PROF, 1 + 10 * self.seconds[item.nodeid])  # processor time: others may be busy


class Mutating:
    """A plugin of pytest: runs the collected tests of a layer once, watched, then does its work with them."""

    def __init__(self, layer: str, work: Callable[[Mutating], None]) -> None:
        self.watch, self.work = Watch(str(ROOT / "velosweep" / layer)), work
        self.kills = Counter[object]()  # by test, and by module, function and test
        self.lock = threading.Lock()
        self.session: Any = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All that pytest is to do once it has collected."""
        self.session, plugins = session, session.config.pluginmanager
        session.config.option.tbstyle = "no"  # nobody reads how a test fails
        plugins.register(self.watch)
        if failing := self.failing([item.nodeid for item in session.items]):
            raise RuntimeError(f"{failing} fails without any mutation")
        plugins.unregister(self.watch)
        clear_caches()
        gc.freeze()  # so that forks need not copy it
        self.work(self)
        return True

    def promise(self, mutant: Mutant, test: str) -> float:
        """How likely a test kills a mutant, by those that it killed, of this function above all."""
        return 0.05 + self.kills[test] + 20 * self.kills[mutant.module, mutant.function, test]

    def failing(self, tests: list[str]) -> str:
        """The first of the collected tests that fails, if any."""
        collected = {item.nodeid: item for item in self.session.items}
        items = [collected[test] for test in tests]
        for item, after in zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.session.testsfailed:
                return item.nodeid
        return ""

    def fate_of(self, mutant: Mutant) -> str:
        """Whether a test fails, in a process of its own, or takes too long."""
        if mutant.may_live():
            return "listed"
        seconds = self.watch.seconds
        with self.lock:  # ast.parse fails in two threads at a time
            function = mutant.module, mutant.function
            tests = sorted(self.watch.tests_of(mutant), key=lambda test: seconds[test] / self.promise(mutant, test))
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            with os.fdopen(reading) as pipe:
                self.kills.update([killer := pipe.read(), (*function, killer)])
            status = os.waitpid(pid, 0)[1]
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FAULT:
                raise RuntimeError(f"could not be tried: {mutant.diff()}")
            return "killed" if status else "unseen"
        try:
            silence()
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            chosen = Chosen(tests, seconds)
            if not patched(mutant):
                os._exit(anew(mutant, chosen))
            self.session.config.pluginmanager.register(chosen)
            failing = self.failing(tests)
            os.write(writing, failing.encode())
            os._exit(bool(failing))
        finally:  # whatever happened, the fork must not go on with its parent's code
            os._exit(FAULT)


def anew(mutant: Mutant, chosen: Chosen) -> int:
    """Pytest's exit status where everything is imported again, to see the mutant."""
    sys.meta_path.insert(0, Importer(mutant))
    for module in _our_modules():
        del sys.modules[module]
    files = dict.fromkeys(test.partition("::")[0] for test in chosen.tests)
    return run_tests(list(files), chosen) if files else 0


def clear_caches() -> None:
    """No function of ours remembers what it returned."""
    for value in [value for module in _our_modules() for value in vars(sys.modules[module]).values()]:
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def _our_modules() -> list[str]:
    return [module for module in sys.modules if module.partition(".")[0] in ("velosweep", "tests")]


def patched(mutant: Mutant) -> bool:
    """Whether the changed code could be put into the imported module: where it is the body of a function."""
    function = mutant.function
    if function is None:
        return False
    found: Any = sys.modules[mutant.module]
    for name in function.split("."):
        found = vars(found)[name]
    for wrapped in ("fget", "func", "__func__"):  # of a property, a cached property, a class method
        found = getattr(found, wrapped, found)
    found = inspect.unwrap(found)
    code = mutant.code()
    for name in function.split("."):
        code = next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name)
    if not isinstance(found, FunctionType):
        raise TypeError(f"{function} is no function")
    found.__code__ = code
    return True


def silence() -> None:
    """Nothing that this process says is printed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def run_tests(files: list[str], *plugins: object) -> int:
    """Pytest's exit status."""
    unneeded = ("terminal", "cacheprovider", "hydra_pytest", "logging", "unraisableexception", "threadexception")
    options = ["-x", "-s", "-o", "addopts=", "--assert=plain", *(f"-pno:{name}" for name in unneeded)]
    return int(pytest.main([*options, "-m", "not long", "-k", SLOW_TESTS, *files], plugins=list(plugins)))


def files_of(layer: str) -> list[str]:
    """The test files of a layer."""
    return sorted(str(path) for path in (ROOT / "tests" / layer).glob("test_*.py") if path.name not in SLOW)


def path_of(layer: str, name: str) -> Path:
    """The file of a module."""
    return ROOT / "velosweep" / layer / f"{name}.py"


def main() -> None:
    """Print survivors, and the share killed by module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    statistics = sorted(path.stem for path in (ROOT / "velosweep" / "statistics").glob("[a-z]*.py"))
    parser.add_argument("modules", nargs="*", default=[*statistics, *WRITERS])
    parser.add_argument("--sample", type=int, help="so many mutants of each module (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    counts = Counter[str]()

    def mutate(names: Sequence[str], layer: str, tests: Mutating) -> None:
        for name in names:
            chosen = list(islice(mutants(layer, name, arguments.seed), arguments.sample))
            of_module = Counter[str]()
            with ThreadPoolExecutor(arguments.workers) as pool:
                for mutant, fate in zip(chosen, pool.map(tests.fate_of, chosen), strict=True):
                    of_module[fate] += 1
                    if fate == "unseen":
                        print(mutant.diff(), flush=True)
            fates = (f"{count} {fate}" for fate, count in of_module.items())
            print(f"{name}: {len(chosen)} mutants,", *fates, flush=True)
            counts.update(of_module)

    for layer in ("statistics", "results"):
        names = [name for name in arguments.modules if (name in WRITERS) == (layer == "results")]
        if names:
            mutating = Mutating(layer, partial(mutate, names, layer))
            if run_tests(files_of(layer), mutating):
                raise SystemExit(f"the mutants of {layer} could not all be tried")
    share = counts["killed"] / (counts["killed"] + counts["unseen"])
    print(f"{counts['killed']} killed, {counts['unseen']} unseen, {counts['listed']} listed as harmless: {share:.1%}")


if __name__ == "__main__":
    main()
