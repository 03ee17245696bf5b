"""One job of a table of samples: its rows, and the comparisons made of what its series say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from velosweep.statistics import evidence
from velosweep.statistics.comparison import Comparison, Finding, ModeStatistics, Statistics
from velosweep.statistics.cooling import Looks, untrusted_findings
from velosweep.statistics.costs import Costs
from velosweep.statistics.intervals import speedup, speedup_stddev
from velosweep.statistics.measures import Measures, used_cubes
from velosweep.statistics.pairing import Arrangement, FoundJob, JobRows
from velosweep.statistics.ratio import over_prompts, verdict_of
from velosweep.statistics.views import Design, View, with_findings


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """What all jobs of a table have in common."""

    arrangement: Arrangement
    measures: Measures
    costs: Costs
    looks: Looks
    logical_cores: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobViews:
    """What a job's runs say: of each prompt, and of the set where it has several prompts."""

    prompts: list[View]
    suite: View | None
    suite_speedup: float | None
    whole_passes: int


class Job:
    """One job of a table: its rows, and the comparisons made of them."""

    def __init__(self, *, table: Table, found: FoundJob, rows: JobRows) -> None:
        self.table = table
        self.found = found
        self.rows = rows
        self.vanilla, self.speculative, paired = used_cubes(table.measures, rows)
        self.design = Design(
            paired=paired,
            not_paired=evidence.why_not_paired(rows.record, paired=paired),
            target=rows.record.adaptive_target if rows.record else None,
        )

    @cached_property
    def regular(self) -> bool:
        """Whether every run is there and paired."""
        return self.design.paired and bool((self.vanilla >= 0).all())

    @property
    def shape(self) -> object:
        """Equal for jobs whose series can be columns of one array."""
        launch = self.table.measures.columns.integer("launch")[self.vanilla[:, 0]]
        return self.vanilla.shape, launch.tobytes(), self.design

    def comparisons(self, views: JobViews) -> list[Comparison]:
        """One for each prompt, then the job's."""
        outcomes = self._outcome_findings()
        per_prompt = [
            self._comparison(with_findings(view, before=outcome), row, whole=False)
            for view, outcome, row in zip(views.prompts, outcomes, self._own_rows(), strict=True)
        ]
        machine = self._machine_findings()
        if views.suite is None:
            findings = per_prompt[0].findings + machine
            return [*per_prompt, replace(per_prompt[0], prompt_id=None, findings=findings)]
        return [*per_prompt, self._whole(per_prompt, views, views.suite, machine)]

    def _outcome_findings(self) -> list[list[Finding]]:
        """For each prompt, its runs that are not averaged; nothing to look up where all runs are good."""
        import numpy as np

        rows, measures = self.rows, self.table.measures
        prompts = range(len(rows.prompts))
        everything = evidence.all_rows(rows)
        if measures.usable[everything].all():
            return [[] for _ in prompts]
        findings = []
        for p in prompts:
            others = rows.others[self.table.arrangement.prompt[rows.others] == rows.prompts[p]]
            attempts = np.concatenate([rows.speculative[:, p], rows.vanilla[:, p], others])
            findings.append(evidence.outcome_findings(measures, attempts[attempts >= 0]))
        return findings

    def _whole(
        self, per_prompt: list[Comparison], views: JobViews, view: View, machine: tuple[Finding, ...]
    ) -> Comparison:
        """The job over its prompt set: an iteration's sample is the suite's."""
        population = over_prompts([row.speedup_gm for row in per_prompt])
        outcomes = evidence.outcome_findings(self.table.measures, evidence.all_rows(self.rows))
        missing = evidence.incomplete_findings(
            len(self.rows.speculative), views.whole_passes, paired=self.design.paired
        )
        view = with_findings(view, before=outcomes, after=(*missing, *machine))
        view = replace(view, ratio=view.ratio.or_population(population))
        ranked = [row for row in per_prompt if row.speedup_gm is not None]
        return replace(
            self._comparison(view, self._lead_row, whole=True),
            population_low=population.interval.low if population.interval else None,
            population_high=population.interval.high if population.interval else None,
            suite_speedup=views.suite_speedup,
            worst_prompt=min(ranked, key=lambda row: row.speedup_gm or 0.0).prompt_id if len(ranked) > 1 else None,
        )

    def _comparison(self, view: View, row: int, *, whole: bool) -> Comparison:
        interval = view.ratio.interval
        expectation = self.table.costs.expectation(
            self.found, view.acceptance.tokens_per_round if view.acceptance else None
        )
        speeds = _tps(view.vanilla), _tps(view.speculative)
        measured = view.speculative is not None or (view.vanilla is not None and not self._speculates)
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
            verdict=verdict_of(interval, view.findings, target=self.design.target, measured=measured),
            findings=view.findings,
            finished_at=view.finished_at,
            energy_j_per_token_vanilla=view.energy_vanilla,
            energy_j_per_token_speculative=view.energy_speculative,
        )

    @property
    def _speculates(self) -> bool:
        """Whether speculative runs belong to the job, be there any or not."""
        return self.found.speculative is not None or (self.rows.record is not None and self.rows.record.n_draft > 0)

    @cached_property
    def n_draft(self) -> int:
        """The job's draft length."""
        if self.found.speculative is None and self.rows.record is not None:
            return self.rows.record.n_draft  # the vanilla row is of many
        return int(self.table.measures.columns.integer("n_draft")[self._lead_row])

    @cached_property
    def _lead_row(self) -> int:
        return int(there(self._lead_cube)[0])

    @property
    def _lead_cube(self) -> Any:
        return self.rows.vanilla if self.found.speculative is None else self.rows.speculative

    def _own_rows(self) -> list[int]:
        """A row of each prompt, for its text and category."""
        return [int(row) for row in self._lead_cube.max(axis=0)]

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """The job's parameters as its first row has them (its record's, where a shared row can't say)."""
        columns, row, record = self.table.measures.columns, self._lead_row, self.rows.record
        number = columns.number("job_num")[row]
        texts = ("main_model", "prompt_set", "host", "device", "engine", "llama_cpp_build")
        return {
            "job_id": self.rows.job_id,
            "job_num": record.num if record else (int(number) if number == number else None),
            "model_pair": (record.model_pair if record else None) or columns.text("model_pair").at(row) or "",
            "draft_model": record.draft_model if record else columns.text("draft_model").at(row),
            "speculation": (record.speculation if record else None) or columns.text("speculation").at(row) or "",
            "n_draft": self.n_draft,
            "n_predict": int(columns.integer("n_predict")[row]),
            **{name: columns.text(name).at(row) or "" for name in texts},
        }

    def _prompt(self, row: int, *, whole: bool) -> dict[str, Any]:
        """What a comparison says of its prompt; a whole set of several says nothing."""
        columns = self.table.measures.columns
        if whole:
            return {"prompt_id": None, "prompt": None, "prompt_category": None}
        return {
            "prompt_id": columns.text("prompt_id").at(row) or "",
            "prompt": columns.text("prompt").at(row),
            "prompt_category": columns.text("prompt_category").at(row),
        }

    def _machine_findings(self) -> tuple[Finding, ...]:
        import numpy as np

        rows = np.concatenate([self.vanilla.ravel(), self.speculative.ravel()])
        findings = evidence.machine_findings(self.table.measures, rows[rows >= 0], self.table.logical_cores)
        findings += untrusted_findings(self.table.measures, self.table.looks, there(self.vanilla))
        if self.rows.ambiguous:
            findings.append(Finding(code="ambiguous_baseline", severity="warning", subject="vanilla"))
        return tuple(findings)


def there(rows: Any) -> Any:
    """The rows that are there."""
    return rows[rows >= 0]


def _tps(statistics: ModeStatistics | None) -> Statistics | None:
    return None if statistics is None else statistics.tokens_per_second
