"""The report in a real browser, at the width of a desk and of a phone: clicks and keys, and not one complaint."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import PROGRAM, Page, browser
from recorded import BACKBONE, cost, record, row
from test_comparison import measured
from test_report import dense_page, drawn, segmenter
from tiny import Tiny

from petlbench import published, report, zoo
from petlbench.record import Epoch

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no chromium is installed")

EVIL = "<img src=x onerror=alert(1)>"
CURVE = [Epoch(loss=2.0, lr=0.1, seconds=1), Epoch(loss=1.0, lr=0.05, seconds=1)]
DESK, PHONE = (1280, 800), (390, 844)


def write(file: Path) -> Path:
    """A report with three rows on four tasks: one of them failed, one is on another backbone and has an evil name."""
    every = ("day", "night", "left", "right")
    vpt = [record("vpt(tokens=5)", task, 70 + seed, seed, curve=CURVE) for task in every for seed in (0, 1)]
    other = dataclasses.replace(BACKBONE, name="other")
    evil = [record("linear", task, 9, backbone=other, found={"evil": EVIL}) for task in every]
    evil = [dataclasses.replace(each, run=dataclasses.replace(each.run, label=EVIL)) for each in evil]
    failed = record("lora", "right", 0, status="failed", reason=f"ValueError: {EVIL}")
    records = [*row("lora", day=80, night=100, left=60), failed, *vpt, *evil]
    part = report.Part(name="tiny", suite=Tiny(), records=records, choice={})
    costs = [cost("lora"), cost("vpt(tokens=5)", faster=2)]
    file.write_text(report.page([part], costs, Path("nowhere"), changed=lambda record: []), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("report") / "report.html").as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, chromium: Page, address: str) -> Iterator[Page]:
    """The report, freshly opened; at the end it must have had nothing to complain about."""
    chromium.complaints.clear()
    chromium.size(*request.param, phone=request.param == PHONE)
    chromium.prefer("light")
    chromium.open(address)
    yield chromium
    assert chromium.complaints == []


ROWS = "section.suite tbody th"
HEAD = "section.suite thead th:has(> button)"


def head(page: Page, name: str) -> str:
    """A selector of the button of a column."""
    names = page.run(f"[...document.querySelectorAll({HEAD!r})].map(each => each.textContent)")
    page.run(f"[...document.querySelectorAll({HEAD!r})][{names.index(name)}].id = 'head-{names.index(name)}'")
    return f"#head-{names.index(name)} > button"


def test_a_head_sorts_its_column_by_number_and_what_is_missing_stays_last(page: Page) -> None:
    assert page.texts(ROWS) == [EVIL, "lora", "vpt(tokens=5)"]
    page.click(head(page, "night"))
    assert page.texts(ROWS) == ["lora", "vpt(tokens=5)", EVIL]  # 100, 70.5, 9
    assert page.run("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    page.click(head(page, "night"))
    assert page.texts(ROWS) == [EVIL, "vpt(tokens=5)", "lora"]
    assert page.run("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "ascending"
    for last in (1, 2):  # lora failed there, up and down
        page.click(head(page, "right"))
        assert page.texts(ROWS)[-1] == "lora", last
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_the_keyboard_sorts_as_well(page: Page) -> None:
    page.run(f"document.querySelector({head(page, 'method')!r}).focus()")
    page.press("Enter")
    assert page.texts(ROWS) == [EVIL, "lora", "vpt(tokens=5)"]
    page.press(" ")
    assert page.texts(ROWS) == ["vpt(tokens=5)", "lora", EVIL]


def test_rows_are_filtered_by_name_and_by_what_tells_them_apart(page: Page) -> None:
    page.click("input[type=search]")
    page.write("vpt")
    assert page.texts(ROWS) == ["vpt(tokens=5)"]
    assert page.texts("output") == ["1 of 3 rows"]
    assert page.run("document.querySelectorAll('.plot a').length") == 1
    page.run("document.querySelector('.filters').reset()")
    choose(page, "[data-axis=backbone]", "other")
    assert page.texts(ROWS) == [EVIL]
    choose(page, "[data-axis=backbone]", "*")
    choose(page, "[data-axis=family]", "reparameterization")
    assert page.texts(ROWS) == ["lora"]


def choose(page: Page, selector: str, value: str) -> None:
    """What a choice in the menu of a select does; the menu itself is drawn by the system."""
    page.run(
        f"""(() => {{
            const found = document.querySelector({selector!r});
            found.value = {value!r};
            found.dispatchEvent(new Event("input", {{bubbles: true}}));
        }})()"""
    )
    page.settle()


def test_a_group_of_columns_can_be_put_away(page: Page) -> None:
    shown = page.texts("section.suite thead th")
    assert {"natural", "day", "night", "structured", "left"} <= set(shown)
    page.click("fieldset input")
    assert set(shown) - set(page.texts("section.suite thead th")) == {"natural", "day", "night"}
    assert len(page.texts("section.suite tbody tr:first-child > *")) == len(shown) - 3 - 2 - 1  # of heads, two groups


def test_a_click_opens_the_records_behind_a_cell(page: Page) -> None:
    page.click("section.suite tbody tr:last-child [data-cell]")
    assert page.texts("dialog h2") == ["vpt(tokens=5) on day"]
    cells = page.texts("dialog tbody td")
    assert cells[:4] == ["0", "70", "35", "done"]
    assert page.run("document.querySelectorAll('dialog .curve[points]').length") == 4  # loss and rate of two seeds
    assert "petlbench run --methods 'vpt(tokens=5)'" in page.texts("dialog pre")[1]
    assert {"Method", "Recipe", "Machine", "Versions", "Code"} <= set(page.texts("dialog summary"))
    page.click("#close")
    assert page.texts("dialog h2") == []


def test_the_keyboard_opens_and_closes_and_comes_back_to_the_cell(page: Page) -> None:
    page.run("document.querySelector('section.suite tbody tr:last-child [data-cell]').focus()")
    page.press("Tab")
    page.press("Enter")
    assert page.texts("dialog h2") == ["vpt(tokens=5) on night"]
    page.press("Escape")
    assert page.texts("dialog h2") == []
    assert page.run("document.activeElement.textContent") == "70.5 ± 0.7"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_name_that_is_html_stays_a_name(page: Page) -> None:
    page.click("section.suite tbody tr:first-child [data-cell]")
    assert page.texts("dialog h2") == [f"{EVIL} on day"]
    page.click("#close")
    assert page.run("document.querySelectorAll('img').length") == 0


def test_a_failed_cell_says_why(page: Page) -> None:
    page.click("section.suite tbody tr:nth-child(2) td:has(button):nth-last-child(4) button")
    assert page.texts("dialog h2") == ["lora on right"]
    assert f"ValueError: {EVIL}" in page.texts("dialog .bad")


def test_the_page_is_dark_where_the_system_is_and_where_the_reader_wants_it(page: Page) -> None:
    def paper() -> str:
        return page.run("getComputedStyle(document.documentElement).backgroundColor")

    light = paper()
    page.click("#theme")
    dark = paper()
    assert dark != light
    assert page.run("document.querySelector('#theme').ariaPressed") == "true"
    page.click("#theme")
    assert paper() == light
    page.prefer("dark")
    assert paper() == light  # the reader has chosen
    page.run("delete document.documentElement.dataset.theme")
    assert paper() == dark


def test_both_axes_of_the_figure_can_be_chosen(page: Page) -> None:
    points = "[...document.querySelectorAll('.plot a')].map(each => each.getAttribute('aria-label'))"
    assert page.run(points) == [
        "vpt(tokens=5): mean over groups (%) 70.5, trained weights of the method (M) 0.295",
        f"{EVIL}: mean over groups (%) 9, trained weights of the method (M) 0.295",
    ]
    names = page.run("[...document.querySelector('[name=x]').options].map(each => each.text)")
    (latency,) = [str(place) for place, name in enumerate(names) if name.startswith("latency (ms)")]
    choose(page, "[name=x]", latency)
    choose(page, "[name=y]", str(names.index("night (%)")))
    assert [each.split(": night")[0] for each in page.run(points)] == ["vpt(tokens=5)", "lora"]
    assert "from left to right: vpt(tokens=5), lora." in page.texts("figcaption")[0]
    assert page.run("document.querySelectorAll('.plot .ahead').length") == 2


def test_nothing_moves_and_nothing_is_wider_than_the_window(page: Page) -> None:
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("moved") == []


def test_a_mean_opens_its_tasks_and_each_of_them_its_records(page: Page) -> None:
    page.click("section.suite tbody tr:last-child td:last-child [data-cell]")
    assert page.texts("dialog h2") == ["vpt(tokens=5): mean of groups"]
    assert page.texts("dialog tbody:first-of-type th") == ["day", "night", "left", "right"]
    assert page.texts("dialog tbody.apart tr") == ["seed 070.00", "seed 171.00", "mean70.5 ± 0.7"]
    page.click("dialog tbody tr:nth-child(2) button")
    assert page.texts("dialog h2") == ["vpt(tokens=5) on night"]
    assert page.run("document.activeElement.id") == "close"
    page.press("Escape")
    assert page.texts("dialog h2") == []


def test_published_rows_are_switched_off_and_on_and_sorted_apart(chromium: Page, tmp_path: Path) -> None:
    vtab = zoo.suite("vtab")()
    records = [*measured("hst", 75), *measured("lora", 70)]
    rows = published.rows("vtab", vtab, ["noah"])
    part = report.Part(name="vtab", suite=vtab, records=records, published=rows)
    file = tmp_path / "report.html"
    file.write_text(report.page([part], [], Path("nowhere"), changed=lambda record: []), encoding="utf-8")
    chromium.complaints.clear()
    chromium.size(*DESK)
    chromium.open(file.as_uri())
    printed = ["Full", "Linear", "VPT-Deep", "Adapter", "LoRA", "NOAH"]
    assert chromium.texts(ROWS) == ["hst", "lora", *printed]
    assert chromium.texts("output") == ["8 of 8 rows"]
    chromium.click(head(chromium, "cifar100"))
    assert chromium.texts(ROWS)[:2] == ["hst", "lora"]  # 75 and 70, whatever the published ones are
    assert chromium.texts(ROWS)[2:] != printed
    assert set(chromium.texts(ROWS)[2:]) == set(printed)
    assert chromium.run("document.querySelectorAll('.plot a').length") == 2
    chromium.click("[name=published]")
    assert chromium.texts(ROWS) == ["hst", "lora"]
    assert chromium.texts("output") == ["2 of 8 rows"]
    chromium.click("[name=published]")
    choose(chromium, "[data-axis=source]", "noah")
    assert len(chromium.texts(ROWS)) == 6
    assert chromium.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_drawn_answers_and_losses_by_part_are_behind_the_cell_of_a_segmenter(
    chromium: Page, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    made = segmenter(seed=3)
    for number in range(2):
        drawn(made, tmp_path, number)
    file = tmp_path / "report.html"
    file.write_text(dense_page([made], tmp_path), encoding="utf-8")
    chromium.complaints.clear()
    chromium.size(*size, phone=size == PHONE)
    chromium.prefer(scheme)
    chromium.open(file.as_uri())
    chromium.click("section.suite tbody [data-cell]")
    assert chromium.texts("dialog h2") == ["lora on upernet"]
    titles = [
        *("training loss", "loss: segmentation", "loss: auxiliary", "miou (%)", "learning rate", "images per second"),
    ]
    assert chromium.run("[...document.querySelectorAll('.chart')].map(each => each.ariaLabel)") == [
        f"{title} by step" for title in titles
    ]
    assert chromium.texts("dialog .picture") == []  # until they are asked for
    chromium.click("dialog details > summary")
    assert "Seed 3: the first 2 scored images" in chromium.texts("dialog summary")[0]
    images = "[...document.querySelectorAll('dialog .picture img')]"
    chromium.run(f"Promise.all({images}.map(each => each.decode()))")
    assert chromium.run(f"{images}.map(each => [each.naturalWidth, each.naturalHeight])") == [[1168, 310]] * 2
    assert chromium.run(f"{images}.map(each => each.alt)")[1] == (
        "Scored image 2, from left to right: image, truth, answer"
    )
    assert chromium.run(f"{images}.every(each => each.clientWidth >= 500)")  # letters in them can be read on a phone
    assert chromium.run("document.querySelector('dialog').scrollWidth <= innerWidth")
    assert chromium.complaints == []


def test_no_script_but_the_page_s_own_runs(chromium: Page, address: str) -> None:
    chromium.open(address)
    chromium.complaints.clear()
    chromium.run(
        "document.head.append(Object.assign(document.createElement('style'), {textContent: 'body {color: red}'}))"
    )
    chromium.settle()
    assert "Content Security Policy" in chromium.complaints[0]
