"""From samples to comparisons: one a job and prompt, and one a job. Independent of the order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from velosweep.analysis import acceptance, evidence
from velosweep.analysis.cooling import Looks, looks_of, untrusted_findings
from velosweep.analysis.costs import Costs, costs_of
from velosweep.analysis.measures import ArmSeries, Measures, complete, measures_of, used_cubes
from velosweep.analysis.pairing import Arrangement, FoundJob, JobRows, arrange, find_jobs, job_rows
from velosweep.analysis.ratio import Ratio, over_passes, over_prompts, unpaired, verdict_of
from velosweep.analysis.speedup import speedup, speedup_stddev
from velosweep.columns import columns_of
from velosweep.model import Acceptance, Comparison, Finding, JobRecord, ModeStatistics, Statistics

if TYPE_CHECKING:
    import pyarrow as pa


def compare_jobs(
    samples: pa.Table, *, jobs: Mapping[str, JobRecord] | None = None, logical_cores: int | None = None
) -> list[Comparison]:
    """All comparisons of a table of samples, by job number and then the prompts' order, the job's own last.

    `samples`: the data contract's columns; only job_id, mode, iteration and the three metrics are required.
    `jobs`: records by job id, which name each job's baseline; without them a job's baseline is the vanilla series with
    the same main model, prompts, n_predict, machine and engine. `logical_cores` judges load averages.
    Raises StorageError for a missing column or an unknown mode.
    """
    return [row for rows in iterate_jobs(samples, jobs=jobs, logical_cores=logical_cores) for row in rows]


def iterate_jobs(
    samples: pa.Table, *, jobs: Mapping[str, JobRecord] | None = None, logical_cores: int | None = None
) -> Iterator[list[Comparison]]:
    """As `compare_jobs`, one job at a time, so that only one job's comparisons need memory."""
    columns = columns_of(samples)
    measures = measures_of(columns)
    arrangement = arrange(columns)
    found = find_jobs(arrangement, jobs or {})
    costs = costs_of(arrangement, measures, found)
    looks = looks_of(measures)
    for job in found:
        yield _Summary(
            arrangement=arrangement,
            measures=measures,
            job=job,
            rows=job_rows(arrangement, job),
            costs=costs,
            looks=looks,
            logical_cores=logical_cores,
        ).comparisons()


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """What one comparison says, but for the job's parameters."""

    vanilla: ModeStatistics | None
    speculative: ModeStatistics | None
    ratio: Ratio
    findings: tuple[Finding, ...]
    acceptance: Acceptance | None
    pairs: int
    finished_at: datetime | None
    energy_vanilla: float | None
    energy_speculative: float | None


