"""The page in a browser: accessible, no wider than a phone, and its parts that move. Skipped where none is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from made_cards import check, many, memory
from memspec.scorecard import history
from memspec.scorecard.pages import page

playwright = pytest.importorskip("playwright.sync_api", reason="pip install axe-playwright-python")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)")

FAILED = [
    check("laws/broken", "fail", "largest difference 2", kind="law", rule="Asking changes nothing.", repeat="print(1)"),
    check("axis/open", "inconclusive", "not clear"),
    check("axis/skipped", "skip", "no data"),
    check("axis/fine", "pass"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages under test."""
    folder = tmp_path_factory.mktemp("pages")
    two = [memory("m:Fine"), memory("m:Broken", checks=FAILED, not_asked={"axis/x": "not Confident"})]
    entries = [
        history.Entry(memory("m:M", x), history.datetime(2026, 11, i + 1), Path("c.json"))
        for i, x in enumerate((0.5, 0.9))
    ]
    entries[-1].card.gate = {"verdict": "worse", "baseline": "cards/of/the/main/branch/before-this-change.json"}
    texts = {
        "one": page(two[1:]),
        "three": page([*two, memory("m:Third", 0.4)]),
        "many": page(many(16)),
        "history": history.page([history.history("m:M", entries)]),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture
def opened(browser: Any, files: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page by name; what goes wrong in its script fails the test."""
    contexts, errors = [], []

    def open_page(name: str, width: int = 1400, mode: str = "light", anchor: str = "") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=mode, offline=True)
        contexts.append(context)
        view = context.new_page()
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.goto(files[name].as_uri() + anchor)
        return view

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("one", "light"),
        ("one", "dark"),
        ("three", "light"),
        ("many", "dark"),
        ("history", "light"),
        ("history", "dark"),
    ],
)
def test_axe_finds_no_violation(opened: Callable[..., Any], name: str, mode: str) -> None:
    view = opened(name, mode=mode)
    view.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    found = axe.Axe().run(view)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("name", ["one", "three", "many", "history"])
def test_nothing_is_wider_than_the_screen(opened: Callable[..., Any], name: str, width: int) -> None:
    view = opened(name, width)
    view.evaluate("document.querySelectorAll('main details').forEach(fold => fold.open = true)")
    assert view.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark_follow_the_readers_preference(opened: Callable[..., Any]) -> None:
    """The plots as well: a line's colour is the page's."""
    seen = [
        opened("three", mode=mode).evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('figure .m0 .l')).stroke]"
        )
        for mode in ("light", "dark")
    ]
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


def names(view: Any) -> list[str]:
    return [text.strip() for text in view.locator("#board tbody th").all_inner_texts()]


def test_a_heading_sorts_and_sorts_back(opened: Callable[..., Any]) -> None:
    view = opened("three")
    assert names(view) == ["Fine", "Broken", "Third"]
    head = view.locator("#board th", has_text="capacity")
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(view)[0] == "Third"
    view.locator("#board th button", has_text="memory").click()
    assert names(view) == ["Broken", "Fine", "Third"]
    assert head.get_attribute("aria-sort") == "none"


def test_a_phone_shows_one_column_that_the_reader_picks(opened: Callable[..., Any]) -> None:
    view = opened("three", 360)
    visible = view.locator("#board th.c:visible")
    assert visible.all_inner_texts()[0].startswith("capacity")
    view.select_option("#by", label="forgetting")
    assert [text.split()[0] for text in visible.all_inner_texts()] == ["forgetting"]


def test_search_shows_what_has_all_words_and_unfolds_it(opened: Callable[..., Any]) -> None:
    view = opened("one")
    row = view.locator("tr", has_text="axis/fine")
    assert not row.is_visible()
    view.fill("#find", "axis fine")
    assert row.is_visible()
    assert not view.locator(".problem", has_text="laws/broken").is_visible()
    assert view.locator("#found").inner_text().startswith("1 of ")
    view.fill("#find", "")
    assert view.locator(".problem", has_text="laws/broken").is_visible()
    assert not row.is_visible()


@pytest.mark.parametrize("width", [360, 1400])
def test_the_search_field_shows_all_that_it_says(opened: Callable[..., Any], width: int) -> None:
    measure = """() => {
        const field = document.querySelector('#find'), style = getComputedStyle(field);
        const pen = document.createElement('canvas').getContext('2d');
        pen.font = style.font;
        const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        const clears = parseFloat(style.fontSize);  // the browser's own button at the end
        return room - clears - pen.measureText(field.placeholder).width;
    }"""
    assert opened("one", width).evaluate(measure) >= 0


@pytest.mark.parametrize("width", [360, 800])
def test_a_verdict_is_one_box_also_where_it_breaks(opened: Callable[..., Any], width: int) -> None:
    count = "[...document.querySelectorAll('.verdict')].map(pill => pill.getClientRects().length)"
    assert set(opened("history", width).evaluate(count)) == {1}


def test_a_link_to_what_is_folded_opens_it(opened: Callable[..., Any]) -> None:
    assert opened("one", anchor="#axis/fine").locator("tr", has_text="axis/fine").is_visible()


def test_a_button_copies_the_program(opened: Callable[..., Any]) -> None:
    view = opened("one")
    view.evaluate("navigator.clipboard.writeText = async text => { window.copied = text; }")
    view.locator(".copy:visible").first.click()
    view.wait_for_function("window.copied === 'print(1)'")


def test_readers_pick_which_memories_are_in_colour(opened: Callable[..., Any]) -> None:
    view = opened("many")
    line = "getComputedStyle(document.querySelector('figure .m%d .l')).stroke"
    shown = view.locator(".picks li")
    assert shown.count() == 6
    off = next(i for i in range(16) if not view.locator(f".pick[value='{i}']").is_checked())
    grey = view.evaluate(line % off)
    view.check(f".pick[value='{off}']")
    assert view.evaluate(line % off) != grey
    assert shown.count() == 7
    for i in range(16):
        box = view.locator(f".pick[value='{i}']")
        if box.is_enabled() and not box.is_checked():
            box.check()
    assert shown.count() == 12
    assert view.locator(".pick:disabled").count() == 4


def test_all_can_be_read_without_scripts(browser: Any, files: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    view = context.new_page()
    view.goto(files["three"].as_uri())
    assert names(view) == ["Fine", "Broken", "Third"]
    assert not view.locator("#find").is_visible()
    context.close()
