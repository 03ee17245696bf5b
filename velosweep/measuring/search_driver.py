"""A race on a lane: from what `analysis.race` asks for to rounds of measurements, and from samples back to the race.

Everything is an ordinary measurement with an ordinary key, so that a resumed race finds its samples, takes the same
decisions again and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from velosweep.config.settings import Job, Prompt, TunerSettings
from velosweep.errors import ConfigError
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring.lane_context import Key
from velosweep.planning.identity import family_of
from velosweep.planning.server_groups import Measurement, Round, ServerGroup
from velosweep.records import TunerDecision
from velosweep.tuning.answer import TunerAnswer, TunerCandidate
from velosweep.tuning.best_arm import BestArmSearch, Candidate, Decision, Observation, RoundResult, Settings
from velosweep.tuning.best_arm import Round as RaceRound
from velosweep.values import Mode, Sample, Status

_SHORT_TOKENS = 256
"""A single prompt with fewer tokens tells little of the acceptance: the shortlist is wider then."""


@dataclass(kw_only=True)
class SearchDriver:
    """Leads the lane through the race of one block, category by category where that is asked for.

    `samples`: good samples by key, those of an earlier run of the sweep among them. `note(decision)` is called for
    each decision when it is made.
    """

    group: ServerGroup
    settings: TunerSettings
    samples: dict[Key, Sample]
    note: Callable[[TunerDecision], None] = lambda decision: None
    loading_s: float = 0.0
    categories: list[CategorySearch] = field(default_factory=list)
    _iteration: int = 0
    _asked: tuple[CategorySearch, RaceRound, range] | None = None

    def __post_init__(self) -> None:
        prompts = self.group.jobs[0].prompts.prompts
        categories: Iterable[str | None] = (
            dict.fromkeys(prompt.category for prompt in prompts) if self.settings.per_category else [None]
        )
        for category in categories:
            chosen = tuple(p for p in prompts if not self.settings.per_category or p.category == category)
            self.categories.append(CategorySearch.of(self.group, category, chosen, self.settings))

    def saw(self, measurement: Measurement, sample: Sample) -> None:
        """A run was recorded."""
        if sample.status is Status.OK and not sample.warmup:
            self.samples[measurement.key] = sample

    def next_round(self) -> Round | None:
        """What to measure next, None when every race is over."""
        self._fold()
        for heat in self.categories:
            plan = heat.race.next_round()
            if plan is not None:
                first = self._iteration + 1
                self._iteration += plan.repeats
                self._asked = (heat, plan, range(first, first + plan.repeats))
                return tuple(self._measurements(heat, plan, self._asked[2]))
        return None

    def _fold(self) -> None:
        """Tell the race what came of the round it asked for."""
        if self._asked is None:
            return
        heat, plan, iterations = self._asked
        self._asked = None
        values = {name: self._observed(heat, name, iterations) for name in plan.order}
        told = len(heat.race.decisions())
        heat.race = heat.race.after(RoundResult(plan=plan, values=values))
        for decision in heat.race.decisions()[told:]:
            self.note(heat.told(decision))

    def _measurements(self, heat: CategorySearch, plan: RaceRound, iterations: range) -> Iterable[Measurement]:
        for name in plan.order:
            server, job = heat.servers[name]
            for iteration in iterations:
                for prompt in heat.prompts:
                    yield Measurement(
                        server=server, job=job, prompt=prompt, iteration=iteration, launch=0, group=self.group.number
                    )

    def _observed(self, heat: CategorySearch, name: str, iterations: range) -> Observation:
        server, job = heat.servers[name]
        wanted = [
            Measurement(server=server, job=job, prompt=prompt, iteration=i, launch=0, group=self.group.number).key
            for i in iterations
            for prompt in heat.prompts
        ]
        found = [self.samples.get(key) for key in wanted]
        runs = [sample for sample in found if sample is not None]
        if len(runs) < len(found):
            return Observation(log_value=None, seconds=_seconds(runs))
        passes = [runs[at : at + len(heat.prompts)] for at in range(0, len(runs), len(heat.prompts))]
        values = [_log_value(one_pass, self.settings.objective) for one_pass in passes]
        known = [value for value in values if value is not None]
        rounds = _rounds(runs) if server.mode is Mode.SPECULATIVE else None
        return Observation(
            log_value=sum(known) / len(known) if len(known) == len(values) else None,
            seconds=_seconds(runs),
            tokens=sum(run.predicted_tokens or 0 for run in runs),
            rounds=rounds,
            round_ms=sum(run.predicted_ms or 0.0 for run in runs) / rounds if rounds else None,
            accepted_per_position=_positions(runs),
        )

    def decisions(self) -> list[TunerDecision]:
        """Every decision so far, category by category, in order."""
        return [heat.told(decision) for heat in self.categories for decision in heat.race.decisions()]

    def answers(self) -> list[TunerAnswer]:
        """What each race says now; a race of which nothing could be measured says nothing."""
        self._fold()
        told = []
        for heat in self.categories:
            try:
                told.append(heat.answer(self.settings, loading_s=self.loading_s))
            except ConfigError:  # no candidate of this race could be measured: its jobs say why
                continue
        return told


@dataclass(kw_only=True)
class CategorySearch:
    """One race: its prompts, and the arm and job that each candidate stands for."""

    category: str | None
    prompts: tuple[Prompt, ...]
    race: BestArmSearch
    servers: dict[str, tuple[ServerConfig, Job]]
    jobs: dict[str, Job | None]

    @classmethod
    def of(
        cls, group: ServerGroup, category: str | None, prompts: tuple[Prompt, ...], settings: TunerSettings
    ) -> CategorySearch:
        """The race of all the block's jobs and of not speculating at all."""
        first = group.jobs[0]
        if group.vanilla is None:
            raise ValueError("a race needs the vanilla arm")
        servers = {first.baseline_id: (group.vanilla, first)}
        jobs: dict[str, Job | None] = {first.baseline_id: None}
        candidates = [Candidate(id=first.baseline_id, family="vanilla", n_draft=0)]
        for job, server in zip(group.jobs, group.speculative, strict=True):
            if server is not None:
                servers[job.id], jobs[job.id] = (server, job), job
                candidates.append(Candidate(id=job.id, family=family_of(job), n_draft=job.n_draft))
        rules = Settings(
            tolerance=settings.tolerance,
            confidence=settings.confidence,
            max_rounds=settings.max_rounds,
            confirm_pairs=settings.confirm_pairs,
            short=len(prompts) == 1 and first.n_predict < _SHORT_TOKENS,
            use_model=settings.objective == "tokens_per_second",
            budget_s=settings.budget_s,
            seed=settings.seed,
        )
        race = BestArmSearch(candidates=tuple(candidates), settings=rules)
        return cls(category=category, prompts=prompts, race=race, servers=servers, jobs=jobs)

    def told(self, decision: Decision) -> TunerDecision:
        """A decision of the race, with the job that it is about."""
        job = self.jobs[decision.candidate]
        return TunerDecision(
            category=self.category,
            phase=decision.phase.value,
            round=decision.round,
            job_id=job.id if job else None,
            job_num=job.num if job else None,
            n_draft=job.n_draft if job else 0,
            estimate=decision.estimate,
            low=decision.low,
            high=decision.high,
            kept=decision.kept,
            reason=decision.reason,
        )

    def answer(self, settings: TunerSettings, *, loading_s: float) -> TunerAnswer:
        """What the race says now. Raises ConfigError if nothing was measured."""
        answer = self.race.answer()
        candidates = tuple(
            TunerCandidate(
                job=job,
                predicted=answer.predicted.get(name),
                measured=answer.measured.get(name),
                dropped_in=answer.dropped.get(name),
                tied=name in answer.ties,
                winner=name == answer.winner,
            )
            for name, job in self.jobs.items()
        )
        confirmed = answer.confirmed
        return TunerAnswer(
            category=self.category,
            main_model=next(iter(self.servers.values()))[0].main_model,
            candidates=candidates,
            certified=answer.certified,
            reason=answer.reason,
            tolerance=settings.tolerance,
            confidence=settings.confidence,
            speedup=confirmed.ratio if confirmed else None,
            low=confirmed.low if confirmed else None,
            high=confirmed.high if confirmed else None,
            measurements=answer.measurements,
            confirm_measurements=answer.confirm_measurements,
            full_grid_measurements=answer.full_grid_measurements,
            measuring_s=answer.seconds,
            loading_s=loading_s,
        )


