import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image, ImageChops

from rankscale_utils.report import figures
from rankscale_utils.report.page import slim_page
from rankscale_utils.report.svg import SMALLEST, by_steps, inline_svg


@pytest.fixture
def drawn() -> str:
    """A figure as matplotlib writes it: lines, marks, a band, a legend."""
    figures.use_style()
    axes = figures.panel("Title", "exposure (pairs)", "nDCG@10")
    x = np.geomspace(1, 100, 40)
    figures.band(axes, x, np.log(x), np.log(x) - 0.3, np.log(x) + 0.5, "#0173b2", label="line")
    axes.plot(x[::8], np.log(x[::8]), "D", color=figures.HELD_OUT, label="mark")
    figures.log_axis(axes)
    axes.legend()
    out = io.StringIO()
    axes.figure.savefig(out, format="svg")
    plt.close(axes.figure)
    return out.getvalue()


def test_a_figure_stands_inline_in_the_pages_own_ink(drawn):
    raw, svg = drawn, inline_svg(drawn)
    assert raw.startswith("<?xml")
    assert "<metadata>" in raw
    assert figures.INK in raw
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert "<metadata>" not in svg
    assert figures.INK not in svg
    assert "currentColor" in svg
    assert figures.HELD_OUT in svg  # other colours stay
    assert "exposure (pairs)" in svg  # text is text
    name = "Title: nDCG@10 against exposure (pairs)"
    assert f'role="img" aria-label="{name}"' in svg
    assert f"<title>{name}</title>" in svg
    assert f'style="min-width:{0.76 * 72 * figures.PANEL[0]:.0f}pt"' in svg
    assert "<g id=" not in svg  # a page holds many figures


def test_text_of_a_figure_is_eleven_pixels_or_more_at_its_smallest():
    figures.use_style()
    axes = figures.panel("Title", "x", "y")
    axes.legend(axes.plot([1, 2], [3, 4]), ["line"])
    axes.figure.canvas.draw()
    texts = axes.figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and artist.get_text())
    assert min(text.get_fontsize() for text in texts) * SMALLEST * 4 / 3 >= 11
    plt.close(axes.figure)


def test_a_slim_figure_looks_the_same_in_less_than_half_the_bytes(chromium, drawn, tmp_path):
    whole = f"<!doctype html><html><head><title>x</title></head><body><main>{inline_svg(drawn)}</main></body></html>"
    slim = slim_page(whole)
    assert len(slim) < len(whole) / 2
    assert slim_page(slim) == slim
    pictures = []
    for name, html in (("whole", whole), ("slim", slim)):
        (tmp_path / f"{name}.html").write_text(html)
        page = chromium.new_page(viewport={"width": 800, "height": 600}, device_scale_factor=2)
        page.goto((tmp_path / f"{name}.html").as_uri())
        pictures.append(Image.open(io.BytesIO(page.locator("svg").screenshot())).convert("L"))
        page.close()
    assert pictures[0].size == pictures[1].size
    assert pictures[0].getextrema()[0] < 60  # something was drawn
    changed = np.asarray(ImageChops.difference(*pictures)) > 100
    assert changed.mean() < 2e-3  # edges that moved by half a tenth of a point


def test_steps_lead_to_the_places_that_a_path_names():
    path = "M 10.04 250.26 \nL 20.26 -0.74 \nL 20.26 30 \nC 1.5 2.25 3 4 5 6 \nz \nM 7 8 \nL 9.01 8 \n"
    assert by_steps(path) == "M10 250.3l10.3-251 0 30.7c-18.8-27.8-17.3-26-15.3-24zM7 8l2 0"
    assert by_steps("M 0 2.5 \nL 0.66 2.49 \n") == "M0 2.5l.66-.01"  # a mark
    assert by_steps("M 1 2 \nA 1 1 0 0 1 3 4") == "M 1 2 \nA 1 1 0 0 1 3 4"
    assert by_steps(by_steps(path)) == by_steps(path)


def test_ticks_are_one_path_and_marks_that_are_lines_stay_where_they_are_cut():
    figures.use_style()
    axes = figures.panel("Title", "x", "y")
    axes.plot([1, 2, 3], [1, 2, 3], "|", color=figures.HELD_OUT)
    axes.axhline(2.5)
    axes.set_xlim(1.5, 3)  # which cuts the first mark off
    out = io.StringIO()
    axes.figure.savefig(out, format="svg")
    plt.close(axes.figure)
    svg = slim_page(f"<head></head>{inline_svg(out.getvalue())}")
    (ticks,) = (path for path in re.findall(r'<path [^>]*d="([^"]*)"', svg) if path.count("M") > 3)
    assert {"0 4.8", "-4.8 0"} <= set(re.split("[Ml]", ticks))  # along x, along y
    marks = re.search(r'<g clip-path="[^"]*">(.*?)</g>', svg)[1]
    assert marks.count("<use ") == 3
    assert len(re.findall(r"clip-path=", svg)) == 1  # neither the grid nor the line across is cut
