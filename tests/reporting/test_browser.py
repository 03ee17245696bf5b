"""The report as a browser shows it, with the network off."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting import sweeps
from velosweep.reporting.html import render_report
from velosweep.reporting.run_charts import MOST_POINTS

SWEEPS = ("default_sweep", "large_sweep", "with_failures", "single_job", "skip_vanilla", "hostile")
_DRAWN = "return document.querySelectorAll('.plot.js-plotly-plot').length"


def opened(browser: Any, folder: Path, name: str, *, scheme: str = "light") -> None:
    """Load the report of a made-up sweep from a file and wait for its first plot."""
    made: sweeps.MadeUp = getattr(sweeps, name)()
    path = folder / f"{name}.html"
    path.write_text(render_report(made.comparisons, made.record, made.samples), encoding="utf-8")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media(scheme))
    browser.get(path.as_uri())
    browser.execute_script("document.querySelector('.plot').scrollIntoView()")  # on a phone it may lie far below
    wait_until(browser, f"{_DRAWN} > 0")


def media(scheme: str) -> dict[str, Any]:
    """A person's preferences: a colour scheme, and no moving about."""
    wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    return {"features": [{"name": name, "value": value} for name, value in wanted.items()]}


def wait_until(browser: Any, script: str, *, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not browser.execute_script(script):
        assert time.monotonic() < until, f"still not so after {seconds} s: {script}"
        time.sleep(0.05)


def draw_all(browser: Any) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; });")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    wait_until(browser, f"{_DRAWN} === document.querySelectorAll('.plot').length")


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


def requested(browser: Any) -> list[str]:
    """Addresses that the page asked for, but for files and data."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_plot_draws_offline_and_nothing_complains(browser: Any, tmp_path: Path, name: str) -> None:
    opened(browser, tmp_path, name)

    draw_all(browser)

    assert complaints(browser) == []
    assert requested(browser) == []
    assert browser.execute_script("return window.alerted") is None


def test_hovering_a_point_says_what_it_is(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    opened(browser, tmp_path, "default_sweep")
    point = browser.find_element(By.CSS_SELECTOR, "#plot-main .scatterlayer .points path")

    ActionChains(browser).move_to_element(point).pause(0.5).perform()

    wait_until(browser, "return document.querySelectorAll('#plot-main .hoverlayer .hovertext').length > 0")
    shown = browser.find_element(By.CSS_SELECTOR, "#plot-main .hoverlayer").text
    assert "n_draft 4: 2.07× [2.03, 2.09]" in shown


def column(browser: Any, number: int) -> list[str]:
    script = "return [...document.querySelectorAll('#results ~ .scroll tbody tr')].map((r) => r.cells[%d].textContent)"
    found: list[str] = browser.execute_script(script % number)
    return found


def test_a_table_sorts_by_click_and_by_keyboard_and_says_so(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, tmp_path, "default_sweep")
    heading = browser.find_elements(By.CSS_SELECTOR, "table.sortable th button")[1]

    browser.execute_script("document.getElementById('results').scrollIntoView()")
    heading.click()
    assert column(browser, 1) == ["1.59×", "1.89×", "2.07×"]
    assert heading.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"

    heading.send_keys(Keys.ENTER)
    assert column(browser, 1) == ["2.07×", "1.89×", "1.59×"]
    assert heading.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    assert browser.find_element(By.ID, "said").get_attribute("textContent") == "Sorted by speedup, descending"


@pytest.mark.parametrize(
    ("name", "first", "then"), [("default_sweep", "light", "dark"), ("with_failures", "dark", "light")]
)
def test_axe_finds_no_serious_problem_and_colours_follow_the_scheme_while_the_page_is_open(
    browser: Any, tmp_path: Path, axe_script: str, name: str, first: str, then: str
) -> None:
    opened(browser, tmp_path, name, scheme=first)
    draw_all(browser)
    browser.execute_script(axe_script)

    assert serious_problems(browser) == []
    ink = "return document.getElementById('plot-main')._fullLayout.font.color"
    before = browser.execute_script(ink)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media(then))
    wait_until(browser, f"{ink} !== '{before}'")
    assert serious_problems(browser) == []


def serious_problems(browser: Any) -> list[Any]:
    result = browser.execute_async_script("axe.run(document).then(arguments[0])")
    return [
        (found["id"], found["help"], [node["target"] for node in found["nodes"]][:3])
        for found in result["violations"]
        if found["impact"] in {"serious", "critical"}
    ]


@pytest.fixture
def phone(browser: Any) -> Iterator[None]:
    """The browser as a phone of 390 pixels."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.usefixtures("phone")
@pytest.mark.parametrize("name", ["large_sweep", "with_failures"])
def test_nothing_is_wider_than_a_phone(browser: Any, tmp_path: Path, name: str) -> None:
    opened(browser, tmp_path, name)
    draw_all(browser)

    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


_HINT = "return document.querySelector('#results ~ .hint').checkVisibility()"
_BUTTONS = "return document.querySelectorAll('#plot-main .modebar-btn').length > 0"


@pytest.mark.usefixtures("phone")
def test_on_a_phone_a_table_says_that_it_scrolls_and_no_buttons_lie_on_the_legend(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path, "default_sweep")

    wait_until(browser, _HINT)
    assert not browser.execute_script(_BUTTONS)


def test_where_the_table_fits_no_hint_is_shown_and_plots_have_their_buttons(browser: Any, tmp_path: Path) -> None:
    opened(browser, tmp_path, "default_sweep")

    wait_until(browser, _BUTTONS)
    browser.execute_script("document.querySelector('#results ~ .scroll table').style.fontSize = '8px'")
    wait_until(browser, _HINT.replace("return ", "return !"))
    browser.execute_script("document.querySelector('#results ~ .scroll table').style.fontSize = '30px'")
    wait_until(browser, _HINT)


def test_ten_thousand_samples_open_with_no_more_points_than_a_browser_bears(
    browser: Any, tmp_path: Path, record_property: Any
) -> None:
    opened(browser, tmp_path, "ten_thousand_samples")
    timing = "return performance.getEntriesByType('navigation')[0].domComplete"
    start = time.monotonic()
    draw_all(browser)

    record_property("dom_complete_ms", browser.execute_script(timing))
    record_property("all_plots_s", time.monotonic() - start)
    points = "return document.querySelectorAll('#plot-samples .points path').length"
    assert 2_000 <= browser.execute_script(points) <= MOST_POINTS + 100
    assert complaints(browser) == []
