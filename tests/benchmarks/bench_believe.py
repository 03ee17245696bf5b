"""Whether the numbers can be believed, on the real embedded llama.cpp.

    python -m tests.benchmarks.bench_believe [--repeats 40] [--only aa|calibration] [--tokens 20000]

aa           One server as both arms: over REPEATS comparisons of five interleaved pairs, how often the 95 % interval
             holds 1.0.
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

from tests.planning.jobs import job
from velosweep.config.settings import EngineSettings, Job, ModelPair, Prompt, Speculation
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Request, ServerConfig, Session
from velosweep.models.synthetic.pair import DEFAULT_SHAPE, ensure_pair
from velosweep.planning.identity import identify, speculative_server, vanilla_server
from velosweep.statistics.intervals import t_ratio
from velosweep.values import Device, Lane, decode_speed

LANE = Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--only", choices=("aa", "calibration"))
    parser.add_argument("--tokens", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    if options.only in (None, "aa"):
        same_server_as_both_arms(options.repeats)
    if options.only in (None, "calibration"):
        calibration(options.tokens)


def made(**changes: object) -> Job:
    main_model, draft_model = map(str, ensure_pair(DEFAULT_SHAPE))
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


def same_server_as_both_arms(repeats: int) -> None:
    one = made()
    request = Request(prompt=one.prompts.prompts[0], n_predict=32, sampling=one.sampling)
    held, widths = 0, []
    with serving(vanilla_server(one)) as session:

        def rate() -> float:
            seen = session.generate(request, timeout_s=60.0)
            value = decode_speed(seen.predicted_tokens, seen.predicted_ms)
            assert value is not None
            return value

        for _ in range(repeats):
            left, right = [], []
            for pair in range(5):
                for arm in (left, right) if pair % 2 == 0 else (right, left):
                    arm.append(rate())
            interval = t_ratio([math.log(b / a) for a, b in zip(left, right, strict=True)]).interval
            assert interval is not None
            held += interval.low <= 1.0 <= interval.high
            widths.append(interval.half_width)
    widths.sort()
    print(
        f"A/A: the interval holds 1.0 in {held} of {repeats} ({held / repeats:.1%}); "
        f"median half-width ±{widths[len(widths) // 2]:.1%}"
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
