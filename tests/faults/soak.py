"""Sweeps that are disturbed at random, for as long as you like: `python -m tests.faults.soak --minutes 20 --seed 1`.

Each cycle starts a small sweep, on the embedded llama.cpp, on a real llama-server (`--llama-server`) or on a stand-in,
and troubles it: servers killed or stopped, the driver signalled, the disk filled, models touched, changed and removed.
It is resumed, disturbed again, and at last resumed in peace. What must hold is checked from the files alone. A cycle
that broke a rule keeps its folder; the table of all goes to `--out`. As root, or under `unshare -Urm`, a small tmpfs is
the disk that fills; elsewhere a limit on a file's size is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from statistics import median

import psutil

from tests.faults.conftest import TINY
from tests.faults.harness import Bench, Drive, key_of
from velosweep.models.synthetic.pair import write_files
from velosweep.values import Sample, Status

WAIT_S = 120
DISK_MIB = 6  # two reports and the rest
QUICK = ("n_predict=200", "engine.context=512", "engine.threads=1")
ROUNDS = ("iterations=12", *QUICK)
SHAPES: Mapping[str, tuple[str, ...]] = {
    "grid": ("n_draft=2,4", *ROUNDS),
    "launches": ("n_draft=4", "protocol.launches=2", *ROUNDS),
    "prompts": ("n_draft=4", "prompts=mixed", "prompts.limit=3", *QUICK, "iterations=3"),
    "streams": ("n_draft=2,4", "concurrency=2", *QUICK, "iterations=5"),
    "search": ("n_draft=2,4,8", "hydra/sweeper=tune", "tuner.confirm_pairs=3", "tuner.max_rounds=6", *ROUNDS),
    "draftless": ("n_draft=12", "speculation=ngram-simple", *ROUNDS),
}
Figures = tuple[int | None, int | None, int | None, str | None]


@dataclass
class Tally:
    """What the table holds."""

    cycles: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)  # runs lost in a drive that was ended, and how often
    broken: list[str] = field(default_factory=list)
    peaks_mb: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Cycle:
    """One sweep from its first start to its end in peace."""

    def __init__(self, bench: Bench, engine: str, shape: str, chance: random.Random, program: str | None) -> None:
        self.bench, self.engine, self.shape, self.chance, self.program = bench, engine, shape, chance, program
        self.temporary = bench.folder / "tmp"
        self.temporary.mkdir()
        self.originals = {path: path.read_bytes() for path in (bench.main_model, bench.draft_model)}
        self.sent: list[int] = []
        self.begun_with = 0  # samples before the drive
        self.left_before: set[str] = set()  # by a drive that was killed
        self.troubles: list[str] = []
        self.peak_mb = 0.0
        self.undo: list[Callable[[], object]] = []

    # ------------------------------------------------------------ a drive

    def start(self, *, limit_bytes: int | None = None) -> Drive:
        """The sweep, or what is left of it."""
        self.sent, self.begun_with = [], len(self.bench.samples())
        self.left_before = set(self.bench.leftovers(patience_s=0))
        engine = {"embedded": "engine=embedded", "native": f"llama_cpp.path={self.program}"}
        words = [word for word in self.bench.overrides(*SHAPES[self.shape]) if not word.startswith("llama_cpp.path=")]
        words.append(engine.get(self.engine, f"llama_cpp.path={self.bench.program}"))
        if (self.bench.root / "sweep.json").exists() and self.chance.random() < 0.8:
            words = ["resume", str(self.bench.root)]
        limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes,) * 2)) if limit_bytes else None
        environment = {**self.bench.environment, "TMPDIR": str(self.temporary)}
        return self.bench.start(*words, env=environment, preexec_fn=limit)

    def watch(self, drive: Drive, seconds: float) -> bool:
        """Wait, noting the driver's memory; whether it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if drive.process.poll() is not None:
                return True
            with suppress(OSError, StopIteration, ValueError):
                lines = Path(f"/proc/{drive.process.pid}/status").read_text().splitlines()
                peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
                self.peak_mb = max(self.peak_mb, peak / 1024)
            time.sleep(0.02)
        return drive.process.poll() is not None

    def disturbed(self) -> Iterator[str]:
        """Start, trouble up to three times and wait; what was wrong then, in words."""
        limit = 20_000 if not self.bench.root.is_mount() and self.chance.random() < 0.1 else None
        if limit:
            self.troubles.append("file limit")
        drive = self.start(limit_bytes=limit)
        for _ in range(self.chance.randint(1, 3)):
            if self.watch(drive, self.chance.uniform(0.3, 4)):
                break
            name = self.chance.choice(list(TROUBLES))
            if name == "disk full" and not self.bench.root.is_mount():
                continue
            before = {sample.started_at for sample in self.bench.samples()}
            TROUBLES[name](self, drive)
            self.troubles.append(name)
            if before - {sample.started_at for sample in self.bench.samples()}:
                yield f"{name}: samples that were on disk are gone"
        if not self.watch(drive, WAIT_S):
            yield f"still running {WAIT_S} s after {self.troubles[-1:]}"
            drive.send(signal.SIGKILL)
            drive.wait()
        yield from self.ended(drive)
        while self.undo:
            self.undo.pop()()

    def ended(self, drive: Drive) -> Iterator[str]:
        """What an ended driver must not have done."""
        status, said = drive.process.returncode, drive.said
        early = status in (-signal.SIGTERM, -signal.SIGHUP) and len(self.bench.samples()) == self.begun_with
        killed = status == -signal.SIGKILL and signal.SIGKILL in self.sent
        late = status == -signal.SIGINT and bool(self.sent)  # Python was ending; a shell calls that 130, too
        if status not in (0, 1, 2, 3, 130) and not early and not killed and not late:
            yield f"exit status {status}"
        if "Traceback" in said:
            yield "a traceback"
        if status == 130 and not set(self.sent) & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
            yield "interrupted by nobody"
        left = set(self.bench.leftovers()) - self.left_before
        yield from (what for what in sorted(left) if status != -signal.SIGKILL or not what.startswith("temporary"))

    def lost(self) -> int:
        """Runs that a stand-in finished and the journal lacks."""
        done = sum(event["measured"] for event in self.bench.events("run"))
        return max(0, done - sum(s.status not in (Status.FAILED, Status.TIMEOUT) for s in self.bench.samples()))

    # ------------------------------------------------------------ the whole

    def run(self, expected: Mapping[tuple[object, ...], Figures], tally: Tally) -> Iterator[str]:
        """Disturb and resume; what broke a rule, in words."""
        for _ in range(self.chance.randint(1, 3)):
            before = self.lost()
            yield from self.disturbed()
            tally.lost[self.lost() - before] += self.engine == "stand-in"
            tally.statuses[self.bench.drives[-1].process.returncode] += 1
            if self.lost() - before > 1:
                yield f"{self.lost() - before} runs lost at once"
        for _ in range(2):  # what failed may need a second time, with --force where it says so
            drive = self.start()
            if not self.watch(drive, WAIT_S):
                yield "the last resume does not end"
                return
            yield from self.ended(drive)
            if drive.process.returncode == 0:
                break
        tally.statuses[drive.process.returncode] += 1
        if drive.process.returncode != 0:
            yield f"the last resume ended with {drive.process.returncode}: {drive.err.read_text()[:300]}"
        yield from self.wrong(expected)
        yield from (f"left in TMPDIR: {path.name}" for path in self.temporary.iterdir())
        yield from (f"left: {path}" for path in self.bench.root.rglob("*.part"))

    def wrong(self, expected: Mapping[tuple[object, ...], Figures]) -> Iterator[str]:
        """Figures, counts and states that an undisturbed sweep would not have."""
        samples = self.bench.samples()
        counted = [sample for sample in samples if sample.is_counted]
        for sample in counted:
            if figures_of(sample) != expected.get(kind_of(sample)):
                yield f"wrong figures {kind_of(sample)}: {figures_of(sample)}, not {expected.get(kind_of(sample))}"
        twice = Counter((key_of(sample), sample.attempt, sample.order) for sample in counted)
        yield from (f"measured twice: {key}" for key, count in twice.items() if count > 1)
        first = Counter(key_of(sample) for sample in counted if sample.attempt == 0)
        yield from (f"measured twice: {key}" for key, count in first.items() if count > 1)
        if set(self.bench.states()) != {"done"}:
            yield f"states {self.bench.states()}"
        if self.bench.table().num_rows != len(samples):
            yield f"{self.bench.table().num_rows} rows of {len(samples)} samples"


