"""Jobs to server groups: what is loaded together, and what is measured in the same rounds."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from velosweep.config.settings import Job
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.identity import build_family, round_family, speculative_server, vanilla_server
from velosweep.values import Mode

ServerOfJob = tuple[ServerConfig, Job]
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
    def servers_with_jobs(self) -> tuple[ServerOfJob, ...]:
        """The servers with their jobs, vanilla first, which goes with the first job."""
        first = self.jobs[0]
        shared = () if first.skip_vanilla else ((vanilla_server(first), first),)
        return (*shared, *((server, job) for job in self.jobs if (server := speculative_server(job)) is not None))

    @property
    def servers(self) -> tuple[ServerConfig, ...]:
        """All servers, vanilla first."""
        return tuple(server for server, _ in self.servers_with_jobs)

    @property
    def vanilla(self) -> ServerConfig | None:
        """The server that all jobs are compared with; None under skip_vanilla."""
        return next((server for server in self.servers if server.mode is Mode.VANILLA), None)


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
    family = families(jobs, resident_servers, lanes)
    builds: defaultdict[str, set[object]] = defaultdict(set)
    for job in jobs:
        builds[family.get(job.baseline_id, "")].add((job.engine.kind, job.engine.program))

    def room(job: Job) -> int:
        own = family.get(job.baseline_id)
        return resident_servers(job) // (len(builds[own]) if own else 1)

    former: defaultdict[tuple[str, int], list[Job]] = defaultdict(list)
    for job in jobs:
        if job.id in earlier:
            former[earlier[job.id]].append(job)
    new = [job for job in jobs if job.id not in earlier]
    groups: list[ServerGroup] = []
    for (_, number), together in former.items():
        if len(plan_groups(together, resident_servers=room)) == 1:
            groups.append(ServerGroup(number=number, jobs=tuple(together)))
        else:
            new += together
    free = Counter[str]()  # the first number of new groups, by baseline
    for baseline_id, number in earlier.values():
        free[baseline_id] = max(free[baseline_id], number + 1)
    for group in plan_groups(new, lanes=lanes, resident_servers=room):
        groups.append(replace(group, number=group.number + free[group.jobs[0].baseline_id]))
    return tuple(replace(group, family=family.get(group.jobs[0].baseline_id, "")) for group in groups)


def families(jobs: Sequence[Job], resident_servers: Callable[[Job], int], lanes: int) -> dict[str, str]:
    """The family of each baseline, by its id, that is measured in the same rounds as others.

    Several builds are, where two servers of each fit at once. Engine settings and main models that are asked the same
    are on one lane, where all their servers fit, so that no group is split for it; several lanes share them instead.
    """
    first = {job.baseline_id: job for job in reversed(jobs)}
    if len(first) < 2:
        return {}
    pairs = {job.baseline_id for job in jobs if job.speculation.kinds and not job.skip_vanilla}
    servers = Counter(job.baseline_id for job in jobs if job.speculation.kinds)
    servers.update(baseline_id for baseline_id, job in first.items() if not job.skip_vanilla)
    found: dict[str, str] = {}

    def join(family_of: Callable[[Job], str], needed: Callable[[list[str]], int]) -> None:
        """Make a family of the baselines that are alike, where all servers `needed` for it fit at once."""
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for baseline_id, job in first.items():
            alike[family_of(job)].append(baseline_id)
        for family, members in alike.items():
            if len(members) > 1 and min(resident_servers(first[one]) for one in members) >= needed(members):
                found.update(dict.fromkeys(members, family))

    if len({(job.engine.kind, job.engine.program) for job in jobs}) > 1:
        join(build_family, lambda members: len(members) * (1 if pairs.isdisjoint(members) else 2))
    if lanes == 1:
        join(round_family, lambda members: sum(servers[one] for one in members))
    return found


def builds_apart(groups: Sequence[ServerGroup]) -> bool:
    """Whether several builds were asked for of which some are measured one after the other."""
    first = [group.jobs[0] for group in groups if not group.family]
    if len({(job.engine.kind, job.engine.program) for job in first}) < 2:
        return False
    builds = {(build_family(job), job.engine.kind, job.engine.program) for job in first}
    return len({family for family, *_ in builds}) < len(builds)


def without_prompts(group: ServerGroup, prompt_ids: Collection[str]) -> ServerGroup:
    """The same group, whose jobs lack these prompts; their ids stay what they are."""

    def less(job: Job) -> Job:
        kept = tuple(prompt for prompt in job.prompts.prompts if prompt.id not in prompt_ids)
        return replace(job, prompts=replace(job.prompts, prompts=kept))

    return replace(group, jobs=tuple(map(less, group.jobs)))
