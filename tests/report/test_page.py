from itertools import pairwise

import matplotlib.pyplot as plt
import nbformat
import pytest
from matplotlib.text import Text

from rankscale_utils.report import figures
from rankscale_utils.report.page import mathml, provenance, title_of


def test_formulas_become_mathml():
    inline = mathml("The law is $y = A x^{-\\alpha}$ here.")
    assert inline.startswith("The law is <math ")
    assert inline.endswith("</math> here.")
    assert 'display="inline"' in inline
    assert "α" in inline or "&#x003B1;" in inline
    assert "$" not in inline


def test_formulas_on_lines_of_their_own_become_blocks():
    block = mathml("Before\n\n$$\ny = a +\nb\n$$\n\nafter $c$")
    assert block.count("<math") == 2
    assert 'display="block"' in block
    assert block.startswith("Before\n\n<math")
    assert "$" not in block


@pytest.mark.parametrize("text", ["no formula", "it costs \\$5 or \\$6", "a lone $ sign", "5 $\nand 6 $ on two lines"])
def test_what_is_no_formula_stays(text):
    assert mathml(text) == text


def test_code_is_no_formula():
    assert mathml("set `$HOME` and `$PATH`") == "set `$HOME` and `$PATH`"


def test_names_of_lines_keep_their_order_and_do_not_overlap():
    figures.use_style()
    axes = figures.panel("", "", "")
    axes.set_ylim(0, 1)
    ends = [(1, y, name, "k") for y, name in ((0.51, "b"), (0.5, "a"), (0.52, "c"), (0.9, "d"))]
    figures.label_ends(axes, ends)
    axes.figure.canvas.draw()
    texts = sorted(axes.texts, key=lambda text: text.get_text())
    boxes = [Text.get_window_extent(text) for text in texts]
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))
    heights = [text.xyann[1] for text in texts]
    assert heights[-1] == pytest.approx(0.9)  # a name that has room stands at its line
    assert sum(heights[:3]) / 3 == pytest.approx(0.51)  # those that have not, around theirs
    plt.close(axes.figure)


def test_a_page_is_named_after_its_first_heading():
    cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_markdown_cell("## Not this\n# What is this?\nProse")]
    assert title_of(nbformat.v4.new_notebook(cells=cells)) == "What is this?"


def test_provenance_names_the_parameters_but_no_folder_of_the_machine():
    run = {"parameters": {"study": "/some/where/demo.yaml", "run": "listwise-w8-s0"}}
    run |= {"start_time": "2026-01-31T12:00:00.123456", "duration": 12.34}
    nb = nbformat.v4.new_notebook(metadata={"papermill": run})
    said = provenance(nb)
    assert said["study"] == "demo.yaml"
    assert said["run"] == "listwise-w8-s0"
    assert said["executed"] == "2026-01-31 12:00:00 UTC, 12.3 s"
    assert "/some/where" not in str(said)