# ---------------------------------------------------------------- troubles


def signalled(*numbers: int) -> Callable[[Cycle, Drive], None]:
    """Signals to the driver, a moment apart."""

    def send(cycle: Cycle, drive: Drive) -> None:
        for number in numbers:
            cycle.sent.append(number)
            with suppress(ProcessLookupError):
                drive.send(number)
            time.sleep(cycle.chance.uniform(0, 0.3))

    return send


def server_signalled(number: int) -> Callable[[Cycle, Drive], None]:
    """A signal to one of the servers; one that was stopped goes on after a while."""

    def send(cycle: Cycle, drive: Drive) -> None:
        with suppress(psutil.Error):
            servers = psutil.Process(drive.process.pid).children(recursive=True)
            if servers:
                victim = cycle.chance.choice(servers)
                victim.send_signal(number)
                if number == signal.SIGSTOP:
                    time.sleep(cycle.chance.uniform(0.1, 2))
                    victim.send_signal(signal.SIGCONT)

    return send


def stopped(cycle: Cycle, drive: Drive) -> None:
    """The driver sleeps for a while, as in a suspended shell."""
    drive.send(signal.SIGSTOP)
    time.sleep(cycle.chance.uniform(0.1, 2))
    drive.send(signal.SIGCONT)


def disk_full(cycle: Cycle, drive: Drive) -> None:
    """No room on the disk of the results until the driver has ended."""
    filler = cycle.bench.root / "filler"
    room = cycle.chance.choice((0, 0, 4096, 65536))
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(filler, max(0, filler.stat().st_size - room))
    cycle.undo.append(lambda: filler.unlink(missing_ok=True))


