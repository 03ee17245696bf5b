"""What samples mean: the statistics of one job, or of one of its prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from velosweep.values import Scalar, Verdict

if TYPE_CHECKING:
    from velosweep.statistics.intervals import Interval
    from velosweep.statistics.request_times import Latency  # computes with numpy, which not all that compares needs

Evidence = Mapping[str, float | int | str]
"""Figures by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something a reader must know before believing a number.

    `code`: stable name, e.g. `outlier`, `drift`; `severity`: `error` (result can't be used), `warning`, `info`;
    `subject`: what it is about (`vanilla`, `speculative`, `pairs`, a prompt id); `evidence`: figures by name.
    """

    code: str
    severity: str
    subject: str
    evidence: Evidence = field(default_factory=dict)

    def __str__(self) -> str:
        figures = ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.evidence.items()
        )
        return f"{self.code}({self.subject}{': ' + figures if figures else ''})"


def warning(code: str, subject: str, evidence: Evidence) -> Finding:
    """A finding that leaves the result usable."""
    return Finding(code=code, severity="warning", subject=subject, evidence=evidence)


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """The specification's figures of one metric. `stddev` (n-1) is None for one sample."""

    mean: float
    stddev: float | None
    min: float
    max: float
    samples: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeStatistics:
    """The three metrics of one mode. `launch_logs`: mean log tokens per second of each launch, where several ran."""

    tokens_per_second: Statistics
    time_to_first_token_ms: Statistics
    total_time_ms: Statistics
    launch_logs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """How the drafts fared. Rates in 0..1; `alpha` per-token acceptance, `tokens_per_round` tau."""

    rate: float
    low: float | None
    high: float | None
    interval_unit: str
    alpha: float | None
    tokens_per_round: float | None
    per_position: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodingTime:
    """Where a job's decoding time goes, by llama.cpp's own figures; costs in single steps of the target.

    A round verifies `batch` tokens on average at a cost of `batch_cost`, and gives `tokens_per_round`. `sync_cost`: a
    round's cost of having the draft model read the same tokens; None where it isn't known, and is then in `batch_cost`.
    Shares are of decoding; the rest is that reading.
    """

    batch: float
    batch_cost: float
    sync_cost: float | None
    draft_share: float
    verify_share: float
    tokens_per_round: float

    @property
    def round_cost(self) -> float:
        """Of all but drafting."""
        return self.batch_cost + (self.sync_cost or 0.0)

    @property
    def other_share(self) -> float:
        """Neither drafting nor verifying."""
        return max(1 - self.draft_share - self.verify_share, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRatios:
    """A setting's log ratios to vanilla, one a round; with several `launches` one a launch, the mean of its rounds.

    Equal numbers in `rounds`, among series of one `table` and kind, mean the same round. `drawn`:
    each round has texts of its own. Large sweeps hold one a job: arrays take a quarter of what tuples do.
    """

    table: str
    launches: bool
    rounds: Sequence[int]
    logs: Sequence[float]
    drawn: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestTimes:
    """A job's whole request against vanilla's; larger ratios are faster; 95 % intervals.

    `prefill_ratio`: of the speed at which prompts (of `prompt_tokens` on average) are read. `total_ratio`: of the time
    until the last token, `vanilla_ms` and `speculative_ms` on average. `breakeven_tokens`: from how many generated
    tokens on a request is shorter; None for never.
    """

    prompt_tokens: float | None
    vanilla_ms: float
    speculative_ms: float
    prefill_ratio: float | None
    prefill_low: float | None
    prefill_high: float | None
    total_ratio: float
    total_low: float | None
    total_high: float | None
    breakeven_tokens: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildComparison:
    """A job's tokens a second over those of its twin `reference` (a job id): the same job of the first build.

    `speculative` is None for a job without speculation, either where there were too few runs.
    """

    reference: str
    vanilla: "Interval | None"
    speculative: "Interval | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Statistics of one job and prompt (`prompt_id`), or of a job over its set (`prompt_id` None).

    The first fields are the job's parameters, as in its samples; `settings`: all others, by dotted
    key, that differ from their defaults. `speedup`, `speedup_stddev` are the
    specification's; `speedup_gm` with [ci_low, ci_high] is the geometric-mean ratio and its 95 % interval by
    `ci_method`, whose mean log has the `standard_error` with `df` degrees of freedom. `cost_ratio` is of a drafted
    token over a single step of the target, by `cost_source`. `population_low/high`: the
    interval for "prompts like these" (None for one prompt). `drafted`: False where no run drafted a token, so that
    vanilla decoding was measured; None where that is not known.

    Of a whole job among those that compete with it (see best_of_several): `may_be_best`; [to_best_low, to_best_high],
    its ratio to the best of the others; `chosen_low`, the lower limit of `speedup_gm` that also holds for the job that
    is chosen for being the best. `beside_first`: of a job of a further build of llama.cpp. None where they are not
    known.
    """

    job_id: str
    job_num: int | None
    model_pair: str
    main_model: str
    draft_model: str | None
    speculation: str
    n_draft: int
    n_predict: int
    prompt_set: str
    prompt_id: str | None
    prompt: str | None
    prompt_category: str | None
    host: str
    device: str
    engine: str
    llama_cpp_build: str
    iterations: int
    n_pairs: int
    vanilla: ModeStatistics | None
    speculative: ModeStatistics | None
    speedup: float | None
    speedup_stddev: float | None
    speedup_gm: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    acceptance: Acceptance | None
    cost_ratio: float | None
    expected_speedup: float | None
    verdict: Verdict
    findings: tuple[Finding, ...]
    finished_at: datetime | None
    population_low: float | None = None
    population_high: float | None = None
    suite_speedup: float | None = None
    worst_prompt: str | None = None
    energy_j_per_token_vanilla: float | None = None
    energy_j_per_token_speculative: float | None = None
    drafted: bool | None = None
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    concurrency: int = 1
    depth: int = 0
    vanilla_latency: "Latency | None" = None
    speculative_latency: "Latency | None" = None
    cost_source: str | None = None
    decoding: DecodingTime | None = None
    request: RequestTimes | None = None
    memory_bytes_vanilla: int | None = None
    memory_bytes_speculative: int | None = None
    depth_ms_vanilla: float | None = None
    depth_ms_speculative: float | None = None
    answer_tokens_vanilla: float | None = None
    answer_tokens_speculative: float | None = None
    turn: int | None = None
    standard_error: float | None = None
    df: float | None = None
    by_round: RoundRatios | None = None
    may_be_best: bool | None = None
    to_best_low: float | None = None
    to_best_high: float | None = None
    chosen_low: float | None = None
    beside_first: BuildComparison | None = None

    @property
    def vanilla_speed(self) -> float | None:
        """Mean tokens per second of its runs without speculation."""
        return None if self.vanilla is None else self.vanilla.tokens_per_second.mean

    @property
    def speculative_speed(self) -> float | None:
        """Mean tokens per second of its runs with speculation."""
        return None if self.speculative is None else self.speculative.tokens_per_second.mean
