"""The pages of `report` and `table` in a real browser: what they show, and that they ask nobody for anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from remit_lit.report.report import write_report
from tests.browser import Page, browsing, find_chromium
from tests.report.made import made_run
from tests.tables.test_page import page as table_page
from tests.tables.test_page import plan  # noqa: F401  (a fixture)

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
LOSS = [(step, 3.0 - 0.02 * step) for step in range(0, 100, 10)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with browsing(CHROMIUM, tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture(autouse=True)
def quiet(browser: Page) -> Iterator[None]:
    """Afterwards, that pages had no error and asked for no file but themselves."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.resize(1000, 800)
    yield
    browser.run("0")  # so that what happened last is known
    assert len(browser.requests) == 1 and browser.complaints == []


@pytest.fixture
def report(browser: Page, tmp_path: Path) -> Page:
    """Of two runs, of which one has a gap and no validation, opened."""
    made_run(tmp_path / "a", {"train/loss": LOSS, "val/nll": [(0, 3.0), (99, 1.0)], "weights/clipped_low": LOSS[-2:]})
    made_run(tmp_path / "b", {"train/loss": [*LOSS[:4], (40, float("nan")), *LOSS[5:]]}, tokens_per_step=20)
    browser.open(write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "report.html", lambda _: {"x": 1}))
    return browser


def count(page: Page, selector: str) -> int:
    return int(page.run(f"document.querySelectorAll({selector!r}).length"))


def text(page: Page, selector: str) -> str:
    return str(page.run(f"document.querySelector({selector!r}).textContent"))


def test_each_run_has_its_line_and_a_gap_parts_one(report: Page) -> None:
    loss = '[data-figure="train/loss"]'
    assert count(report, f"{loss} polyline.line") == 3  # the second run's in two pieces
    assert count(report, '[data-figure="val/nll"] polyline.line') == 1
    report.click("#runs input")
    assert count(report, f"{loss} polyline.line") == 2
    assert "Nothing to draw" in text(report, '[data-figure="val/nll"]')


def test_values_are_read_at_the_pointer_and_by_the_keyboard(report: Page) -> None:
    svg = '[data-figure="train/loss"] > svg'
    report.point(svg)
    assert text(report, '[data-figure="train/loss"] .readout').startswith("steps 40: ")
    assert "2.2" in text(report, '[data-figure="train/loss"] .readout')
    assert "not finite" in text(report, '[data-figure="train/loss"] .readout')
    report.run(f"document.querySelector('{svg}').focus()")
    report.press("ArrowRight")
    assert text(report, '[data-figure="train/loss"] .readout') == "steps 50:  2 2"


def test_over_tokens_each_run_has_its_own(report: Page) -> None:
    report.run("over.value = 'tokens'; over.dispatchEvent(new Event('change'))")
    ends = report.run(
        "[...document.querySelectorAll('[data-figure=\"train/loss\"] polyline')].map((line) => "
        "line.getAttribute('points').split(' ').at(-1).split(',')[0])"
    )
    # 900 tokens of 1,800: the first run ends in the middle of the axis, from 44 to 350.
    assert [round(float(end)) for end in (ends[0], ends[-1])] == [197, 350]


def test_smoothing_leaves_a_straight_line_where_it_is(report: Page) -> None:
    points = "document.querySelector('[data-figure=\"train/loss\"] polyline').getAttribute('points')"
    before = [float(value) for value in report.run(points).replace(",", " ").split()]
    report.run("smooth.value = 3; smooth.dispatchEvent(new Event('input'))")
    after = [float(value) for value in report.run(points).replace(",", " ").split()]
    assert after == pytest.approx(before) and text(report, "#smoothed") == "mean of up to 7 points"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1000, 390])
def test_no_page_is_wider_than_its_window(report: Page, width: int, dark: bool) -> None:
    report.resize(width, 800, dark=dark)
    assert report.run("document.documentElement.scrollWidth") <= width


@pytest.fixture
def table(browser: Page, plan: object, tmp_path: Path) -> Page:  # noqa: F811
    table_page(plan, tmp_path)
    browser.open(tmp_path / "table" / "table.html")
    return browser


def lines(page: Page) -> list[str]:
    """The methods in the order of the table."""
    names = "[...document.querySelectorAll('.figures tbody th')].map((name) => name.textContent.trim())"
    return list(page.run(names))


def test_a_table_sorts_by_a_measure_the_best_first(table: Page) -> None:
    assert lines(table) == ["NTP (baseline)", "RHO-1", "ReMiT [0.2]"]
    table.click('[data-row="gsm8k"]')
    assert lines(table) == ["ReMiT [0.2]", "RHO-1", "NTP (baseline)"]
    assert table.run("document.querySelector('[data-row=\"gsm8k\"]').parentElement.ariaSort") == "descending"
    table.click('[data-row="bpb"]')  # lower is better, and one has no figure
    assert lines(table) == ["NTP (baseline)", "RHO-1", "ReMiT [0.2]"]
    table.click('[data-row="bpb"]')
    assert lines(table) == ["RHO-1", "NTP (baseline)", "ReMiT [0.2]"]


def test_a_figure_opens_its_runs(table: Page) -> None:
    table.click('[data-cell="gsm8k remit"]')
    assert table.run("document.getElementById('runs').open")
    assert count(table, "#runs tbody tr") == 3
    assert table.run("document.querySelector('#runs a').getAttribute('href')").startswith("./../cells%20of%20")
    assert "python -m remit_lit fit" in text(table, "#runs code")
    table.press("Escape")


def test_differences_are_drawn_where_they_are(table: Page) -> None:
    rows = table.run(
        "[...document.querySelectorAll('[data-forest=\"gsm8k\"] tbody tr')].map((line) => ({"
        "at: [...line.querySelectorAll('svg.strip path, svg.strip .zero')].map((e) => e.getBoundingClientRect().x),"
        "text: [...line.cells].map((cell) => cell.textContent.trim())}))"
    )
    assert [row["text"][0] for row in rows[:2]] == ["RHO-1", "ReMiT [0.2]"]
    zero, rho1 = rows[0]["at"]
    _, remit = rows[1]["at"]
    assert zero < rho1 < remit
    assert rows[1]["text"][2] == "+20.7"
