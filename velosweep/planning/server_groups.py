"""Jobs to blocks, blocks to rounds: what is loaded together, and in which order it is measured."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from velosweep.config.settings import Job, Prompt
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.identity import content_hash, speculative_server, vanilla_server
from velosweep.values import Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerGroup:
    """Arms that are resident together: the shared vanilla arm (None under skip_vanilla) and each job's own.

    All jobs have the same baseline_id. `number` tells blocks of one baseline apart; every block has its
    own vanilla runs, so that no comparison crosses blocks. `speculative[i]` is the arm of `jobs[i]`
    (None for a vanilla-only job).
    """

    number: int
    jobs: tuple[Job, ...]
    vanilla: ServerConfig | None
    speculative: tuple[ServerConfig | None, ...]

    @property
    def servers(self) -> tuple[ServerConfig, ...]:
        """The distinct arms, vanilla first."""
        own = {server.id: server for server in self.speculative if server is not None}
        return ((self.vanilla,) if self.vanilla else ()) + tuple(own.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One run to take: which arm, which prompt, which iteration (pairs vanilla with speculative).

    `job` is the job whose sample it is; for a shared vanilla run any job of the block (its prompts,
    n_predict and sampling are the same).
    """

    server: ServerConfig
    job: Job
    prompt: Prompt
    iteration: int
    launch: int
    group: int
    warmup: bool = False

    @property
    def key(self) -> tuple[str, int, int, int, str]:
        """Identity of the measurement within a sweep: owner id, block, launch, iteration, prompt id."""
        owner = self.job.baseline_id if self.server.mode is Mode.VANILLA else self.job.id
        return (owner, self.group, self.launch, self.iteration, self.prompt.id)


WARMUP_PROMPT = Prompt(id="warmup", text="Once upon a time")

Round = tuple[Measurement, ...]


def plan_groups(
    jobs: Sequence[Job], *, lanes: int = 1, resident_servers: Callable[[Job], int] = lambda job: 64
) -> tuple[ServerGroup, ...]:
    """Group jobs that share a vanilla series; split a group where memory or idle lanes ask for it.

    `resident_servers(job)`: how many servers of such a job fit at once, the vanilla one included. Every block
    measures its own vanilla runs, so a split costs one vanilla series and never mixes baselines.
    """
    by_baseline: dict[str, list[Job]] = {}
    for job in jobs:
        by_baseline.setdefault(job.baseline_id, []).append(job)
    share = math.ceil(sum(len(alike) + 1 for alike in by_baseline.values()) / max(lanes, 1))
    groups: list[ServerGroup] = []
    for alike in by_baseline.values():
        with_vanilla = 0 if alike[0].skip_vanilla else 1
        room = max(1, resident_servers(alike[0]) - with_vanilla)
        if lanes > 1:
            room = min(room, max(1, share - with_vanilla))
        for number, chunk in enumerate(_even_chunks(alike, room)):
            groups.append(_group(number, chunk))
    return tuple(groups)


def _even_chunks(group: Sequence[Job], room: int) -> Iterator[Sequence[Job]]:
    pieces = math.ceil(len(group) / room)
    for piece in range(pieces):
        yield group[piece * len(group) // pieces : (piece + 1) * len(group) // pieces]


def _group(number: int, jobs: Sequence[Job]) -> ServerGroup:
    first = jobs[0]
    return ServerGroup(
        number=number,
        jobs=tuple(jobs),
        vanilla=None if first.skip_vanilla else vanilla_server(first),
        speculative=tuple(speculative_server(job) for job in jobs),
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


def warmups(group: ServerGroup, launch: int) -> Round:
    """One short run for each arm of a fresh launch; kept and shown, never averaged (none of 0 tokens)."""
    if not group.jobs[0].protocol.warmup_tokens:
        return ()
    return tuple(
        Measurement(
            server=server, job=job, prompt=WARMUP_PROMPT, iteration=0, launch=launch, group=group.number, warmup=True
        )
        for server, job in _owners(group)
    )


def rounds(group: ServerGroup, launch: int) -> Iterator[Round]:
    """Every round of a launch: each resident arm once on one prompt.

    `abba`: a prompt's direction alternates from iteration to iteration (V 4 8, 8 4 V, ...), so that a drift
    cancels within pairs of iterations. `random`: a seeded permutation a round. `group`: all of an arm, then
    the next (drift-prone). Prompts take turns: where the set has several, no server sees one twice running.
    """
    protocol = group.jobs[0].protocol
    owners = _owners(group)
    if protocol.order == "block":
        for owner in owners:
            for _, iteration, prompt in _passes(group, launch):
                yield _round([owner], prompt, iteration, launch, group.number)
        return
    generator = random.Random(content_hash([protocol.seed, group.number, launch, group.jobs[0].id]))  # noqa: S311
    for parity, iteration, prompt in _passes(group, launch):
        if protocol.order == "random":
            order = generator.sample(owners, len(owners))
        else:
            order = owners if parity == 0 else owners[::-1]
        yield _round(order, prompt, iteration, launch, group.number)


def count_measurements(group: ServerGroup) -> int:
    """Runs that count (no warm-ups) a block takes at most."""
    first = group.jobs[0]
    passes = sum(len(launch_iterations(first, launch)) for launch in range(first.protocol.launches))
    return len(group.servers) * len(first.prompts.prompts) * passes


def _passes(group: ServerGroup, launch: int) -> Iterator[tuple[int, int, Prompt]]:
    """(parity, iteration, prompt); the parity alternates along both iterations and prompts."""
    first = group.jobs[0]
    for iteration in launch_iterations(first, launch):
        for index, prompt in enumerate(first.prompts.prompts):
            yield (iteration - 1 + index) % 2, iteration, prompt


def _owners(group: ServerGroup) -> list[tuple[ServerConfig, Job]]:
    """Each arm with the job whose samples it gives; the shared vanilla arm stands with the first job."""
    owners = [(group.vanilla, group.jobs[0])] if group.vanilla else []
    owners += [(server, job) for server, job in zip(group.speculative, group.jobs, strict=True) if server]
    return owners


def _round(
    owners: Sequence[tuple[ServerConfig, Job]], prompt: Prompt, iteration: int, launch: int, group: int
) -> Round:
    return tuple(
        Measurement(server=server, job=job, prompt=prompt, iteration=iteration, launch=launch, group=group)
        for server, job in owners
    )
