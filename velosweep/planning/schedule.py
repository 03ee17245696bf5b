"""Jobs to blocks, blocks to rounds: what is loaded together, and in which order it is measured."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

from velosweep.model import Arm, Block, Job, Measurement, Prompt
from velosweep.planning.identity import content_hash, speculative_arm, vanilla_arm

WARMUP_PROMPT = Prompt(id="warmup", text="Once upon a time")

Round = tuple[Measurement, ...]


def plan_blocks(
    jobs: Sequence[Job], *, lanes: int = 1, resident_arms: Callable[[Job], int] = lambda job: 64
) -> tuple[Block, ...]:
    """Group jobs that share a vanilla series; split a group where memory or idle lanes ask for it.

    `resident_arms(job)`: how many servers of such a job fit at once, the vanilla one included. Every block
    measures its own vanilla runs, so a split costs one vanilla series and never mixes baselines.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.baseline_id, []).append(job)
    share = math.ceil(sum(len(group) + 1 for group in groups.values()) / max(lanes, 1))
    blocks: list[Block] = []
    for group in groups.values():
        with_vanilla = 0 if group[0].skip_vanilla else 1
        room = max(1, resident_arms(group[0]) - with_vanilla)
        if lanes > 1:
            room = min(room, max(1, share - with_vanilla))
        for number, chunk in enumerate(_even_chunks(group, room)):
            blocks.append(_block(number, chunk))
    return tuple(blocks)


def _even_chunks(group: Sequence[Job], room: int) -> Iterator[Sequence[Job]]:
    pieces = math.ceil(len(group) / room)
    for piece in range(pieces):
        yield group[piece * len(group) // pieces : (piece + 1) * len(group) // pieces]


def _block(number: int, jobs: Sequence[Job]) -> Block:
    first = jobs[0]
    return Block(
        number=number,
        jobs=tuple(jobs),
        vanilla=None if first.skip_vanilla else vanilla_arm(first),
        speculative=tuple(speculative_arm(job) for job in jobs),
    )


def launch_iterations(job: Job, launch: int) -> range:
    """Iterations of one launch, numbered through over all launches: the protocol's are shared out evenly.

    Under an adaptive protocol every launch may take up to `max_pairs`.
    """
    protocol = job.protocol
    if protocol.adaptive:
        most = protocol.adaptive.max_pairs
        return range(launch * most + 1, (launch + 1) * most + 1)
    total, launches = protocol.iterations, protocol.launches
    return range(launch * total // launches + 1, (launch + 1) * total // launches + 1)


def warmups(block: Block, launch: int) -> Round:
    """One short run for each arm of a fresh launch; kept and shown, never averaged (none of 0 tokens)."""
    if not block.jobs[0].protocol.warmup_tokens:
        return ()
    return tuple(
        Measurement(arm=arm, job=job, prompt=WARMUP_PROMPT, iteration=0, launch=launch, block=block.number, warmup=True)
        for arm, job in _owners(block)
    )


def rounds(block: Block, launch: int) -> Iterator[Round]:
    """Every round of a launch: each resident arm once on one prompt.

    `abba`: a prompt's direction alternates from iteration to iteration (V 4 8, 8 4 V, ...), so that a drift
    cancels within pairs of iterations. `random`: a seeded permutation a round. `block`: all of an arm, then
    the next (drift-prone). Prompts take turns: where the set has several, no server sees one twice running.
    """
    protocol = block.jobs[0].protocol
    owners = _owners(block)
    if protocol.order == "block":
        for owner in owners:
            for _, iteration, prompt in _passes(block, launch):
                yield _round([owner], prompt, iteration, launch, block.number)
        return
    generator = random.Random(content_hash([protocol.seed, block.number, launch, block.jobs[0].id]))  # noqa: S311
    for parity, iteration, prompt in _passes(block, launch):
        if protocol.order == "random":
            order = generator.sample(owners, len(owners))
        else:
            order = owners if parity == 0 else owners[::-1]
        yield _round(order, prompt, iteration, launch, block.number)


def count_measurements(block: Block) -> int:
    """Runs that count (no warm-ups) a block takes at most."""
    first = block.jobs[0]
    passes = sum(len(launch_iterations(first, launch)) for launch in range(first.protocol.launches))
    return len(block.arms) * len(first.prompts.prompts) * passes


def _passes(block: Block, launch: int) -> Iterator[tuple[int, int, Prompt]]:
    """(parity, iteration, prompt); the parity alternates along both iterations and prompts."""
    first = block.jobs[0]
    for iteration in launch_iterations(first, launch):
        for index, prompt in enumerate(first.prompts.prompts):
            yield (iteration - 1 + index) % 2, iteration, prompt


def _owners(block: Block) -> list[tuple[Arm, Job]]:
    """Each arm with the job whose samples it gives; the shared vanilla arm stands with the first job."""
    owners = [(block.vanilla, block.jobs[0])] if block.vanilla else []
    owners += [(arm, job) for arm, job in zip(block.speculative, block.jobs, strict=True) if arm]
    return owners


def _round(owners: Sequence[tuple[Arm, Job]], prompt: Prompt, iteration: int, launch: int, block: int) -> Round:
    return tuple(
        Measurement(arm=arm, job=job, prompt=prompt, iteration=iteration, launch=launch, block=block)
        for arm, job in owners
    )