@dataclass(frozen=True, kw_only=True)
class _Summary:
    """The comparisons of one job."""

    arrangement: Arrangement
    measures: Measures
    job: FoundJob
    rows: JobRows
    costs: Costs
    looks: Looks
    logical_cores: int | None

    def comparisons(self) -> list[Comparison]:
        """One for each prompt, then the job's."""
        vanilla, speculative, paired = used_cubes(self.measures, self.rows)
        views, counts = self._prompt_views(vanilla, speculative, paired=paired)
        own = self._own_rows()
        per_prompt = [self._comparison(view, row, whole=False) for view, row in zip(views, own, strict=True)]
        machine = self._machine_findings(vanilla, speculative)
        if len(views) > 1:
            return [*per_prompt, self._whole(per_prompt, counts, vanilla, speculative, machine, paired=paired)]
        findings = per_prompt[0].findings + machine
        return [*per_prompt, replace(per_prompt[0], prompt_id=None, findings=findings)]

    @property
    def _target(self) -> float | None:
        return self.rows.record.adaptive_target if self.rows.record else None

    def _prompt_views(
        self, vanilla: Any, speculative: Any, *, paired: bool
    ) -> tuple[list[_View], list[acceptance.Counts | None]]:
        """A view of each prompt: all at once where every run is there, else one by one."""
        counts: list[acceptance.Counts | None] = []
        views: list[_View] = []
        if paired and (vanilla >= 0).all():
            parts = [(vanilla, speculative)]
        else:
            prompts = range(vanilla.shape[1])
            parts = [(_there(vanilla[:, p])[:, None], _there(speculative[:, p])[:, None]) for p in prompts]
        outcomes = self._outcome_findings()
        for part_vanilla, part_speculative in parts:
            some = outcomes[len(views) : len(views) + part_vanilla.shape[1]]
            known = self.measures.counts(part_speculative)
            estimates = [None if c is None else acceptance.estimate([c], self._n_draft) for c in known]
            arms = self.measures.series(part_vanilla), self.measures.series(part_speculative)
            d = _log_ratios(*arms) if paired else None
            views += self._views(arms, d, (part_vanilla, part_speculative), some, estimates)
            counts += known
        return views, counts

    def _views(
        self,
        arms: tuple[ArmSeries, ArmSeries],
        d: Any,
        cubes: tuple[Any, Any],
        outcomes: list[list[Finding]],
        estimates: list[Acceptance | None],
    ) -> list[_View]:
        """Views of comparisons whose series are `arms` (columns alike); `cubes` are the rows behind each."""
        measures = self.measures
        if d is None:
            ratios = [unpaired(*arms, p) for p in range(len(outcomes))]
        else:
            ratios = over_passes(*arms, d, adaptive=self._target is not None)
        columns = zip(
            arms[0].statistics(),
            arms[1].statistics(),
            ratios,
            outcomes,
            evidence.series_and_pair_findings(
                *arms, ratios, self._target, evidence.why_not_paired(self.rows.record, paired=d is not None)
            ),
            evidence.output_findings(measures, cubes[1], None if d is None else cubes[0]),
            evidence.jump_findings(
                *(measures.columns.number(n)[cubes[1]] for n in ("draft_tokens", "accepted_tokens"))
            ),
            estimates,
            measures.finished(cubes),
            measures.energy_j_per_token(cubes[0]),
            measures.energy_j_per_token(cubes[1]),
            strict=True,
        )
        pairs = 0 if d is None else len(d)
        return [
            _View(
                vanilla=vanilla,
                speculative=speculative,
                ratio=ratio,
                findings=(*outcome, *series, *output, *jump),
                acceptance=estimate,
                pairs=pairs,
                finished_at=finished_at,
                energy_vanilla=energy_vanilla,
                energy_speculative=energy_speculative,
            )
            for (
                vanilla,
                speculative,
                ratio,
                outcome,
                series,
                output,
                jump,
                estimate,
                finished_at,
                energy_vanilla,
                energy_speculative,
            ) in columns
        ]

    def _outcome_findings(self) -> list[list[Finding]]:
        """For each prompt, its runs that are not averaged; nothing to look up where all runs are good."""
        import numpy as np

        rows, measures = self.rows, self.measures
        prompts = range(len(rows.prompts))
        everything = evidence.all_rows(rows)
        if measures.usable[everything].all():
            return [[] for _ in prompts]
        findings = []
        for p in prompts:
            others = rows.others[self.arrangement.prompt[rows.others] == rows.prompts[p]]
            attempts = np.concatenate([rows.speculative[:, p], rows.vanilla[:, p], others])
            findings.append(evidence.outcome_findings(measures, attempts[attempts >= 0]))
        return findings

    def _whole(
        self,
        per_prompt: list[Comparison],
        counts: list[acceptance.Counts | None],
        vanilla: Any,
        speculative: Any,
        machine: tuple[Finding, ...],
        *,
        paired: bool,
    ) -> Comparison:
        """The job over its prompt set: an iteration's sample is the suite's."""
        measures = self.measures
        cubes = complete(vanilla, speculative, paired=paired)
        view = self._whole_view(cubes, counts, paired=paired)
        population = over_prompts([row.speedup_gm for row in per_prompt])
        outcomes = evidence.outcome_findings(measures, evidence.all_rows(self.rows))
        missing = evidence.incomplete_findings(len(self.rows.speculative), len(cubes[1]), paired=paired)
        view = replace(
            view,
            ratio=view.ratio.or_population(population),
            findings=(*outcomes, *view.findings, *missing, *machine),
        )
        ranked = [row for row in per_prompt if row.speedup_gm is not None]
        return replace(
            self._comparison(view, self._lead_row, whole=True),
            population_low=population.interval.low if population.interval else None,
            population_high=population.interval.high if population.interval else None,
            suite_speedup=measures.suite_speedup(*cubes) if paired else None,
            worst_prompt=min(ranked, key=lambda row: row.speedup_gm or 0.0).prompt_id if len(ranked) > 1 else None,
        )

    def _whole_view(self, cubes: tuple[Any, Any], counts: list[acceptance.Counts | None], *, paired: bool) -> _View:
        """The suite as one comparison: rows of all its prompts count as its runs."""
        measures = self.measures
        arms = measures.suite(cubes[0]), measures.suite(cubes[1])
        d = measures.pass_log_ratios(*cubes) if paired else None
        estimate = acceptance.estimate([c for c in counts if c is not None], self._n_draft)
        flat = tuple(cube.reshape(-1, 1) for cube in cubes)
        (view,) = self._views(arms, d, (flat[0], flat[1]), [[]], [estimate])
        drafted, accepted = (
            measures.columns.number(name)[cubes[1]].sum(axis=1, keepdims=True)
            for name in ("draft_tokens", "accepted_tokens")
        )
        kept = tuple(finding for finding in view.findings if finding.code != "acceptance_jump")
        return replace(view, findings=(*kept, *evidence.jump_findings(drafted, accepted)[0]))

    def _comparison(self, view: _View, row: int, *, whole: bool) -> Comparison:
        interval = view.ratio.interval
        expectation = self.costs.expectation(self.job, view.acceptance.tokens_per_round if view.acceptance else None)
        speeds = _tps(view.vanilla), _tps(view.speculative)
        measured = view.vanilla is not None or view.speculative is not None
        return Comparison(
            **self._parameters,
            **self._prompt(row, whole=whole),
            iterations=len(self.rows.speculative),
            n_pairs=view.pairs,
            vanilla=view.vanilla,
            speculative=view.speculative,
            speedup=speedup(*speeds),
            speedup_stddev=speedup_stddev(*speeds),
            speedup_gm=view.ratio.ratio,
            ci_low=interval.low if interval else None,
            ci_high=interval.high if interval else None,
            ci_method=interval.method if interval else None,
            acceptance=view.acceptance,
            cost_ratio=expectation.cost_ratio if expectation else None,
            expected_speedup=expectation.expected_speedup if expectation else None,
            verdict=verdict_of(interval, view.findings, target=self._target, measured=measured),
            findings=view.findings,
            finished_at=view.finished_at,
            energy_j_per_token_vanilla=view.energy_vanilla,
            energy_j_per_token_speculative=view.energy_speculative,
        )

    @cached_property
    def _n_draft(self) -> int:
        return int(self.measures.columns.integer("n_draft")[self._lead_row])

    @cached_property
    def _lead_row(self) -> int:
        return int(_there(self._lead_cube)[0])

    @property
    def _lead_cube(self) -> Any:
        return self.rows.vanilla if self.job.speculative is None else self.rows.speculative

    def _own_rows(self) -> list[int]:
        """A row of each prompt, for its text and category."""
        return [int(row) for row in self._lead_cube.max(axis=0)]

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """The job's parameters as its first row has them (its record's, where a shared row can't say)."""
        columns, row, record = self.measures.columns, self._lead_row, self.rows.record
        number = columns.number("job_num")[row]
        texts = ("main_model", "prompt_set", "host", "device", "engine", "llama_cpp_build")
        return {
            "job_id": self.rows.job_id,
            "job_num": record.num if record else (int(number) if number == number else None),
            "model_pair": (record.model_pair if record else None) or columns.text("model_pair").at(row) or "",
            "draft_model": record.draft_model if record else columns.text("draft_model").at(row),
            "speculation": (record.speculation if record else None) or columns.text("speculation").at(row) or "",
            "n_draft": self._n_draft,
            "n_predict": int(columns.integer("n_predict")[row]),
            **{name: columns.text(name).at(row) or "" for name in texts},
        }

    def _prompt(self, row: int, *, whole: bool) -> dict[str, Any]:
        """What a comparison says of its prompt; a whole set of several says nothing."""
        columns = self.measures.columns
        if whole:
            return {"prompt_id": None, "prompt": None, "prompt_category": None}
        return {
            "prompt_id": columns.text("prompt_id").at(row) or "",
            "prompt": columns.text("prompt").at(row),
            "prompt_category": columns.text("prompt_category").at(row),
        }

    def _machine_findings(self, vanilla: Any, speculative: Any) -> tuple[Finding, ...]:
        import numpy as np

        rows = np.concatenate([vanilla.ravel(), speculative.ravel()])
        findings = evidence.machine_findings(self.measures, rows[rows >= 0], self.logical_cores)
        findings += untrusted_findings(self.measures, self.looks, vanilla[vanilla >= 0])
        if self.rows.ambiguous:
            findings.append(Finding(code="ambiguous_baseline", severity="warning", subject="vanilla"))
        return tuple(findings)


def _there(rows: Any) -> Any:
    return rows[rows >= 0]


def _tps(statistics: ModeStatistics | None) -> Statistics | None:
    return None if statistics is None else statistics.tokens_per_second


def _log_ratios(vanilla: ArmSeries, speculative: ArmSeries) -> Any:
    import numpy as np

    return np.log(speculative.tokens_per_second / vanilla.tokens_per_second)