def model(change: Callable[[Path], object]) -> Callable[[Cycle, Drive], None]:
    """Something happens to a model file; what it held is there again once the driver has ended."""

    def trouble(cycle: Cycle, drive: Drive) -> None:
        path = cycle.chance.choice(list(cycle.originals))
        if not cycle.bench.samples() or not path.exists():  # it would be measured with the other model
            return
        with suppress(FileNotFoundError):  # removed before, and put back when the driver has ended
            change(path)
        cycle.undo.append(lambda: (path.unlink(missing_ok=True), path.write_bytes(cycle.originals[path])))

    return trouble


def replaced(path: Path) -> None:
    """Another file of that name."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-64] + bytes(64))
    other.replace(path)


TROUBLES: dict[str, Callable[[Cycle, Drive], None]] = {
    "driver INT": signalled(signal.SIGINT),
    "driver INT INT": signalled(signal.SIGINT, signal.SIGINT),
    "driver TERM": signalled(signal.SIGTERM),
    "driver HUP": signalled(signal.SIGHUP),
    "driver KILL": signalled(signal.SIGKILL),
    "driver STOP CONT": stopped,
    "server KILL": server_signalled(signal.SIGKILL),
    "server SEGV": server_signalled(signal.SIGSEGV),
    "server TERM": server_signalled(signal.SIGTERM),
    "server STOP CONT": server_signalled(signal.SIGSTOP),
    "disk full": disk_full,
    "model touched": model(os.utime),
    "model rewritten": model(lambda path: path.write_bytes(path.read_bytes())),
    "model replaced": model(replaced),
    "model removed": model(Path.unlink),
}


# ---------------------------------------------------------------- all cycles


def kind_of(sample: Sample) -> tuple[object, ...]:
    """What determines a greedy run's counts."""
    return (sample.mode.value, sample.speculation, sample.n_draft, sample.prompt_id, sample.concurrency)


def figures_of(sample: Sample) -> Figures:
    """Counts and text of a run; of several streams the drafts' ratio: they ask as often as their timing takes."""
    if sample.concurrency > 1:
        drafted, accepted = sample.draft_tokens or 0, sample.accepted_tokens or 0
        shared = gcd(drafted, accepted) or 1
        return (None, drafted // shared, accepted // shared, sample.output_sha256)
    return (sample.predicted_tokens, sample.draft_tokens, sample.accepted_tokens, sample.output_sha256)


def made(folder: Path, pair: tuple[Path, Path]) -> Bench:
    """A place of its own with a pair of its own."""
    (folder / "models").mkdir(parents=True)
    main, draft = (Path(shutil.copy(path, folder / "models")) for path in pair)
    bench = Bench(folder=folder, main_model=main, draft_model=draft)
    bench.set(ms_per_token=0.4)
    return bench


def small_disk(bench: Bench) -> bool:
    """Put the sweep on a disk of some mebibytes, where we may mount one."""
    bench.root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(bench.root)]
    return subprocess.run(command, capture_output=True).returncode == 0


