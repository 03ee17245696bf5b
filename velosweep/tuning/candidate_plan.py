"""What `velosweep best` searches: candidates times draft lengths times p_min, cut to the time there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from velosweep.config.command_words import quoted
from velosweep.config.settings import TunerSettings
from velosweep.config.speculation_kinds import KINDS
from velosweep.models.candidates import Candidate
from velosweep.planning.lane_queue import load_s, run_s
from velosweep.tuning.best_arm import MOST_SHORTLISTED
from velosweep.tuning.calibration import ENOUGH_TOKENS, MOST_CALIBRATIONS
from velosweep.tuning.first_look import CALIBRATION_LENGTHS

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
FEW_LENGTHS = (2, 4, 8)  # where there is no time for more: another candidate tells more than another length
_DRAFTLESS_LENGTH = 32  # found drafts are free, and llama.cpp's defaults are 48 and 64
_P_MIN = (0.0, 0.6)
_CALIBRATED = len(CALIBRATION_LENGTHS)  # of each draft model
_ROUNDS = 6  # a guess of how many a search takes


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchFamily:
    """One candidate at one p_min and several draft lengths: what a search calibrates together."""

    candidate: Candidate
    lengths: tuple[int, ...]
    p_min: float | None = None

    @property
    def overrides(self) -> list[str]:
        """The family's grid, in Hydra's grammar."""
        words = [f"speculation={self.candidate.kind}", f"n_draft={','.join(map(str, self.lengths))}"]
        if self.candidate.draft is not None:
            words.append(f"model_pair.draft_model={quoted(self.candidate.draft.path)}")
        return [*words, *([f"speculation.p_min={self.p_min:g}"] if self.p_min is not None else [])]


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidatePlan:
    """What is searched, what there is no time for, on how many prompts, and how long the search may take."""

    families: tuple[SearchFamily, ...]
    left_out: tuple[SearchFamily, ...]
    prompts: int
    seconds: float

    @property
    def settings(self) -> int:
        """Settings in the search, vanilla left out."""
        return sum(len(family.lengths) for family in self.families)

    @property
    def grids(self) -> str:
        """The families as `hydra.sweeper.grids` takes them."""
        grids = (",".join(map(quoted, family.overrides)) for family in self.families)
        return f"[{','.join(f'[{grid}]' for grid in grids)}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCost:
    """What a guess of times rests on. `tokens`: of one prompt's answer."""

    main_model_bytes: int
    prompts: int
    tokens: int
    on_gpu: bool

    def seconds(self, families: Sequence[SearchFamily]) -> float:
        """Roughly what searching these takes."""
        calibrated = [family for family in families if len(family.lengths) > _CALIBRATED]
        draftless = sum(family.p_min is None for family in families)
        others = sum(len(family.lengths) for family in families if family not in calibrated) - draftless
        passes = draftless  # most are told after one
        if calibrated:
            at_once = _CALIBRATED * len(calibrated)
            tokens = (at_once + 1) * self.prompts * self.tokens
            repeats = min(MOST_CALIBRATIONS, math.ceil(ENOUGH_TOKENS / tokens))
            passes += repeats * (at_once + 1)
        contenders = others + min(MOST_SHORTLISTED, sum(len(family.lengths) for family in calibrated)) + 1
        passes += contenders * _ROUNDS // 2  # half of what is raced is dropped early
        passes += 2 * TunerSettings().confirm_pairs
        loads = 1 + _CALIBRATED * len(calibrated) + others + draftless + MOST_SHORTLISTED
        a_run = run_s(self.main_model_bytes, self.tokens, on_gpu=self.on_gpu)
        return passes * self.prompts * a_run + loads * load_s(self.main_model_bytes)


def plan_candidates(
    candidates: Sequence[Candidate], cost: RunCost, budget_s: float | None, lengths: Sequence[int] = LENGTHS
) -> CandidatePlan:
    """The most promising families whose search fits into the budget; at least one of them, with drafts of `lengths`.

    Each candidate without p_min goes before any with it. Kinds that need no file are always in: most are told after a
    single run, and they are what is left where no draft can run here.
    """
    families = [_family(candidate, lengths) for candidate in candidates]
    with_files = [family for family in families if family.p_min is not None]
    later = [replace(family, p_min=p_min) for p_min in _P_MIN[1:] for family in with_files]
    draftless = [family for family in families if family.p_min is None]
    chosen: list[SearchFamily] = []
    left_out: list[SearchFamily] = []
    for family in (*with_files, *draftless, *later):
        over = budget_s is not None and cost.seconds([*chosen, family]) > budget_s
        if chosen and over and family not in draftless:
            left_out.append(family)
        else:
            chosen.append(family)
    seconds = cost.seconds(chosen)
    return CandidatePlan(families=tuple(chosen), left_out=tuple(left_out), prompts=cost.prompts, seconds=seconds)


def _family(candidate: Candidate, lengths: Sequence[int]) -> SearchFamily:
    if not candidate.kind.startswith("draft"):
        length = KINDS[candidate.kind].fixed_length or _DRAFTLESS_LENGTH
        return SearchFamily(candidate=candidate, lengths=(length,))
    fitting = tuple(n for n in lengths if n <= (candidate.longest or n))
    return SearchFamily(candidate=candidate, lengths=fitting or LENGTHS[:1], p_min=_P_MIN[0])
