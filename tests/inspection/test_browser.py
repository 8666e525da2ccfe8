"""The page in a real browser: what it shows, and that it asks nobody for anything."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from remit_lit.inspection.inspect import inspect
from remit_lit.inspection.settings import InspectSettings, TrainerFields
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.weighting import NextTokenPrediction, ReMiT, Rho1
from tests.browser import Page, browsing, find_chromium
from tests.helpers import build, save_model
from tests.inspection.reading import Shown, read_page
from tests.inspection.test_page import hostile  # noqa: F401  (a fixture)

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
# The least contrast of text by WCAG 2.2, level AA.
CONTRAST = 4.5
# Luminances of a token's text and background, as the browser paints them.
CONTRASTS = """
(() => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const luminance = (...colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map((value) => value / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = getComputedStyle(document.body).backgroundColor;
  const behind = (element) => {
    const colours = [];
    for (let e = element; e; e = e.parentElement) colours.unshift(getComputedStyle(e).backgroundColor);
    return luminance(page, ...colours);
  };
  const names = ".token, .source, h2, h3, label, output, .note, td, th, button, select, input";
  const texts = [...document.querySelectorAll(names)];
  return texts.map((element) => {
    const pair = [luminance(page, getComputedStyle(element).color), behind(element)].sort((a, b) => b - a);
    return [element.className || element.tagName, (pair[0] + 0.05) / (pair[1] + 0.05)];
  });
})()
"""


@pytest.fixture(scope="module")
def path(
    tmp_path_factory: pytest.TempPathFactory, tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> Path:
    """The page of three strategies and two policies."""
    folder = tmp_path_factory.mktemp("page")
    reference, strategies = LiveReference(ModelSpec(str(tiny_reference_dir))), {}
    for name, weighting in (("remit", ReMiT()), ("rho1", Rho1()), ("ntp", NextTokenPrediction())):
        run, data = build(tiny_rows, tiny_policy_dir, folder, weighting=weighting, reference=reference, batch_size=4)
        strategies[name] = run.module
    later = save_model(folder / "later", seed=3)
    settings = InspectSettings(str(folder / "page.html"), num_rows=12, policies=[str(later)])
    return inspect(strategies, data, settings, TrainerFields("cpu"))


@pytest.fixture(scope="module")
def shown(path: Path) -> Shown:
    return read_page(path)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with browsing(CHROMIUM, tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture
def page(browser: Page, path: Path) -> Iterator[Page]:
    """The page, newly opened; afterwards, that it had no error and asked for no file but itself."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.resize(1280, 900)
    browser.open(path, "document.querySelector('.row .token') !== null")
    yield browser
    browser.run("0")  # so that what happened last is known
    assert browser.requests == [path.as_uri()]
    assert browser.complaints == []


def token(row: int, place: int) -> str:
    """The selector of a token, in the first column."""
    return f'.columns > div:first-child [data-token="{row * 132 + place}"]'


def card(page: Page) -> list[list[str]]:
    """The lines of the card, the names of its columns first."""
    assert not page.run("document.getElementById('card').hidden")
    lines = (
        "[...document.querySelectorAll('#card tr')].map((line) => [...line.children].map((cell) => cell.textContent))"
    )
    return page.run(lines)  # type: ignore[no-any-return]


def hover(page: Page, row: int, place: int) -> None:
    """Point at a token until its card is there: rows that are filled above it may move it once more."""
    for _ in range(10):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
        page.point(token(row, place))
        if page.run(f"document.querySelector('#card:not([hidden]) .where')?.textContent.includes('token {place} of')"):
            return


def numbers(lines: list[list[str]], name: str) -> list[float]:
    """The values of a line of the card."""
    (values,) = [cells for first, *cells in lines if first.startswith(name)]
    return [float(re.match(r"[+\u2212]?[\d.]+", value)[0].replace("\u2212", "-")) for value in values]  # type: ignore[index]


def expect_card(page: Page, shown: Shown, row: int, place: int, policy: int = 0) -> None:
    """The card shows what the strategies' weights() gave this token."""
    lines = card(page)
    assert lines[0][1:] == ["remit", "rho1"]
    strategies = shown.data["strategies"][:2]
    weights = [shown.array(strategy["weighed"][policy]["weights"])[row, place] for strategy in strategies]
    nll = shown.array(shown.data["policies"][policy]["nll"])[row, place]
    reference = shown.array(shown.data["references"][0]["nll"])[row, place]
    centred = shown.array(strategies[0]["weighed"][policy]["centered"])[row, place]
    assert numbers(lines, "weight") == pytest.approx(weights, abs=5.1e-5)
    assert numbers(lines, "policy NLL") == pytest.approx([nll, nll], abs=5.1e-5)
    assert numbers(lines, "reference NLL") == pytest.approx([reference, reference], abs=5.1e-5)
    assert numbers(lines, "excess loss") == pytest.approx([nll - reference] * 2, abs=5.1e-5)
    (line,) = [cells for cells in lines if cells[0].startswith("centred")]
    assert float(line[1].replace("\u2212", "-")) == pytest.approx(centred, abs=5.1e-5)
    bounds = np.array(strategies[0]["bounds"], np.float32)
    said = "clipped low" if weights[0] <= bounds[0] else "clipped high" if weights[0] >= bounds[1] else ""
    assert lines[1][1].partition(", ")[2] == said


@pytest.mark.parametrize(("row", "place"), [(0, 5), (0, 70), (11, 131 - 2)])
def test_the_pointer_shows_a_tokens_numbers(page: Page, shown: Shown, row: int, place: int) -> None:
    page.run(f"document.querySelector('[data-row=\"{row}\"]').scrollIntoView()")
    page.wait(f"document.querySelector('{token(row, place)}') !== null")
    hover(page, row, place)
    expect_card(page, shown, row, place)


def test_the_keyboard_walks_over_tokens(page: Page, shown: Shown) -> None:
    page.run(f"document.querySelector('{token(0, 0)}').focus()")
    for _ in range(3):
        page.press("ArrowRight")
    expect_card(page, shown, 0, 3)
    page.press("ArrowLeft")
    expect_card(page, shown, 0, 2)
    page.press("Escape")
    assert page.run("document.getElementById('card').hidden")


def test_a_tap_holds_the_card_on_a_phone(page: Page, shown: Shown) -> None:
    page.resize(390, 800)
    page.click(token(0, 6))
    expect_card(page, shown, 0, 6)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    page.click("#card .close")
    assert page.run("document.getElementById('card').hidden")


def test_the_slider_goes_to_another_policy(page: Page, shown: Shown) -> None:
    colours = f"document.querySelector('{token(0, 5)}').closest('.columns').innerHTML"
    before = page.run(colours)
    page.run("document.getElementById('policy').focus()")
    page.press("ArrowRight")
    page.wait("document.getElementById('policy-name').textContent.endsWith('/later')")
    assert page.run(colours) != before
    hover(page, 0, 5)
    expect_card(page, shown, 0, 5, policy=1)


def test_colours_follow_the_weights(page: Page, shown: Shown) -> None:
    classes = page.run(
        f'[...Array(132).keys()].map((i) => document.querySelector(`{token(0, 0)[:-3]}${{i}}"]`).className)'
    )
    strategy = shown.data["strategies"][0]
    weights, (low, high) = shown.array(strategy["weighed"][0]["weights"])[0], np.array(strategy["bounds"], np.float32)
    neutral = shown.array(strategy["neutral"])[0] == 1
    counted = shown.array(shown.data["counted"])[0] == 1
    for found, weight, is_neutral, is_counted in zip(classes, weights, neutral, counted, strict=True):
        names = set(found.split())
        assert ("uncounted" in names) == (not is_counted)
        assert ("neutral" in names) == is_neutral
        if is_counted and not is_neutral:
            assert ("raised" in names, "lowered" in names) == (weight > 1 + 2e-5, weight < 1 - 2e-5)
            assert ("high" in names, "low" in names) == (weight >= high, weight <= low)


def test_another_strategy_takes_the_second_column(page: Page) -> None:
    choose = (
        "(() => { const s = document.getElementById('right'); s.value = %d; s.dispatchEvent(new Event('change')); })()"
    )
    page.run(choose % 2)
    page.wait("document.querySelectorAll('[data-row=\"0\"] .columns > div').length === 2")
    hover(page, 0, 5)
    assert card(page)[0][1:] == ["remit", "ntp"]
    page.run(choose % -1)
    page.wait("document.querySelectorAll('[data-row=\"0\"] .columns > div').length === 1")


def test_search_and_sources(page: Page, shown: Shown) -> None:
    find = (
        "(() => { const q = document.getElementById('query'); q.value = %r; q.dispatchEvent(new Event('input')); })()"
    )
    page.run(find % "q:")
    expected = sum(shown.text(row).upper().count("Q:") for row in range(12))
    assert page.run("document.getElementById('matches').textContent") == f"{expected} found"
    page.click("#next")
    page.wait("document.querySelector('.found') !== null")
    assert page.run("document.querySelector('.found').textContent") == "Q"
    page.click("#sources input")
    visible = (
        "[...document.querySelectorAll('.document:not([hidden]) .source')].map((e) => e.textContent.split(',')[0])"
    )
    assert set(page.run(visible)) == {shown.data["sources"][1]}


def test_tops_are_counted_per_source(page: Page, shown: Shown) -> None:
    head = page.run("document.querySelector('#tops h2').textContent")
    first = page.run("[...document.querySelector('#tops tbody tr').children].slice(0, 3).map((e) => e.textContent)")
    source = shown.data["sources"].index(head)
    pushes: dict[int, list[float]] = {}
    strategy = shown.data["strategies"][0]
    weights = shown.array(strategy["weighed"][0]["weights"])
    ranked = (shown.array(shown.data["counted"]) == 1) & (shown.array(strategy["neutral"]) == 0)
    tokens = shown.array(shown.data["tokens"])
    for row, parts in enumerate(shown.data["documents"]):
        of_token = np.repeat([part[0] for part in parts], [part[1] for part in parts])
        for place in np.flatnonzero(ranked[row] & (of_token == source)):
            pushes.setdefault(tokens[row, place], []).append(float(weights[row, place]) - 1)
    best = max(pushes, key=lambda entry: sum(pushes[entry]))
    mean = 1 + sum(pushes[best]) / len(pushes[best])
    assert first == [shown.data["vocabulary"]["shown"][best], str(len(pushes[best])), f"{mean:.3f}"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_can_be_read(page: Page, dark: bool) -> None:
    page.resize(1280, 900, dark=dark)
    page.point(token(0, 5))
    found = page.run(CONTRASTS)
    assert any("raised s7" in name for name, _ in found) and any("lowered s7" in name for name, _ in found)
    assert [(name, contrast) for name, contrast in found if contrast < CONTRAST] == []


def test_markup_in_documents_stays_text(browser: Page, hostile: Path) -> None:  # noqa: F811
    browser.requests.clear()
    browser.complaints.clear()
    browser.resize(1280, 900)
    browser.open(hostile, "document.querySelector('.row .token') !== null")
    text = browser.run("document.querySelector('.columns').textContent")
    assert "</script><script>document.title" in text.replace("·\u200b", " ")
    assert browser.run("document.title") == "Weights of tokens"
    assert browser.run("document.querySelectorAll('img, b:not(.context b), i, main script').length") == 0
    assert browser.requests == [hostile.as_uri()] and browser.complaints == []
