"""The first page of a study in a real browser: at every width, light and dark, on paper, and by keyboard and ear."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.allocate import allocate_study
from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.analysis.forecast import score_study, seal_study
from rankscale_utils.report.render import render_index
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = {"w8": 1.2e3, "w10": 1.9e3, "w12": 2.6e3, "w16": 4.5e3, "w24": 9.8e3, "w48": 3.8e4}
SCREENS = [(1200, 800), (820, 1180), (390, 844)]
TEXTS = """() => [...document.querySelectorAll("main svg text")].map(text =>
  parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b))"""


@pytest.fixture(scope="module")
def first_page(tmp_path_factory) -> str:
    """Return the address of the first page of a study that brings its measurements."""
    root, rng = tmp_path_factory.mktemp("root"), np.random.default_rng(0)
    rows = [
        {"objective": objective, "rung": rung, "params": 4 * N, "params_non_embedding": N, "exposure": D,
         "collection": test, "metric": "nDCG@10", "first_stage": 0.42, "random_order": 0.12, "ceiling": 0.6,
         "value": 0.42 - 1.2 * N**-0.3 - 2 * D**-0.4 + rng.normal(0, 2e-3) + (test == "b/test") * 0.1}
        for objective in ("listwise", "pointwise") for test in ("a/test", "b/test")
        for rung, N in SIZES.items() for D in (1e4, 2e4, 4e4, 8e4)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(root / "ladder.csv", index=False)
    (root / "mine.yaml").write_text(
        "title: A ladder\nmeasurements: ladder.csv\nheld_out: {rungs: [w48]}\nforecasting: {draws: 100}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        patch.setenv("RANKSCALE_RESULTS", "write")
        study = load_study(root / "mine.yaml")
        fitted = fit_study(study)
        seal_study(study, fitted)
        score_study(study, fitted)
        allocate_study(study)
        for notebook in ("3_fit", "4_forecast", "5_allocate"):
            paths.notebook_file(study.folder, notebook).unlink(missing_ok=True)
        return render_index(study).as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_page_is_no_wider_than_the_screen_and_its_text_can_be_read(chromium, first_page, screen, scheme):
    page = chromium.new_page(viewport=dict(zip(("width", "height"), screen, strict=True)), color_scheme=scheme)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(first_page)
    assert page.evaluate("document.documentElement.scrollWidth") <= screen[0]
    assert min(page.evaluate(TEXTS)) >= 10.95
    assert page.locator("svg[role=img]").evaluate_all(
        "all => all.every(one => one.ariaLabel && one.querySelector('title'))"
    )
    assert errors == []
    page.close()


def test_the_first_screen_holds_the_answer(chromium, first_page):
    page = chromium.new_page(viewport={"width": 1200, "height": 800})
    page.goto(first_page)
    boxes = page.locator(".tile").evaluate_all("all => all.map(tile => tile.getBoundingClientRect().bottom)")
    assert len(boxes) == 3
    assert max(boxes) <= 800
    assert page.locator(".banner").inner_text().startswith("No model here ranks better than the first stage")
    figure = page.locator("figure.large").bounding_box()
    assert figure["y"] < 800
    assert page.locator("figure.large svg").get_attribute("aria-label").startswith("nDCG@10 on a/test: the ladder")
    page.close()


def test_nothing_is_lost_on_paper(chromium, first_page):
    page = chromium.new_page(viewport={"width": 794, "height": 1123})  # A4 at 96 dpi
    page.goto(first_page)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    page.close()


def test_tables_can_be_taken_along(chromium, first_page, tmp_path):
    page = chromium.new_page(accept_downloads=True)
    page.goto(first_page)
    with page.expect_download() as saved:
        page.get_by_role("link", name="forecasts.csv").click()
    saved.value.save_as(tmp_path / "forecasts.csv")
    written = first_page.removeprefix("file://").replace("reports/mine/index.html", "runs/mine/forecasts.csv")
    assert (tmp_path / "forecasts.csv").read_bytes() == Path(written).read_bytes()
    with page.expect_download() as saved:
        page.locator("#tests ~ button.take").first.click()
    saved.value.save_as(tmp_path / "shown.csv")
    assert saved.value.suggested_filename == "every-test-every-rung.csv"
    shown = pd.read_csv(tmp_path / "shown.csv")
    assert shown.columns.tolist() == ["test", "objective", "first stage", "random order", *SIZES]
    assert shown["test"].tolist() == ["a/test"] * 2 + ["b/test"] * 2
    page.close()


def test_a_figure_that_was_taken_along_is_whole(chromium, first_page, tmp_path):
    page = chromium.new_page(accept_downloads=True)
    page.goto(first_page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save this figure as SVG").first.click()
    saved.value.save_as(tmp_path / "figure.svg")
    figure = (tmp_path / "figure.svg").read_text()
    classes = set(re.findall(r'class="(\w+)"', figure))
    assert len(classes) > 5
    assert classes <= set(re.findall(r"[.](\w+)\{", figure))  # its styles came along
    page.goto((tmp_path / "figure.svg").as_uri())
    assert page.evaluate("document.querySelectorAll('parsererror').length") == 0
    assert page.evaluate("getComputedStyle(document.querySelector('text')).fontSize") == "11px"
    page.close()


def test_a_link_to_a_term_opens_the_glossary(chromium, first_page):
    page = chromium.new_page()
    page.goto(f"{first_page}#term-interval")
    assert page.locator("#term-interval").is_visible()
    page.goto(first_page)
    assert not page.locator("#term-interval").is_visible()
    page.locator("a.term", has_text=re.compile("^interval$")).first.click()
    assert page.locator("#term-interval").is_visible()
    anchors = page.locator("h2 a.permalink").evaluate_all("all => all.map(link => link.getAttribute('href'))")
    assert {"#forecasts", "#tests", "#take"} <= set(anchors)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_rules_of_accessibility_are_kept(chromium, first_page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="tests/requirements.txt is not installed")
    page = chromium.new_page(color_scheme=scheme)
    page.goto(first_page)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (rule["id"], node["html"][:120], node["failureSummary"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert serious == []
    page.close()
