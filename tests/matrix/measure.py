"""One generation's figures: vanilla and speculative of each engine, interleaved, on one synthetic pair."""

from __future__ import annotations

import math
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.llama_cpp.servers import CPU, speculative, vanilla
from tests.matrix.generations import Pair
from velosweep.config.settings import Prompt, Sampling, Speculation
from velosweep.llama_cpp.engine import Engine, Generation, Request, ServerConfig, Session
from velosweep.measuring.sample_rows import invalid_reason
from velosweep.statistics.intervals import t_ratio
from velosweep.values import Mode

PROMPT = "Explain quantum computing in simple terms"
N_DRAFT = 4


@dataclass
class Row:
    """What one engine of one generation came to."""

    generation: str
    engine: str
    build: str
    vanilla: list[float] = field(default_factory=list)
    speculative: list[float] = field(default_factory=list)
    acceptances: set[tuple[int | None, int | None]] = field(default_factory=set)
    outputs: dict[Mode, set[str]] = field(default_factory=lambda: {mode: set() for mode in Mode})
    invalid: list[str] = field(default_factory=list)
    bench: list[float] = field(default_factory=list)

    def line(self) -> str:
        """A row of the Markdown table."""
        plain, drafting = statistics.median(self.vanilla), statistics.median(self.speculative)
        drafted = ", ".join(f"{accepted}/{drafted}" for drafted, accepted in sorted(self.acceptances, key=str))
        bench = f"{statistics.median(self.bench):.1f}" if self.bench else ""
        state = "; ".join(dict.fromkeys(self.invalid)) or "ok"
        return (
            f"| {self.generation} | {self.engine} | {self.build} | {plain:.1f} | {drafting:.1f} | "
            f"{drafting / plain:.3f} | {drafted} | {self.same_tokens} | {bench} | {state} |"
        )

    @property
    def same_tokens(self) -> str:
        """How far speculative and vanilla text agree; a build's verification batches may round otherwise."""
        (plain, *_), (drafting, *_) = self.outputs[Mode.VANILLA], self.outputs[Mode.SPECULATIVE]
        if not drafting:
            return ""
        same = next((i for i, pair in enumerate(zip(plain, drafting, strict=False)) if pair[0] != pair[1]), None)
        return "all" if same is None else f"first {same}"


HEAD = (
    "| llama.cpp | engine | build | vanilla tok/s | speculative tok/s | ratio "
    "| accepted/drafted | same text | llama-bench | runs |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def agreement(rows: Sequence[Row]) -> list[str]:
    """How the other engines of a build, and llama-bench, compare with the first one: paired within rounds."""
    first, *others = rows
    lines = []
    for other in others:
        lines.append(f"{other.engine} over {first.engine}, vanilla: {_ratio(other.vanilla, first.vanilla)}")
        lines.append(f"{other.engine} over {first.engine}, speculative: {_ratio(other.speculative, first.speculative)}")
    if first.bench:
        lines.append(f"llama-bench over {first.engine}, vanilla: {_ratio(first.bench, first.vanilla)}")
    return lines


def _ratio(values: Sequence[float], base: Sequence[float]) -> str:
    mean = math.exp(statistics.fmean(math.log(a / b) for a, b in zip(values, base, strict=True)))
    interval = t_ratio([math.log(a / b) for a, b in zip(values, base, strict=True)]).interval
    return f"{mean:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else "")


def measure(
    generation: str,
    engines: Sequence[Engine],
    pair: Pair,
    folder: Path,
    *,
    rounds: int,
    n_predict: int,
    programs: Path | None = None,
) -> list[Row]:
    """Speeds of `rounds` rounds over all engines, vanilla and speculative in turn, all loaded at once.

    `programs`: where a llama-bench may lie, which then runs once in each round.
    """
    rows = [Row(generation, engine.name, engine.build) for engine in engines]
    request = Request(prompt=Prompt(id="p", text=PROMPT), n_predict=n_predict, sampling=Sampling())
    sessions: list[tuple[Row, ServerConfig, Session]] = []
    try:
        for row, engine in zip(rows, engines, strict=True):
            for arm in arms(engine.name, pair):
                log = folder / f"{generation.split()[0]}-{engine.name}-{arm.label}.log"
                session = engine.launch(arm, lane=CPU, log_path=log)
                sessions.append((row, arm, session))
                session.wait_ready(120)
                session.generate(replace(request, n_predict=8), timeout_s=120)
        for number in range(rounds):
            for row, arm, session in sessions if number % 2 == 0 else reversed(sessions):
                note(row, arm, session.generate(request, timeout_s=300), request)
            if programs is not None and (speed := bench(programs, pair, n_predict)) is not None:
                rows[0].bench.append(speed)
    finally:
        for _, _, session in sessions:
            session.close()
    return rows


def arms(kind: str, pair: Pair) -> tuple[ServerConfig, ServerConfig]:
    """Both modes of the pair."""
    plain = vanilla(pair.main, kind=kind, threads_batch=1)
    drafting = speculative(
        N_DRAFT, main_model=pair.main, draft_model=pair.draft, speculation=Speculation(), kind=kind, threads_batch=1
    )
    return plain, drafting


def note(row: Row, arm: ServerConfig, run: Generation, request: Request) -> None:
    """Keep a run."""
    reason = invalid_reason(run, arm, request)
    if reason is not None:
        row.invalid.append(reason)
    speed = (run.predicted_tokens - 1) / run.predicted_ms * 1000
    if arm.mode is Mode.VANILLA:
        row.vanilla.append(speed)
    else:
        row.speculative.append(speed)
        row.acceptances.add((run.draft_tokens, run.accepted_tokens))
    row.outputs[arm.mode].add(run.text[: request.n_predict])


def bench(programs: Path, pair: Pair, n_predict: int) -> float | None:
    """llama-bench's decoding speed of the main model; None where it wasn't built."""
    program = programs / "llama-bench"
    if not program.exists():
        return None
    argv = [str(program), "-m", pair.main, "-t", "1", "-p", "0", "-n", str(n_predict), "-r", "1"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    match = re.search(r"tg\d+ *\| *([\d.]+) ±", said)
    return float(match.group(1)) if match else None
