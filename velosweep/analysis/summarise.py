"""From samples to comparisons: one a job and prompt, and one a job. Independent of the order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from velosweep.analysis import acceptance, evidence
from velosweep.analysis.columns import columns_of
from velosweep.analysis.costs import Costs, costs_of
from velosweep.analysis.measures import ArmSeries, Measures, complete, measures_of, used_cubes
from velosweep.analysis.pairing import Arrangement, FoundJob, JobRows, arrange, find_jobs, job_rows
from velosweep.analysis.ratio import Ratio, over_passes, over_prompts, unpaired, verdict_of
from velosweep.analysis.speedup import speedup, speedup_stddev
from velosweep.model import Acceptance, Comparison, Finding, JobRecord, ModeStatistics, Statistics

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


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
    for job in found:
        yield _Summary(
            arrangement=arrangement,
            measures=measures,
            job=job,
            rows=job_rows(arrangement, job),
            costs=costs,
            logical_cores=logical_cores,
        ).comparisons()


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """What one comparison is computed from: both arms' series, the rows behind them and their ratio."""

    vanilla: ArmSeries
    speculative: ArmSeries
    rows: Any
    ratio: Ratio
    findings: tuple[Finding, ...]
    acceptance: Acceptance | None
    pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Summary:
    """The comparisons of one job."""

    arrangement: Arrangement
    measures: Measures
    job: FoundJob
    rows: JobRows
    costs: Costs
    logical_cores: int | None

    def comparisons(self) -> list[Comparison]:
        """One for each prompt, then the job's."""
        vanilla, speculative, paired = used_cubes(self.measures, self.rows)
        views = [
            self._prompt_view(p, vanilla[:, p], speculative[:, p], paired=paired) for p in range(len(self.rows.prompts))
        ]
        per_prompt = [self._comparison(view, prompt) for prompt, view in zip(self.rows.prompts, views, strict=True)]
        machine = self._machine_findings(vanilla, speculative)
        if len(views) > 1:
            return [*per_prompt, self._whole(per_prompt, views, vanilla, speculative, machine, paired=paired)]
        findings = per_prompt[0].findings + machine
        return [*per_prompt, replace(per_prompt[0], prompt_id=None, findings=findings)]

    @property
    def _target(self) -> float | None:
        return self.rows.record.adaptive_target if self.rows.record else None

    def _prompt_view(self, p: int, vanilla: Any, speculative: Any, *, paired: bool) -> _View:
        import numpy as np

        measures = self.measures
        vanilla, speculative = vanilla[vanilla >= 0], speculative[speculative >= 0]
        arms = measures.series(vanilla), measures.series(speculative)
        d = np.log(arms[1].tokens_per_second / arms[0].tokens_per_second) if paired else None
        ratio = over_passes(*arms, d, adaptive=self._target is not None) if d is not None else unpaired(*arms)
        own = [self.rows.speculative[:, p], self.rows.vanilla[:, p]]
        attempts = np.concatenate(
            [*own, self.rows.others[self.arrangement.prompt[self.rows.others] == self.rows.prompts[p]]]
        )
        findings = [
            *evidence.outcome_findings(measures, attempts[attempts >= 0]),
            *evidence.series_and_pair_findings(*arms, ratio, self._target),
            *evidence.output_findings(measures, speculative, vanilla if paired else None),
            *evidence.jump_findings(measures, speculative[:, None]),
        ]
        counts = measures.counts(speculative)
        return _View(
            vanilla=arms[0],
            speculative=arms[1],
            rows=np.concatenate([vanilla, speculative]),
            ratio=ratio,
            findings=tuple(findings),
            acceptance=None if counts is None else acceptance.estimate([counts], self._n_draft),
            pairs=len(speculative) if paired else 0,
        )

    def _whole(
        self,
        per_prompt: list[Comparison],
        views: list[_View],
        vanilla: Any,
        speculative: Any,
        machine: tuple[Finding, ...],
        *,
        paired: bool,
    ) -> Comparison:
        """The job over its prompt set: an iteration's sample is the suite's."""
        import numpy as np

        measures = self.measures
        rows = np.concatenate([vanilla.ravel(), speculative.ravel()])
        full_vanilla, full_speculative = complete(vanilla, speculative, paired=paired)
        arms = measures.suite(full_vanilla), measures.suite(full_speculative)
        d = measures.pass_log_ratios(full_vanilla, full_speculative) if paired else None
        passes = over_passes(*arms, d, adaptive=self._target is not None) if d is not None else unpaired(*arms)
        population = over_prompts([view.ratio.mean_log for view in views])
        ratio = passes.or_population(population)
        everything = evidence.all_rows(self.rows)
        flat_s, flat_v = full_speculative.ravel(), full_vanilla.ravel()
        findings = [
            *evidence.outcome_findings(measures, everything),
            *evidence.series_and_pair_findings(*arms, ratio, self._target),
            *evidence.output_findings(measures, flat_s, flat_v if paired else None),
            *evidence.jump_findings(measures, full_speculative),
            *evidence.incomplete_findings(len(self.rows.speculative), len(full_speculative), paired=paired),
            *machine,
        ]
        counts = [c for p in range(len(views)) if (c := measures.counts(_there(speculative[:, p]))) is not None]
        view = _View(
            vanilla=arms[0],
            speculative=arms[1],
            rows=rows[rows >= 0],
            ratio=ratio,
            findings=tuple(findings),
            acceptance=acceptance.estimate(counts, self._n_draft),
            pairs=len(full_speculative) if paired else 0,
        )
        ranked = [row for row in per_prompt if row.speedup_gm is not None]
        return replace(
            self._comparison(view, None),
            population_low=population.interval.low if population.interval else None,
            population_high=population.interval.high if population.interval else None,
            suite_speedup=measures.suite_speedup(full_vanilla, full_speculative) if paired else None,
            worst_prompt=min(ranked, key=lambda row: row.speedup_gm or 0.0).prompt_id if len(ranked) > 1 else None,
        )

    def _comparison(self, view: _View, prompt: int | None) -> Comparison:
        vanilla, speculative = view.vanilla.statistics(), view.speculative.statistics()
        interval = view.ratio.interval
        expectation = self.costs.expectation(self.job, view.acceptance.tokens_per_round if view.acceptance else None)
        measures = self.measures
        vanilla_rows, speculative_rows = measures.by_mode(view.rows)
        return Comparison(
            **self._parameters(prompt),
            iterations=len(self.rows.speculative),
            n_pairs=view.pairs,
            vanilla=vanilla,
            speculative=speculative,
            speedup=speedup(_tps(vanilla), _tps(speculative)),
            speedup_stddev=speedup_stddev(_tps(vanilla), _tps(speculative)),
            speedup_gm=view.ratio.ratio,
            ci_low=interval.low if interval else None,
            ci_high=interval.high if interval else None,
            ci_method=interval.method if interval else None,
            acceptance=view.acceptance,
            cost_ratio=expectation.cost_ratio if expectation else None,
            expected_speedup=expectation.expected_speedup if expectation else None,
            verdict=verdict_of(interval, view.findings, target=self._target, measured=bool(len(view.rows))),
            findings=view.findings,
            finished_at=self._finished(view.rows),
            energy_j_per_token_vanilla=measures.energy_j_per_token(vanilla_rows),
            energy_j_per_token_speculative=measures.energy_j_per_token(speculative_rows),
        )

    @property
    def _n_draft(self) -> int:
        return int(self.measures.columns.integer("n_draft")[self._lead_row])

    @property
    def _lead_row(self) -> int:
        cube = self.rows.vanilla if self.job.speculative is None else self.rows.speculative
        return int(cube[cube >= 0][0])

    def _parameters(self, prompt: int | None) -> dict[str, Any]:
        """The job's parameters as its first row has them (its record's, where a shared row can't say)."""
        columns, row, record = self.measures.columns, self._lead_row, self.rows.record
        single = len(self.rows.prompts) == 1
        if prompt is not None:
            code = int(prompt)
            cube = self.rows.vanilla if self.job.speculative is None else self.rows.speculative
            cube = cube[cube >= 0]
            own = int(cube[self.arrangement.prompt[cube] == code][0])
        else:
            own = row
        number = columns.number("job_num")[row]
        texts = ("main_model", "prompt_set", "host", "device", "engine", "llama_cpp_build")
        return {
            "job_id": self.rows.job_id,
            "job_num": record.num if record else (int(number) if number == number else None),
            "model_pair": (record.model_pair if record else None) or columns.text("model_pair").at(row) or "",
            "draft_model": record.draft_model if record else columns.text("draft_model").at(row),
            "speculation": (record.speculation if record else None) or columns.text("speculation").at(row) or "",
            "n_draft": int(columns.integer("n_draft")[row]),
            "n_predict": int(columns.integer("n_predict")[row]),
            "prompt_id": columns.text("prompt_id").at(own) or "" if prompt is not None else None,
            "prompt": columns.text("prompt").at(own) if prompt is not None or single else None,
            "prompt_category": columns.text("prompt_category").at(own) if prompt is not None or single else None,
            **{name: columns.text(name).at(row) or "" for name in texts},
        }

    def _machine_findings(self, vanilla: Any, speculative: Any) -> tuple[Finding, ...]:
        import numpy as np

        rows = np.concatenate([vanilla.ravel(), speculative.ravel()])
        findings = evidence.machine_findings(self.measures, rows[rows >= 0], self.logical_cores)
        if self.rows.ambiguous:
            findings.append(Finding(code="ambiguous_baseline", severity="warning", subject="vanilla"))
        return tuple(findings)

    def _finished(self, rows: Any) -> datetime | None:
        """When the last run that counts ended: the same whenever it is computed."""
        us = int(self.measures.finished_us[rows].max()) if len(rows) else -1
        return _EPOCH + timedelta(microseconds=us) if us >= 0 else None


def _there(rows: Any) -> Any:
    return rows[rows >= 0]


def _tps(statistics: ModeStatistics | None) -> Statistics | None:
    return None if statistics is None else statistics.tokens_per_second
