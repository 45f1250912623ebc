from html import unescape

import pytest
from matplotlib import pyplot as plt

from rankscale_utils.report import figures
from rankscale_utils.report.index import as_svg


@pytest.mark.parametrize(
    "name", ["$5 model, or $6", r"on $$\frac{1}{0}$$", "</text><script>alert(1)</script>", "a\nb & c"]
)
def test_a_name_is_drawn_as_it_stands(name):
    figures.use_style()
    axes = figures.panel(name, "pairs", name)
    axes.plot([1, 10], [1, 2], label=name)
    axes.legend()
    figures.log_axis(axes)
    figures.label_ends(axes, [(10, 2, name, "red")])
    svg = as_svg(axes)
    plt.close("all")
    assert "<script" not in svg
    for line in name.splitlines():
        assert unescape(svg).count(line) >= 3  # title, label, end, and the legend


def test_a_billion_parameters_are_1b():
    axes = figures.panel("sizes", "parameters", "nDCG@10")
    axes.plot([17e6, 1e9], [0.2, 0.4])
    figures.log_axis(axes)
    axes.figure.canvas.draw()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    plt.close("all")
    assert {"100M", "1B"} <= set(labels)
