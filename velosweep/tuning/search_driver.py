"""From the rounds that a search asks for to measurements on a lane, and from their samples back to the search.

All runs are ordinary measurements with ordinary keys. A resumed search finds their samples, takes the same decisions
again and goes on.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from velosweep.config.settings import Job, Prompt, TunerSettings
from velosweep.errors import ConfigError
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.measurements import Measurement, Round, RunKey, round_of, sample_key
from velosweep.planning.server_groups import ServerGroup, without_prompts
from velosweep.records import TunerDecision
from velosweep.tuning.best_arm import BestArmSearch
from velosweep.tuning.calibration import pool
from velosweep.tuning.search_values import DraftRounds, Observation, Phase, SearchAnswer, SearchRound, SearchStatus
from velosweep.values import Mode, Sample

_SHORT_TOKENS = 256
"""A single prompt with fewer tokens says little about acceptance."""


@dataclass(kw_only=True)
class SearchDriver:
    """Searches the jobs of one group, category by category where the settings ask for that.

    `samples`: good samples by key, those of an earlier run of the sweep among them. `loading_s` is what loading servers
    took. `vanilla_failed`: a winner can't be confirmed, and there is no answer.
    Raises ConfigError for a group without vanilla.
    """

    group: ServerGroup
    settings: TunerSettings
    samples: dict[RunKey, Sample]
    loading_s: float = 0.0
    vanilla_failed: bool = False
    searches: dict[str | None, BestArmSearch] = field(init=False)
    _servers: dict[str, tuple[ServerConfig, Job]] = field(init=False)
    _iteration: int = 0
    _asked: tuple[str | None, SearchRound] | None = None

    def __post_init__(self) -> None:
        first, vanilla = self.group.jobs[0], self.group.vanilla
        if vanilla is None:
            raise ConfigError("hydra/sweeper=tune measures vanilla too", remedy="leave skip_vanilla=false")
        if self.settings.objective == "energy_j" and first.concurrency > 1:
            raise ConfigError(
                f"tuner.objective=energy_j can't be measured with concurrency={first.concurrency}: the energy is of "
                "whole requests, the tokens are of the time in which all streams were busy",
                remedy="set concurrency=1 or tuner.objective=tokens_per_second",
            )
        _, *speculative = self.group.servers_with_jobs  # vanilla is the first
        self._servers = {first.baseline_id: (vanilla, first)} | {job.id: (server, job) for server, job in speculative}
        categories = dict.fromkeys(p.category for p in first.prompts.prompts) if self.settings.per_category else [None]
        self.searches = {
            category: BestArmSearch(
                vanilla=first.baseline_id,
                jobs=tuple(job for _, job in speculative),
                settings=self.settings,
                category=category,
                short_suite=len(self._prompts(category)) == 1 and first.n_predict < _SHORT_TOKENS,
            )
            for category in categories
        }

    def record(self, measurement: Measurement, sample: Sample) -> None:
        """Learn from a run, if it counts."""
        if sample.is_counted:
            self.samples[measurement.key] = sample

    def leave_out(self, prompt: Prompt) -> None:
        """A prompt of these jobs can't be measured."""
        self.group = without_prompts(self.group, {prompt.id})

    def next_round(self) -> Round | None:
        """What to measure next; None when every search is over."""
        self._complete_round()
        for category, search in self.searches.items():
            asked = search.next_round()
            if asked is not None:
                self._iteration += 1
                self._asked = (category, asked)
                return tuple(run for name in asked.order for run in self._measurements(category, name))
        return None

    def _complete_round(self) -> None:
        """Give the search what was measured of the round it asked for last."""
        if self._asked is None:
            return
        category, asked = self._asked
        self._asked = None
        seen = {name: self._observe(category, name) for name in asked.order}
        self.searches[category] = self.searches[category].after(asked, seen)

    def _observe(self, category: str | None, candidate: str) -> Observation:
        """What was measured of a candidate in the latest round."""
        wanted = self._measurements(category, candidate)
        runs = [self.samples[run.key] for run in wanted if run.key in self.samples]
        seconds = sum(run.total_time_ms or 0.0 for run in runs) / 1000
        if not runs or len(runs) < len(wanted):
            return Observation(log_value=None, seconds=seconds)
        if all(run.draft_tokens == 0 for run in runs):
            return Observation(log_value=None, seconds=seconds, idle=True)
        return Observation(
            log_value=_log_value(runs, self.settings.objective),
            seconds=seconds,
            tokens=sum(run.predicted_tokens or 0 for run in runs),
            draft_rounds=pool([rounds for run in runs if (rounds := _draft_rounds(run)) is not None]),
        )

    def _measurements(self, category: str | None, candidate: str) -> list[Measurement]:
        owner = self._servers[candidate]
        prompts = self._prompts(category)
        return [run for one in prompts for run in round_of(self.group, [owner], one, self._iteration, 0)]

    def _prompts(self, category: str | None) -> list[Prompt]:
        every = self.group.jobs[0].prompts.prompts
        return [prompt for prompt in every if not self.settings.per_category or prompt.category == category]

    def status(self) -> SearchStatus | None:
        """The round being measured; None between rounds. May be called from another thread."""
        running = self._asked
        if running is None:
            return None
        category, asked = running
        search, others = self.searches[category], asked.phase is not Phase.CONFIRMATION
        return SearchStatus(
            category=category,
            phase=asked.phase,
            number=asked.number,
            candidates=tuple(sorted(asked.order, key=list(self._servers).index)) if others else asked.order,
            spent_s=search.spent_s,
            budget_s=self.settings.budget_s,
        )

    def decisions(self) -> list[TunerDecision]:
        """Every decision so far, category by category, in order."""
        return [decision for search in self.searches.values() for decision in search.decisions()]

    def answers(self) -> list[SearchAnswer]:
        """How each search ended, or stands; none of a search of which nothing, or no vanilla, could be measured.

        The round under way when a search was interrupted does not count: what it lacks has not failed.
        """
        if self.vanilla_failed:
            return []
        answers = (search.answer(self.loading_s) for search in self.searches.values())
        return [answer for answer in answers if answer is not None]


