"""Whether the numbers can be believed, on the real embedded llama.cpp.

    python -m tests.benchmarks.bench_believe [--repeats 40] [--concurrency 1] [--tiny] [--only aa|calibration]

aa           One server as vanilla and as three settings, in three rounds under ABBA: over REPEATS such sweeps, how
             often the 95 % interval of each setting holds 1.0, by its own pairs and within rounds. At a concurrency the
             figures are those that are reported for so many streams; --tiny takes a model of milliseconds a token.
calibration  llama.cpp accepts drafts at random at a set mean (--spec-synth-len): tokens a round measured against set,
             over TOKENS tokens, with the standard error that the spread of runs of 1,000 tokens gives.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.bench_streams import TINY
from tests.planning.jobs import job
from velosweep.config.settings import EngineSettings, Job, ModelPair, Prompt, Speculation, SyntheticShape
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Request, ServerConfig, Session
from velosweep.models.synthetic.pair import DEFAULT_SHAPE, ensure_files
from velosweep.planning.identity import identify, speculative_server, vanilla_server
from velosweep.statistics.comparison import RoundRatios
from velosweep.statistics.intervals import t_ratio
from velosweep.statistics.within_rounds import ratios_within_rounds
from velosweep.values import Device, Lane, decode_speed

LANE = Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--n-predict", type=int, default=32, help="tokens of a run of aa")
    parser.add_argument("--concurrency", type=int, default=1, help="streams of a run of aa")
    parser.add_argument("--tiny", action="store_true", help="aa on a tiny model")
    parser.add_argument("--only", choices=("aa", "calibration"))
    parser.add_argument("--tokens", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    if options.only in (None, "aa"):
        one = made(TINY if options.tiny else DEFAULT_SHAPE, concurrency=options.concurrency)
        same_server_as_every_arm(one, options.repeats, options.n_predict)
    if options.only in (None, "calibration"):
        calibration(options.tokens)


def made(shape: SyntheticShape = DEFAULT_SHAPE, **changes: object) -> Job:
    main_model, draft_model = map(str, ensure_files(shape))
    (one,) = identify(
        [
            job(
                model_pair=ModelPair(name="synthetic", main_model=main_model, draft_model=draft_model),
                engine=EngineSettings(kind="embedded", threads=1, threads_batch=1),
                **changes,
            )
        ],
        {},
    )
    return one


@contextmanager
def serving(arm: ServerConfig) -> Iterator[Session]:
    with tempfile.TemporaryDirectory() as folder:
        session = EmbeddedEngine().launch(arm, lane=LANE, log_path=Path(folder) / "log")
        try:
            session.wait_ready(60.0)
            yield session
        finally:
            session.close()


def same_server_as_every_arm(one: Job, repeats: int, n_predict: int) -> None:
    """Vanilla and three settings that are one server: intervals of each one's own pairs, and within rounds."""
    rounds, arms = 3, 4
    request = Request(prompt=one.prompts.prompts[0], n_predict=n_predict, sampling=one.sampling)
    held: dict[str, list[bool]] = {"own pairs": [], "within rounds": []}
    widths: dict[str, list[float]] = {name: [] for name in held}
    with serving(vanilla_server(one)) as session:

        def log_rate() -> float:
            seen = session.generate(request, timeout_s=60.0)
            value = decode_speed(seen.predicted_tokens, seen.predicted_ms)
            assert value is not None
            return math.log(value)

        for _ in range(repeats):
            logs: list[list[float]] = [[] for _ in range(arms)]
            for number in range(rounds):
                for arm in logs if number % 2 == 0 else logs[::-1]:
                    arm.append(log_rate())
            vanilla, *settings = logs
            pairs = [[a - b for a, b in zip(own, vanilla, strict=True)] for own in settings]
            series = [
                RoundRatios(table="one", launches=False, drawn=False, rounds=tuple(range(rounds)), logs=tuple(own))
                for own in pairs
            ]
            found = {"own pairs": [t_ratio(own) for own in pairs], "within rounds": ratios_within_rounds(series, {})}
            for name, ratios in found.items():
                for interval in (ratio.interval for ratio in ratios):
                    assert interval is not None
                    held[name].append(interval.low <= 1.0 <= interval.high)
                    widths[name].append(interval.half_width)
    for name in held:
        print(
            f"A/A, {name}: the interval holds 1.0 in {sum(held[name])} of {len(held[name])} "
            f"({statistics.mean(held[name]):.1%}); median half-width ±{statistics.median(widths[name]):.1%}"
        )


def calibration(tokens: int) -> None:
    """The server draws from a generator that the request seeds: with a seed each, runs add up."""
    for wanted in (1.0, 2.0, 4.0):
        one = made(n_draft=8, speculation=Speculation(synthetic_acceptance=wanted))
        arm = speculative_server(one)
        assert arm is not None
        runs: list[tuple[int, int, int]] = []  # tokens, accepted, rounds of each
        with serving(arm) as session:
            while sum(run[0] for run in runs) < tokens:
                prompt = Prompt(id=str(len(runs)), text=f"{len(runs)} {one.prompts.prompts[0].text}")
                sampling = replace(one.sampling, seed=1 + len(runs))
                seen = session.generate(Request(prompt=prompt, n_predict=1000, sampling=sampling), timeout_s=300.0)
                accepted = seen.accepted_tokens or 0
                rounds = seen.rounds if seen.rounds is not None else seen.predicted_tokens - accepted
                runs.append((seen.predicted_tokens, accepted, rounds))
        measured = 1 + sum(run[1] for run in runs) / sum(run[2] for run in runs)
        each = [1 + accepted / rounds for _, accepted, rounds in runs]
        error = statistics.stdev(each) / math.sqrt(len(each)) / measured
        print(
            f"calibration: set {wanted + 1:.3f} tokens a round, measured {measured:.3f} "
            f"({measured / (wanted + 1) - 1:+.1%}, standard error {error:.1%}), {sum(run[0] for run in runs)} tokens",
            flush=True,
        )


if __name__ == "__main__":
    main()
