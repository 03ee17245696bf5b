"""One job of a table of samples: which of its runs are compared, and the comparisons made of their figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from velosweep.config.settings import Adaptive
from velosweep.statistics import acceptance
from velosweep.statistics.comparison import Acceptance, Comparison, Finding, ModeStatistics, warning
from velosweep.statistics.comparison_figures import ComparedRuns, Design, PairedStatistics
from velosweep.statistics.findings import RecoveryProbes, machine_findings, outcome_findings, untrusted_findings
from velosweep.statistics.intervals import OVER_PROMPTS, Interval, Ratio, t_ratio
from velosweep.statistics.pairing import FoundJob, IndexedRuns, job_rows
from velosweep.statistics.runs import Runs, all_rows, present_rows, suite_prompts, used_rows
from velosweep.statistics.speculation_cost import JobCost, expected_speedup
from velosweep.values import SHORTEST_DRAFTED, Verdict

_FIGURES = {field.name for field in fields(PairedStatistics)} & {field.name for field in fields(Comparison)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """What all jobs of a table of samples have in common."""

    arrangement: IndexedRuns
    runs: Runs
    costs: Mapping[int | None, JobCost]  # by the index of a speculative owner
    probes: RecoveryProbes


class ComparedJob:
    """One job: `compared` is to be turned into figures, from which `comparisons` are made."""

    def __init__(self, analysis: Analysis, found: FoundJob) -> None:
        self.analysis = analysis
        self.found = found
        self.rows = job_rows(analysis.arrangement, found)
        self.vanilla, self.speculative, paired = used_rows(analysis.runs, self.rows)
        self.record = record = found.record
        interleaved = record is not None and record.order != "block"
        self.design = Design(
            paired=paired,
            not_paired="passes" if not paired else "repeats" if interleaved else "pairs",
            target=record.adaptive_target if record else None,
            confidence=(record.adaptive_confidence if record else None) or Adaptive().confidence,
        )

    @cached_property
    def compared(self) -> list[ComparedRuns]:
        """Each prompt's runs, then where there are several the passes in which the whole suite was measured."""
        prompts = [
            self._compared(present_rows(vanilla), present_rows(speculative), [code])
            for vanilla, speculative, code in zip(self.vanilla.T, self.speculative.T, self.rows.prompts, strict=True)
        ]
        if len(prompts) < 2:
            return prompts
        suite = (rows[:, self._in_suite] for rows in (self.vanilla, self.speculative))
        vanilla, speculative = (rows[(rows >= 0).all(axis=1)] for rows in suite)
        return [*prompts, self._compared(vanilla, speculative, self.rows.prompts[self._in_suite])]

    def _compared(self, vanilla: Any, speculative: Any, prompts: Sequence[int]) -> ComparedRuns:
        owner = self.analysis.arrangement.owners[self.found.vanilla] if self.found.vanilla is not None else None
        table = f"{owner.sweep_id} {owner.job_id} prompts {' '.join(map(str, prompts))}" if owner else ""
        return ComparedRuns(vanilla=vanilla, speculative=speculative, design=self.design, table=table)

    def comparisons(self, figures: Sequence[PairedStatistics]) -> list[Comparison]:
        """One for each prompt, then the job's. `figures`: of each of `compared`."""
        count, columns = len(self.rows.prompts), self.analysis.runs.columns
        all_good = self.analysis.runs.usable[all_rows(self.rows)].all()
        per_prompt = []
        for p, (found, row) in enumerate(zip(figures[:count], self._lead_rows.max(axis=0).tolist(), strict=True)):
            accepted = acceptance.estimate([found.counts], self.n_draft) if found.counts else None
            outcomes = [] if all_good else outcome_findings(self.analysis.runs, present_rows(self._every_run(p)))
            findings = [*outcomes, *found.findings]
            prompt = {name: columns.text(name).at(row) for name in ("prompt_id", "prompt", "prompt_category")}
            prompt["prompt_id"] = prompt["prompt_id"] or ""
            row_of_prompt = self._comparison(found, found.ratio, findings, accepted, **prompt)
            per_prompt.append(replace(row_of_prompt, turn=int(columns.integer("turn")[row]) or None))
        rows = present_rows(np.concatenate([self.vanilla.ravel(), self.speculative.ravel()]))
        machine = machine_findings(self.analysis.runs, rows)
        machine += untrusted_findings(self.analysis.runs, self.analysis.probes, present_rows(self.vanilla))
        if self.found.ambiguous:
            machine.append(warning("ambiguous_baseline", "vanilla", {}))
        if count > 1:
            return [*per_prompt, self._whole(per_prompt, figures, machine)]
        (only,), (of_only,) = per_prompt, figures
        all_findings = (*only.findings, *machine)
        return [only, replace(only, prompt_id=None, turn=None, findings=all_findings, by_round=of_only.by_round)]

    def _whole(
        self, per_prompt: list[Comparison], figures: Sequence[PairedStatistics], machine: list[Finding]
    ) -> Comparison:
        """The job over its prompt set: an iteration's sample is the suite's."""
        prompts, suite = list(compress(figures, self._in_suite)), figures[-1]
        suite = replace(suite, drafted=_in_any({found.drafted for found in prompts}))
        runs, passes = self.analysis.runs, len(self.rows.speculative)
        findings = outcome_findings(runs, all_rows(self.rows)) + suite.findings
        if self.design.paired and suite.n_pairs < passes:
            findings.append(warning("incomplete_passes", "pairs", {"passes": passes - suite.n_pairs, "of": passes}))
        findings += self._left_out(per_prompt)
        in_suite = compress(per_prompt, self._in_suite)
        ranked = [(row.speedup_gm, row.prompt_id) for row in in_suite if row.speedup_gm is not None]
        population = t_ratio([math.log(ratio) for ratio, _ in ranked], method=OVER_PROMPTS)
        ratio = suite.ratio
        if ratio.ratio is not None and ratio.interval is None and population.interval is not None:
            ratio = Ratio(ratio=ratio.ratio, interval=population.interval)  # prompts are all the repetition there is
        accepted = acceptance.estimate([found.counts for found in prompts if found.counts], self.n_draft)
        return replace(
            self._comparison(suite, ratio, findings + machine, accepted),
            by_round=suite.by_round,
            population_low=population.interval.low if population.interval else None,
            population_high=population.interval.high if population.interval else None,
            suite_speedup=suite.suite_speedup,
            worst_prompt=min(ranked, key=lambda entry: entry[0])[1] if len(ranked) > 1 else None,
        )

    def _comparison(
        self,
        figures: PairedStatistics,
        ratio: Ratio,
        findings: list[Finding],
        accepted: Acceptance | None,
        prompt_id: str | None = None,
        prompt: str | None = None,
        prompt_category: str | None = None,
    ) -> Comparison:
        interval, drafted = ratio.interval, figures.drafted
        if drafted is False:
            short = self._parameters["n_predict"] < SHORTEST_DRAFTED
            findings = [
                *findings,
                warning("nothing_drafted", "short" if short else self._parameters["speculation"], {}),
            ]
        speculates = self.found.speculative is not None or (self.record is not None and self.record.n_draft > 0)
        measured = figures.speculative is not None or (figures.vanilla is not None and not speculates)
        own = {name: getattr(figures, name) for name in _FIGURES}
        return Comparison(
            **self._parameters,
            **own | {"findings": tuple(findings), "by_round": None, "suite_speedup": None},
            prompt_id=prompt_id,
            prompt=prompt,
            prompt_category=prompt_category,
            iterations=len(self.rows.speculative),
            speedup=speedup(figures.vanilla, figures.speculative),
            speedup_stddev=speedup_stddev(figures.vanilla, figures.speculative),
            speedup_gm=ratio.ratio,
            ci_low=interval.low if interval else None,
            ci_high=interval.high if interval else None,
            ci_method=interval.method if interval else None,
            standard_error=interval.standard_error if interval else None,
            df=interval.df if interval else None,
            acceptance=accepted,
            **_of_costs(self.analysis.costs.get(self.found.speculative), accepted),
            verdict=_verdict(interval, findings, target=self.design.target, measured=measured, drafted=drafted),
        )

    @cached_property
    def _in_suite(self) -> Any:
        return suite_prompts(self.analysis.runs, self.rows, self.vanilla, self.speculative)

    def _left_out(self, per_prompt: Sequence[Comparison]) -> list[Finding]:
        """The finding on prompts that are not in the job's figures, with the last error of the first of them."""
        out = np.flatnonzero(~self._in_suite)
        if not len(out):
            return []
        columns, rows = self.analysis.runs.columns, present_rows(self._every_run(int(out[0])))
        reasons = [columns.text("error").at(row) for row in rows[~self.analysis.runs.usable[rows]].tolist()]
        evidence: dict[str, float | int | str] = {
            "prompts": len(out),
            "of": len(per_prompt),
            "names": ", ".join(per_prompt[p].prompt_id or "" for p in out.tolist()),
            "reason": next((reason for reason in reversed(reasons) if reason), "its runs failed"),
        }
        return [warning("prompts_left_out", "prompts", evidence)]

    def _every_run(self, p: int) -> Any:
        """Rows of all counted runs of a prompt, repeated attempts first; -1 where there is none."""
        rows = self.rows
        others = rows.others[self.analysis.arrangement.prompt[rows.others] == rows.prompts[p]]
        return np.concatenate([others, rows.vanilla[:, p], rows.speculative[:, p]])

    @cached_property
    def n_draft(self) -> int:
        if self.found.speculative is None and self.record is not None:
            return self.record.n_draft  # the vanilla row is of many jobs
        return int(self.analysis.runs.columns.integer("n_draft")[self._first_row])

    @cached_property
    def _lead_rows(self) -> Any:
        return self.rows.vanilla if self.found.speculative is None else self.rows.speculative

    @cached_property
    def _first_row(self) -> int:
        return int(present_rows(self._lead_rows)[0])

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """The job's parameters as its first row has them (its record's, where a shared row can't say)."""
        columns, row, record = self.analysis.runs.columns, self._first_row, self.record
        number = columns.integer("job_num", -1)[row]
        texts = ("main_model", "prompt_set", "host", "device", "engine", "llama_cpp_build")
        return {
            "job_id": self.rows.job_id,
            "job_num": record.num if record else (int(number) if number >= 0 else None),
            "model_pair": (record.model_pair if record else None) or columns.text("model_pair").at(row) or "",
            "draft_model": record.draft_model if record else columns.text("draft_model").at(row),
            "speculation": (record.speculation if record else None) or columns.text("speculation").at(row) or "",
            "settings": record.settings if record else {},
            "n_draft": self.n_draft,
            "n_predict": int(columns.integer("n_predict")[row]),
            "concurrency": int(columns.integer("concurrency", 1)[row]),
            "depth": int(columns.integer("depth")[row]),
            **{name: columns.text(name).at(row) or "" for name in texts},
        }


