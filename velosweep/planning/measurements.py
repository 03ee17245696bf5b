"""Groups to rounds: the runs to take, and in which order."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from velosweep.config.settings import Job, Prompt
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.identity import content_hash
from velosweep.planning.server_groups import ServerGroup, ServerOfJob
from velosweep.values import Mode, Sample

RunKey = tuple[str, int, int, int, str]
"""Identity of a measurement within a sweep: owner (job id or baseline id), group, launch, iteration, prompt id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One run to take: which server, which prompt, which iteration."""

    server: ServerConfig
    job: Job  # whose sample it is; of a shared vanilla run any job of the group: they ask the same
    prompt: Prompt
    iteration: int  # pairs vanilla with speculative
    launch: int
    group: int  # its number
    warmup: bool = False
    shared: bool = False  # several jobs use the vanilla runs of its group

    @property
    def owner(self) -> str:
        """The id of what its sample belongs to: a vanilla run to the baseline, not to one of its jobs."""
        return self.job.baseline_id if self.server.mode is Mode.VANILLA else self.job.id

    @property
    def key(self) -> RunKey:
        """What it is known by within the sweep."""
        return (self.owner, self.group, self.launch, self.iteration, self.prompt.id)


def sample_key(sample: Sample) -> RunKey:
    """The `Measurement.key` that gave this sample."""
    return (sample.job_id, sample.block, sample.launch, sample.iteration, sample.prompt_id)


_MOST_BATCHES = 3  # vanilla's after one run; a batch takes as long as some tokens


def batches_after(measurement: Measurement, round_: Sequence[Measurement]) -> tuple[int, ...]:
    """Sizes of the batches to time after a run: what a speculative server verifies in a round, n_draft + 1 tokens.

    Vanilla takes those of the round's other servers (of many, some from the smallest to the largest): what such a batch
    takes longer where a draft model reads it too is not verification's. None for kinds that have no model of their own
    or learn from whatever they are asked.
    """
    if measurement.warmup or measurement.iteration == 0:
        return ()
    own = [measurement] if measurement.server.mode is Mode.SPECULATIVE else round_
    sizes = sorted({one.server.n_draft + 1 for one in own if _draft_reads_checked_tokens(one.server)})
    if len(sizes) <= _MOST_BATCHES:
        return tuple(sizes)
    return tuple(sizes[place * (len(sizes) - 1) // (_MOST_BATCHES - 1)] for place in range(_MOST_BATCHES))


def _draft_reads_checked_tokens(server: ServerConfig) -> bool:
    speculation = server.speculation
    drafts = speculation is not None and any(kind.draft_settings for kind in speculation.all_kinds)
    return drafts and speculation is not None and not speculation.keeps_state


WARMUP_PROMPT = Prompt(id="warmup", text="Once upon a time")

Round = tuple[Measurement, ...]


def launch_iterations(job: Job, launch: int) -> Sequence[int]:
    """Iterations of one launch, numbered on over all launches: the protocol's are spread evenly over them.

    Under an adaptive protocol every launch may take up to `max_pairs`. What `velosweep more` added is spread in the
    same way, and numbered on.
    """
    protocol = job.protocol
    if protocol.adaptive:
        most = protocol.adaptive.max_pairs
        return range(launch * most + 1, (launch + 1) * most + 1)
    found: list[int] = []
    before, launches = 0, protocol.launches
    for total in (protocol.iterations, *job.added):
        found += range(before + launch * total // launches + 1, before + (launch + 1) * total // launches + 1)
        before += total
    return found


def round_of(group: ServerGroup, servers: Sequence[ServerOfJob], prompt: Prompt, iteration: int, launch: int) -> Round:
    """One run of each of these servers; iteration 0 is of warm-ups."""
    return tuple(
        Measurement(
            server=server,
            job=job,
            prompt=prompt,
            iteration=iteration,
            launch=launch,
            group=group.number,
            warmup=iteration == 0,
            shared=len(group.jobs) > 1,
        )
        for server, job in servers
    )


def warmups(group: ServerGroup, launch: int) -> Round:
    """One short run for each server of a fresh launch; kept and shown, never averaged. None under warmup_tokens=0."""
    if not group.jobs[0].protocol.warmup_tokens:
        return ()
    return round_of(group, group.servers_with_jobs, WARMUP_PROMPT, 0, launch)


def rounds(group: ServerGroup, launch: int) -> Iterator[Round]:
    """Every round of a launch: each server once on one prompt.

    `abba`: a prompt's direction alternates from iteration to iteration (V 4 8, 8 4 V, ...), so that a drift
    cancels within pairs of iterations. `random`: a seeded permutation each round. `block`: all runs of a server, then
    the next server (drift-prone). Prompts take turns: where the set has several, no server sees one twice in a row.
    """
    first, servers = group.jobs[0], group.servers_with_jobs
    passes = [
        (iteration, index, prompt)
        for iteration in launch_iterations(first, launch)
        for index, prompt in enumerate(first.prompts.prompts)
    ]

    if first.protocol.order == "block":
        yield from (
            round_of(group, [one], prompt, iteration, launch) for one in servers for iteration, _, prompt in passes
        )
        return
    generator = random.Random(content_hash([first.protocol.seed, group.number, launch, first.id]))  # noqa: S311
    for iteration, index, prompt in passes:
        if first.protocol.order == "random":
            order: Sequence[ServerOfJob] = generator.sample(servers, len(servers))
        else:  # alternating along both iterations and prompts
            order = servers if (iteration - 1 + index) % 2 == 0 else servers[::-1]
        yield round_of(group, order, prompt, iteration, launch)


def most_iterations(job: Job) -> int:
    """Iterations of a job over all its launches; an adaptive one may take its maximum in every launch."""
    return sum(len(launch_iterations(job, launch)) for launch in range(job.protocol.launches))


def count_measurements(group: ServerGroup) -> int:
    """The most runs that a group takes, warm-ups left out."""
    first = group.jobs[0]
    return len(group.servers) * len(first.prompts.prompts) * most_iterations(first)
