"""Jobs to server groups, groups to rounds: what is loaded together, and in which order it is measured."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from velosweep.config.settings import Job, Prompt
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.identity import build_family, content_hash, round_family, speculative_server, vanilla_server
from velosweep.values import Mode, Sample

RunKey = tuple[str, int, int, int, str]
"""Identity of a measurement within a sweep: owner (job id or baseline id), group, launch, iteration, prompt id."""

Owned = tuple[ServerConfig, Job]
"""A server, and the job whose samples it gives."""


@dataclass(frozen=True, kw_only=True)
class ServerGroup:
    """Jobs whose servers are loaded together: a shared vanilla server (none under skip_vanilla) and each job's own.

    All jobs have the same baseline_id. `number` tells groups of one baseline apart; every group has its own vanilla
    runs, so that no ratio to vanilla crosses groups. Groups of one `family` and number are asked the same in the same
    rounds: they differ in the build of llama.cpp, in engine settings or in the main model.
    """

    number: int
    jobs: tuple[Job, ...]
    family: str = ""

    @cached_property
    def owned(self) -> tuple[Owned, ...]:
        """The servers with their jobs, vanilla first, which goes with the first job."""
        first = self.jobs[0]
        shared = () if first.skip_vanilla else ((vanilla_server(first), first),)
        return (*shared, *((server, job) for job in self.jobs if (server := speculative_server(job)) is not None))

    @property
    def servers(self) -> tuple[ServerConfig, ...]:
        """All servers, vanilla first."""
        return tuple(server for server, _ in self.owned)

    @property
    def vanilla(self) -> ServerConfig | None:
        return next((server for server in self.servers if server.mode is Mode.VANILLA), None)


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
    shared: bool = False  # a vanilla run of several jobs

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


def plan_groups(
    jobs: Sequence[Job], *, lanes: int = 1, resident_servers: Callable[[Job], int] = lambda job: 64
) -> tuple[ServerGroup, ...]:
    """Group jobs that share a vanilla series; split a group where memory or idle lanes ask for it.

    `resident_servers(job)`: how many servers of such a job fit at once, the vanilla one included. Every group
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
        pieces = math.ceil(len(alike) / room)
        for number in range(pieces):  # as even as possible
            together = tuple(alike[number * len(alike) // pieces : (number + 1) * len(alike) // pieces])
            groups.append(ServerGroup(number=number, jobs=together))
    return tuple(groups)


def plan_with_earlier(
    jobs: Sequence[Job], earlier: Mapping[str, tuple[str, int]], *, lanes: int, resident_servers: Callable[[Job], int]
) -> tuple[ServerGroup, ...]:
    """Groups as they were planned before (`earlier`: by job id), and new ones, numbered on, for the jobs not in them.

    A job stays with the baseline that it was measured against, however much memory or how many lanes there are
    today. Only where a former group no longer fits into memory are its jobs planned, and measured, anew. Builds
    that are measured in the same rounds share the room there is.
    """
    family = families(jobs, resident_servers, lanes=lanes)
    builds: defaultdict[str, set[object]] = defaultdict(set)
    for job in jobs:
        builds[family.get(job.baseline_id, "")].add((job.engine.kind, job.engine.program))

    def room(job: Job) -> int:
        own = family.get(job.baseline_id)
        return resident_servers(job) // (len(builds[own]) if own else 1)

    former: dict[tuple[str, int], list[Job]] = {}
    new: list[Job] = []
    for job in jobs:
        if job.id in earlier:
            former.setdefault(earlier[job.id], []).append(job)
        else:
            new.append(job)
    groups: list[ServerGroup] = []
    for (_, number), together in former.items():
        (group, *more) = plan_groups(together, resident_servers=room)
        if more:
            new += together
        else:
            groups.append(replace(group, number=number))
    first: dict[str, int] = {}
    for baseline_id, number in earlier.values():
        first[baseline_id] = max(first.get(baseline_id, 0), number + 1)
    for group in plan_groups(new, lanes=lanes, resident_servers=room) if new else ():
        groups.append(replace(group, number=group.number + first.get(group.jobs[0].baseline_id, 0)))
    return tuple(replace(group, family=family.get(group.jobs[0].baseline_id, "")) for group in groups)


def families(jobs: Sequence[Job], resident_servers: Callable[[Job], int], *, lanes: int = 1) -> dict[str, str]:
    """The family of each baseline, by its id, that is measured in the same rounds as others.

    Several builds are, where two servers of each fit at once. Engine settings and main models that are asked the same
    are on one lane, where all their servers fit, so that no group is split for it; several lanes share them instead.
    """
    first = {job.baseline_id: job for job in reversed(jobs)}
    if len(first) < 2:
        return {}
    pairs = {job.baseline_id for job in jobs if job.speculation.kinds and not job.skip_vanilla}
    servers = Counter(job.baseline_id for job in jobs if job.speculation.kinds)

    def alike(family_of: Callable[[Job], str]) -> Iterator[tuple[str, list[str], int]]:
        """Families, their baselines, and how many servers of the largest of these fit at once."""
        found: dict[str, list[Job]] = {}
        for job in first.values():
            found.setdefault(family_of(job), []).append(job)
        for family, members in found.items():
            if len(members) > 1:
                yield family, [job.baseline_id for job in members], min(map(resident_servers, members))

    found: dict[str, str] = {}
    if len({(job.engine.kind, job.engine.program) for job in jobs}) > 1:
        for family, members, room in alike(build_family):
            if room >= len(members) * (2 if pairs & set(members) else 1):
                found |= dict.fromkeys(members, family)
    for family, members, room in alike(round_family) if lanes == 1 else ():
        if room >= sum(servers[one] + (not first[one].skip_vanilla) for one in members):
            found |= dict.fromkeys(members, family)
    return found


def builds_apart(groups: Sequence[ServerGroup]) -> bool:
    """Whether several builds were asked for of which some are measured one after the other."""
    first = [group.jobs[0] for group in groups if not group.family]
    if len({(job.engine.kind, job.engine.program) for job in first}) < 2:
        return False
    builds = {(build_family(job), job.engine.kind, job.engine.program) for job in first}
    return len({family for family, *_ in builds}) < len(builds)


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


def round_of(
    group: ServerGroup, owned: Sequence[Owned], prompt: Prompt, iteration: int, launch: int, *, warmup: bool = False
) -> Round:
    """One run of each of these servers."""
    return tuple(
        Measurement(
            server=server,
            job=job,
            prompt=prompt,
            iteration=iteration,
            launch=launch,
            group=group.number,
            warmup=warmup,
            shared=server.mode is Mode.VANILLA and len(group.jobs) > 1,
        )
        for server, job in owned
    )


def warmups(group: ServerGroup, launch: int) -> Round:
    """One short run for each server of a fresh launch; kept and shown, never averaged. None under warmup_tokens=0."""
    if not group.jobs[0].protocol.warmup_tokens:
        return ()
    return round_of(group, group.owned, WARMUP_PROMPT, 0, launch, warmup=True)


def rounds(group: ServerGroup, launch: int) -> Iterator[Round]:
    """Every round of a launch: each server once on one prompt.

    `abba`: a prompt's direction alternates from iteration to iteration (V 4 8, 8 4 V, ...), so that a drift
    cancels within pairs of iterations. `random`: a seeded permutation each round. `block`: all runs of a server, then
    the next server (drift-prone). Prompts take turns: where the set has several, no server sees one twice in a row.
    """
    first, owned = group.jobs[0], group.owned
    passes = [
        (iteration, index, prompt)
        for iteration in launch_iterations(first, launch)
        for index, prompt in enumerate(first.prompts.prompts)
    ]

    if first.protocol.order == "block":
        yield from (
            round_of(group, [one], prompt, iteration, launch) for one in owned for iteration, _, prompt in passes
        )
        return
    generator = random.Random(content_hash([first.protocol.seed, group.number, launch, first.id]))  # noqa: S311
    for iteration, index, prompt in passes:
        if first.protocol.order == "random":
            order: Sequence[Owned] = generator.sample(owned, len(owned))
        else:  # alternating along both iterations and prompts
            order = owned if (iteration - 1 + index) % 2 == 0 else owned[::-1]
        yield round_of(group, order, prompt, iteration, launch)


def most_iterations(job: Job) -> int:
    """Iterations of a job over all its launches; an adaptive one may take its maximum in every launch."""
    return sum(len(launch_iterations(job, launch)) for launch in range(job.protocol.launches))


def count_measurements(group: ServerGroup) -> int:
    """The most runs that a group takes, warm-ups left out."""
    first = group.jobs[0]
    return len(group.servers) * len(first.prompts.prompts) * most_iterations(first)


def without_prompts(group: ServerGroup, prompt_ids: Collection[str]) -> ServerGroup:
    """The same group, whose jobs lack these prompts; their ids stay what they are."""

    def less(job: Job) -> Job:
        kept = tuple(prompt for prompt in job.prompts.prompts if prompt.id not in prompt_ids)
        return replace(job, prompts=replace(job.prompts, prompts=kept))

    return replace(group, jobs=tuple(map(less, group.jobs)))
