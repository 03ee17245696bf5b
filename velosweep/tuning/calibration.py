"""The calibration rounds of a search: which candidates to run, and the speeds that follow for all others."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from velosweep.config.settings import Job
from velosweep.tuning.search_values import DraftRounds, SearchRound
from velosweep.tuning.throughput_model import boundary_length, calibration_lengths, pool, predict

# Calibration is repeated until it has seen so many tokens, or so many times.
_ENOUGH_TOKENS = 2048
_MOST_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration rounds so far, of `jobs` and vanilla.

    Jobs of one family differ in n_draft alone and share a throughput model; `vanilla` is the id of not speculating.
    """

    vanilla: str
    jobs: tuple[Job, ...]
    rounds: Sequence[SearchRound]

    @cached_property
    def failed(self) -> frozenset[str]:
        """Candidates that failed in some round: they can't run here."""
        return frozenset(name for done in self.rounds for name in done.order if done.log_value(name) is None)

    def candidates(self) -> list[str]:
        """What to run in the next round; nothing when the model is as good as it gets."""
        tokens = sum(seen.tokens for done in self.rounds for seen in done.observations.values())
        again = tokens < _ENOUGH_TOKENS and len(self.rounds) < _MOST_ROUNDS
        known = frozenset() if again else frozenset(name for done in self.rounds for name in done.order)
        wanted = [name for name in self._at_calibration_lengths() if name not in known]
        if not wanted:
            return self._at_boundaries()
        return [name for name in (self.vanilla, *wanted) if name not in self.failed | known]

    def _at_calibration_lengths(self) -> list[str]:
        """Each family's candidates at the lengths to calibrate; one that failed is replaced by its neighbour."""
        wanted = []
        for family in self._families:
            able = {job.n_draft: job.id for job in family if job.id not in self.failed}
            wanted += [able[n] for n in calibration_lengths(list(able))]
        return wanted

    def _at_boundaries(self) -> list[str]:
        """Each family's candidate just below a kernel boundary, where its runs show one."""
        wanted = []
        for family in self._families:
            lengths = {job.n_draft: job.id for job in family}
            n = boundary_length(list(lengths), self._runs(family))
            if n is not None and lengths[n] not in self.failed:
                wanted.append(lengths[n])
        return wanted

    @cached_property
    def predictions(self) -> Mapping[str, float]:
        """Tokens per second, without candidates that the model can't predict; vanilla's are measured."""
        result: dict[str, float] = {}
        for family in self._families:
            by_length = predict([job.n_draft for job in family], self._runs(family)) or {}
            result.update({job.id: by_length[job.n_draft] for job in family if by_length})
        values = [value for done in self.rounds if (value := done.log_value(self.vanilla)) is not None]
        if values and result:
            result[self.vanilla] = math.exp(sum(values) / len(values))
        return result

    @cached_property
    def _families(self) -> list[list[Job]]:
        families: defaultdict[object, list[Job]] = defaultdict(list)
        for job in self.jobs:
            families[job.model_pair.draft_model, job.speculation, job.engine].append(job)
        return [sorted(family, key=lambda job: job.n_draft) for family in families.values()]

    def _runs(self, family: Sequence[Job]) -> dict[int, DraftRounds]:
        """A family's runs by draft length."""
        runs: dict[int, DraftRounds] = {}
        for job in family:
            seen = [done.observations[job.id].draft_rounds for done in self.rounds if job.id in done.observations]
            if (pooled := pool([rounds for rounds in seen if rounds is not None])) is not None:
                runs[job.n_draft] = pooled
        return runs
