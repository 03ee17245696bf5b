from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.reporting import sweeps
from tests.reporting.test_search_words import answer
from tests.strategies import samples_to_table
from velosweep.reporting.html import plotly_script, render_report, table_body
from velosweep.reporting.search_words import search_record
from velosweep.reporting.table import Cell, Column, Table
from velosweep.statistics.comparison import Finding

SWEEPS = ("default_sweep", "large_sweep", "with_failures", "single_job", "skip_vanilla", "modest", "hostile")


def rendered(name: str) -> str:
    made: sweeps.MadeUp = getattr(sweeps, name)()
    return render_report(made.comparisons, made.record, made.samples)


def body(name: str) -> str:
    """The page without Plotly's own script."""
    return rendered(name).replace(plotly_script(), "")


def test_the_same_sweep_gives_the_same_bytes() -> None:
    assert rendered("default_sweep") == rendered("default_sweep")


@pytest.mark.parametrize("name", SWEEPS)
def test_the_page_is_under_six_megabytes_and_needs_no_network(name: str) -> None:
    assert len(rendered(name).encode()) < 6_000_000
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", body(name))
    assert "default-src 'none'" in body(name)


@pytest.mark.parametrize(
    ("engine", "program", "digest", "said"),
    [
        ("embedded", None, None, "within velosweep"),
        ("attached", None, None, None),  # somebody else's
        ("server", None, None, None),  # of several builds
        ("server", "/p/llama-server", "abc", "/p/llama-server (SHA-256 abc)"),
        ("binaries", "/p", None, "/p"),
    ],
)
def test_the_program_that_was_measured_is_named_where_it_is_one(
    engine: str, program: str | None, digest: str | None, said: str | None
) -> None:
    made = sweeps.single_job()
    here = replace(made.record.environment, engine=engine, program=program, program_sha256=digest)
    page = render_report(made.comparisons, replace(made.record, environment=here), made.samples)
    table = page.partition('id="environment"')[2].partition("</table>")[0]
    found = re.search(r"Program</t[hd]>\s*<td[^>]*>(.*?)</td>", table)

    assert (found and found.group(1)) == said


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", SWEEPS)
def test_every_figure_has_a_place_a_title_and_words(name: str) -> None:
    text = body(name)
    outline = Outline()
    outline.feed(text)
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    figures = json.loads(found.group(1))

    assert figures
    assert len(ids) == len(set(ids))
    for chart in figures:
        assert {f"plot-{chart}", f"title-{chart}", f"text-{chart}"} <= set(ids)


@pytest.mark.parametrize("name", SWEEPS)
def test_links_within_the_page_lead_somewhere(name: str) -> None:
    text = body(name)
    targets = re.findall(r'href="#([^"]+)"', text)

    assert targets
    assert all(f'id="{target}"' in text for target in targets)


@pytest.mark.parametrize("name", SWEEPS)
def test_tables_have_a_cell_under_every_heading(name: str) -> None:
    for grid in re.findall(r'<table class="sortable">.*?</table>', body(name), re.DOTALL):
        heading, *rows = grid.split("<tr")[1:]
        assert {row.count("<td") for row in rows} == {heading.count("<th ")}


def test_hostile_names_can_not_act() -> None:
    text = body("hostile")
    outline = Outline()
    outline.feed(text)

    assert "img" not in {tag for tag, _ in outline.tags}
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    assert sum(tag == "script" for tag, _ in outline.tags) == 3
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_key_of_a_server_is_not_on_the_page() -> None:
    made = sweeps.default_sweep()
    command = ("velosweep", "engine.vanilla_url=http://:s3cret@127.0.0.1:8080")
    text = render_report(made.comparisons, replace(made.record, command=command), made.samples)

    assert "s3cret" not in text
    assert "http://:…@127.0.0.1:8080" in text


def test_no_line_breaks_between_a_figure_and_its_unit() -> None:
    text = re.sub(r"<(pre|script|style|td|title).*?</", "", body("with_failures"), flags=re.DOTALL)
    text = re.sub(r' aria-label="[^"]*"', "", text)

    assert re.findall(r".{20}\d (?:%|ms|s|tok/s)[ ,.;)<].{9}", text) == []
    assert len(re.findall(r"\d(?:\u00a0|&nbsp;)%", text)) > 3


@pytest.mark.parametrize("private", ["/home/somebody", "bench-1"])
def test_homes_and_the_host_are_not_named_unless_paths_are_asked_for(private: str) -> None:
    made = sweeps.default_sweep()

    assert private not in rendered("default_sweep")
    assert private in render_report(made.comparisons, made.record, made.samples, show_paths=True)


def test_failed_jobs_come_before_the_answer_which_names_what_weakens_it() -> None:
    text = body("with_failures")

    assert text.index("n_draft 16 failed") < text.index('class="headline"')
    assert text.index('class="headline"') < text.index("Weak evidence: ") < text.index("drifted by -5.7\u00a0%")


def test_settings_that_failed_alike_are_one_sentence_on_the_page() -> None:
    made = sweeps.default_sweep()
    jobs = tuple(
        replace(job, state="failed", error=f"no room (log: /logs/{job.id}.log); use less") for job in made.record.jobs
    )

    page = render_report((), replace(made.record, jobs=jobs))

    assert page.count("failed: no room") == 1
    assert "n_draft 4; n_draft 8; n_draft 12 failed: no room" in page