def search_drivers(
    groups: Sequence[ServerGroup],
    settings: TunerSettings,
    samples: Iterable[Sample],
    note: Callable[[TunerDecision], None],
) -> dict[ServerGroup, SearchDriver]:
    """A guide for each block. `samples`: what an earlier run of this sweep measured.

    Raises ConfigError for jobs that skip vanilla, against which candidates are confirmed.
    """
    earlier = {key_of(sample): sample for sample in samples if sample.status is Status.OK and not sample.warmup}
    if any(group.vanilla is None for group in groups):
        raise ConfigError("hydra/sweeper=tune measures vanilla too", remedy="leave skip_vanilla=false")
    return {group: SearchDriver(group=group, settings=settings, samples=dict(earlier), note=note) for group in groups}


def key_of(sample: Sample) -> Key:
    """The `Measurement.key` that gave this sample."""
    return (sample.job_id, sample.block, sample.launch, sample.iteration, sample.prompt_id)


def _log_value(runs: Sequence[Sample], objective: str) -> float | None:
    """Log of the objective over one pass, more being better; None where it can't be told."""
    steps = sum((run.predicted_tokens or 0) - 1 for run in runs)
    if objective == "tokens_per_second":
        total_ms = sum(run.predicted_ms or 0.0 for run in runs)
        return math.log(steps / total_ms * 1000) if steps > 0 and total_ms > 0 else None
    if objective == "total_time_ms":
        total_ms = sum(run.total_time_ms or 0.0 for run in runs)
        return -math.log(total_ms) if total_ms > 0 else None
    energies = [run.energy_j for run in runs]
    known = [energy for energy in energies if energy is not None and energy > 0]
    return -math.log(sum(known) / steps) if len(known) == len(energies) and steps > 0 else None


def _rounds(runs: Sequence[Sample]) -> float:
    """Verification rounds: counted by llama.cpp, else the tokens that no draft provided."""
    return float(
        sum(
            run.rounds if run.rounds is not None else (run.predicted_tokens or 0) - (run.accepted_tokens or 0)
            for run in runs
        )
    )


def _positions(runs: Sequence[Sample]) -> tuple[float, ...] | None:
    counts = [run.accepted_per_position for run in runs]
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return None
    width = max(len(count) for count in known)
    return tuple(float(sum(count[i] for count in known if i < len(count))) for i in range(width))


def _seconds(runs: Sequence[Sample]) -> float:
    return sum(run.total_time_ms or 0.0 for run in runs) / 1000