def _in_any(drafted: set[bool | None]) -> bool | None:
    """Whether anything was drafted for any prompt, from what is known of each."""
    return True if True in drafted else None if None in drafted else False


def _of_costs(cost: JobCost | None, accepted: Acceptance | None) -> dict[str, Any]:
    """What is known of a job's costs; the speedup is expected if verifying a batch cost no more than a single token."""
    if cost is None:
        return {"cost_ratio": None, "expected_speedup": None}
    tokens, expected = accepted.tokens_per_round if accepted else None, None
    if cost.cost_ratio is not None and tokens is not None:
        expected = expected_speedup(tokens, cost.drafted, cost.cost_ratio)
    known = {"cost_ratio": cost.cost_ratio, "cost_source": cost.source, "decoding": cost.decoding}
    return {**known, "expected_speedup": expected}


def speedup(vanilla: ModeStatistics | None, speculative: ModeStatistics | None) -> float | None:
    """The specification's mean(speculative) / mean(vanilla); None where either is missing."""
    if vanilla is None or speculative is None:
        return None
    return speculative.tokens_per_second.mean / vanilla.tokens_per_second.mean


def speedup_stddev(vanilla: ModeStatistics | None, speculative: ModeStatistics | None) -> float | None:
    """The specification's propagated error: the spread of a ratio of two single runs; it does not shrink with n."""
    if vanilla is None or speculative is None:
        return None
    v, s = vanilla.tokens_per_second, speculative.tokens_per_second
    if v.stddev is None or s.stddev is None:
        return None
    return s.mean / v.mean * math.hypot(s.stddev / s.mean, v.stddev / v.mean)


def _verdict(
    interval: Interval | None,
    findings: Sequence[Finding],
    *,
    target: float | None,
    measured: bool,
    drafted: bool | None,
) -> Verdict:
    """`invalid` with an error finding or nothing measured; else by the interval.

    What drafted nothing is never `faster`: whatever its interval, it decoded as vanilla does.

    An adaptive job that missed its target is `not_converged` only while its interval holds 1: a wide interval above 1
    is an answer, and the finding tells its width.
    """
    if not measured or any(finding.severity == "error" for finding in findings):
        return Verdict.INVALID
    if interval is not None and interval.low > 1 and drafted is not False:
        return Verdict.FASTER
    if interval is not None and interval.high < 1:
        return Verdict.SLOWER
    if target is not None and (interval is None or interval.half_width > target):
        return Verdict.NOT_CONVERGED
    return Verdict.NO_RELIABLE_GAIN