class Soak:
    """Cycles one after another; `expected` figures come from an undisturbed sweep of each engine and shape."""

    def __init__(self, folder: Path, program: str | None, seed: int) -> None:
        self.folder, self.program, self.seed = folder, program, seed
        self.engines = ("stand-in", "embedded", *(["native"] if program else []))
        self.pair = folder / "main.gguf", folder / "draft.gguf"
        folder.mkdir(parents=True, exist_ok=True)
        write_files(TINY, "draft", self.pair)
        self.expected: dict[tuple[str, str], dict[tuple[object, ...], Figures]] = {}
        self.tally = Tally()

    def run(self, minutes: float) -> None:
        """Cycles until the time is over."""
        began, number = time.monotonic(), 0
        while time.monotonic() - began < minutes * 60:
            number += 1
            chance = random.Random(f"{self.seed} {number}")
            engine = chance.choice(self.engines)
            shape = chance.choice([name for name in SHAPES if engine != "stand-in" or name not in ("streams",)])
            self.cycle(number, engine, shape, chance)
            self.tally.seconds = time.monotonic() - began
            (self.folder / "table.md").write_text(table(self.tally))

    def undisturbed(self, engine: str, shape: str) -> dict[tuple[object, ...], Figures]:
        """What greedy runs come to where nothing happens."""
        if (engine, shape) not in self.expected:
            bench = made(self.folder / f"expected-{engine}-{shape}", self.pair)
            drive = Cycle(bench, engine, shape, random.Random(0), self.program).start()
            assert drive.wait(WAIT_S) == 0, drive.said
            self.expected[engine, shape] = {kind_of(s): figures_of(s) for s in bench.samples() if s.is_counted}
            shutil.rmtree(bench.folder)
        return self.expected[engine, shape]

    def cycle(self, number: int, engine: str, shape: str, chance: random.Random) -> None:
        """One sweep and what it came to."""
        expected, tally = self.undisturbed(engine, shape), self.tally
        bench = made(self.folder / f"cycle-{number}", self.pair)
        mounted = chance.random() < 0.4 and small_disk(bench)
        cycle = Cycle(bench, engine, shape, chance, self.program)
        broken = list(dict.fromkeys(cycle.run(expected, tally)))
        tally.cycles[f"{engine}, {shape}"] += 1
        tally.troubles.update(cycle.troubles)
        tally.runs.update(sample.status.value for sample in bench.samples())
        tally.peaks_mb.append(cycle.peak_mb)
        tally.broken += [f"cycle {number} ({engine}, {shape}, {', '.join(cycle.troubles)}): {what}" for what in broken]
        print(number, engine, shape, cycle.troubles, broken or "", flush=True)
        bench.clear()
        if broken:
            shutil.copytree(bench.root, bench.folder / "kept", dirs_exist_ok=True, symlinks=True)
        if mounted:
            subprocess.run(["umount", str(bench.root)], check=True)
        if not broken:
            shutil.rmtree(bench.folder)


def table(tally: Tally) -> str:
    """The table for the note."""
    tenth = max(1, len(tally.peaks_mb) // 10)
    first, last = median(tally.peaks_mb[:tenth]), median(tally.peaks_mb[-tenth:])
    count = Counter(words.partition(": ")[2].split(" ")[0] for words in tally.broken)
    rows = {
        "time": f"{tally.seconds / 60:.0f} min",
        "sweeps": f"{tally.cycles.total()}: {words(tally.cycles)}",
        "drives by exit status": words(tally.statuses),
        "troubles": f"{tally.troubles.total()}: {words(tally.troubles)}",
        "runs on disk": words(tally.runs),
        "runs lost in a drive (stand-in)": words(tally.lost),
        "driver's peak memory, first and last tenth": f"{first:.0f} and {last:.0f} MB",
        "rules broken": f"{len(tally.broken)} {json.dumps(count) if count else ''}",
    }
    lines = ["| what | seen |", "|-|-|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join([*lines, "", *tally.broken, ""])


def words(counts: Mapping[str, int] | Mapping[int, int]) -> str:
    """Counts for a cell."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=str) if count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--llama-server", help="a real one; without it only the embedded llama.cpp and the stand-in")
    parser.add_argument("--out", type=Path, required=True, help="a folder that doesn't exist yet")
    asked = parser.parse_args()
    soak = Soak(asked.out.resolve(), asked.llama_server, asked.seed)
    soak.run(asked.minutes)
    print(table(soak.tally))


if __name__ == "__main__":
    main()