def search_drivers(
    groups: Sequence[ServerGroup], settings: TunerSettings, samples: Iterable[Sample]
) -> dict[ServerGroup, SearchDriver]:
    """A driver for each group. `samples`: what an earlier run of this sweep measured.

    Raises ConfigError for jobs that skip vanilla, and for an objective that several streams don't have.
    """
    earlier = {sample_key(sample): sample for sample in samples if sample.is_counted}
    return {group: SearchDriver(group=group, settings=settings, samples=dict(earlier)) for group in groups}


def _log_value(runs: Sequence[Sample], objective: str) -> float | None:
    """Log of the objective over one pass of the prompts, larger is better; None where it can't be computed."""
    steps = sum((run.predicted_tokens or 0) - 1 for run in runs)
    if objective == "tokens_per_second":
        total_ms = sum(run.predicted_ms or 0.0 for run in runs)
        return math.log(steps / total_ms * 1000) if steps > 0 and total_ms > 0 else None
    if objective == "total_time_ms":
        total_ms = sum(run.total_time_ms or 0.0 for run in runs)
        return -math.log(total_ms) if total_ms > 0 else None
    energies = [run.energy_j for run in runs if run.energy_j is not None and run.energy_j > 0]
    return -math.log(sum(energies) / steps) if len(energies) == len(runs) and steps > 0 else None


def _draft_rounds(run: Sample) -> DraftRounds | None:
    """A run's rounds, those without a draft too (an older version's samples count in `rounds` only the others)."""
    if run.mode is Mode.VANILLA or run.accepted_tokens is None or not run.predicted_ms:
        return None
    steps = (run.predicted_tokens or 0) - 1 - run.accepted_tokens
    count = max(run.rounds or 0, steps if run.drafting_rounds is None else 0)
    if count <= 0:
        return None
    # Of several streams, rounds are of all requests, and the time of the tokens that came while all were busy.
    share = 1.0 if run.concurrency == 1 else (count + run.accepted_tokens) / max(1, (run.predicted_tokens or 0) - 1)
    return DraftRounds(count=count, total_ms=run.predicted_ms * share, accepted_per_position=run.accepted_per_position)