def test_a_finding_of_a_later_version_is_shown_as_text() -> None:
    made = sweeps.default_sweep()
    unknown = Finding(code="from_the_future", severity="warning", subject="<script>alert(1)</script>")
    rows = [replace(row, findings=(unknown,)) for row in made.comparisons]

    assert "&lt;script&gt;alert(1)&lt;/script&gt;: Finding `from_the_future`." in render_report(rows, made.record)


def test_a_sweep_without_samples_or_results_still_has_a_page() -> None:
    made = sweeps.default_sweep()

    assert "Nothing has results" in render_report([], made.record, None)
    assert "Run the synthetic draft" in render_report(made.comparisons, made.record, made.samples.slice(0, 0))


def test_a_page_without_results_has_no_empty_table_and_says_nothing_of_intervals() -> None:
    text = render_report([], sweeps.default_sweep().record, None).replace(plotly_script(), "")

    assert "Nothing has been measured yet." in text
    assert 'class="sortable"' not in text
    assert "More columns" not in text
    assert "There are no intervals" not in text


def test_only_the_columns_that_are_there_are_needed() -> None:
    made = sweeps.default_sweep()
    samples = made.samples.drop_columns(["load_average", "gpu_clock_mhz", "cpu_busy", "lane", "error"])

    assert "Runs in the order they were taken" in render_report(made.comparisons, made.record, samples)


def test_a_search_is_on_the_page_with_its_candidates_and_how_sure_it_is() -> None:
    made = sweeps.default_sweep()
    search = search_record(answer(certified=False, reason="the budget was used up", max_shortfall=None))

    page = render_report(made.comparisons, replace(made.record, searches=(search,)), made.samples)

    assert "another setting may be faster: the budget was used up" in page
    assert "dropped in round 4" in page
    assert 'href="#search"' in page


def test_where_nothing_could_be_compared_there_is_a_page_all_the_same() -> None:
    made = sweeps.default_sweep()

    page = render_report([], made.record, made.samples)

    assert "Prompts and answers" not in page


def test_an_answer_that_begins_as_vanillas_is_not_said_twice() -> None:
    made = sweeps.default_sweep()
    runs = [replace(run, answer="It is small." if run.iteration == 1 else None) for run in made.runs]

    page = render_report(made.comparisons, made.record, samples_to_table(runs)).replace(plotly_script(), "")

    assert page.count("It is small.") == 1
    assert "n_draft 4, 100 tokens: the same beginning." in page


def test_the_fastest_of_all_main_models_is_on_the_page() -> None:
    assert "Fastest of all: llama8b_1b, n_draft 4: " in body("large_sweep")
    assert "Fastest of all" not in body("default_sweep")


def test_parts_of_decoding_that_show_nowhere_are_not_in_the_legend() -> None:
    assert "draft model reads what is verified" not in body("large_sweep")


def test_prompts_and_answers_of_both_modes_can_be_read_and_do_nothing() -> None:
    made = sweeps.default_sweep()
    said = {"base-synthetic": "It is <b>small</b>.", "job0": "It is tiny.", "job1": "Of another setting."}
    runs = [replace(run, answer=said.get(run.job_id) if run.iteration == 1 else None) for run in made.runs]

    page = render_report(made.comparisons, made.record, samples_to_table(runs)).replace(plotly_script(), "")

    assert "<summary>Prompts and answers</summary>" in page
    assert "It is &lt;b&gt;small&lt;/b&gt;." in page
    assert 'n_draft 4, 100 tokens; the beginning:</p>\n<pre class="text">It is tiny.</pre>' in page
    assert "Of another setting" not in page
    assert "Prompts and answers" not in body("default_sweep")

    streams = samples_to_table([replace(run, concurrency=2) for run in runs])
    assert 'n_draft 4; the beginning:</p>\n<pre class="text">It is tiny.</pre>' in render_report(
        made.comparisons, made.record, streams
    )


def test_a_table_says_how_its_cells_sort_what_they_are_and_which_row_is_advised():
    texts = Column(title="setting", right=False, cells=(Cell(text="8 <b>"), Cell(text="")))
    numbers = Column(title="speedup", cells=(Cell(text="1.23×", value=1.23456789), Cell(text="")))
    verdicts = Column(title="verdict", right=False, cells=(Cell(text="▲", verdict="faster"), Cell(text="q4")))

    table = Table(caption="", columns=(texts, numbers, verdicts), advised=frozenset({1}))

    assert table_body(table).splitlines() == [
        '<tr><td class=whole>8 &lt;b&gt;<td data-v=1.2346>1.23×<td><span class="chip faster">▲</span></tr>',
        '<tr class="best"><td><td class=num>–<td>q4</tr>',
    ]


def test_a_report_holds_its_charts_library_compressed() -> None:
    made = sweeps.default_sweep()

    assert len(render_report(made.comparisons, made.record, made.samples).encode()) < 900_000


def test_what_somebody_typed_is_no_place_for_a_script() -> None:
    made = sweeps.default_sweep()

    page = render_report(made.comparisons, replace(made.record, command=("velosweep", "prompt=@@PLOTLY@@")))

    assert "prompt=@@PLOTLY@@" in page
    assert page.count("@@PLOTLY@@") == 1
