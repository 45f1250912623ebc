"""Figures in JupyterLab: in its theme's ink, side by side, together as wide as the notebook."""

import io

import matplotlib.pyplot as plt
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure

from .svg import inline_svg

BESIDE = "flex: 1 1 26rem; min-width: 0; max-width: 54rem;"  # of a figure: two stand beside each other where they can


def show_figures_wide() -> None:
    """Let a notebook that is run by hand show each cell's figures so; without a notebook nothing changes."""
    shell = get_ipython()
    if shell is not None and _show not in shell.events.callbacks["post_execute"]:
        shell.events.callbacks["post_execute"].insert(0, _show)  # before matplotlib's own, which then finds none


def _show() -> None:
    shown = [plt.figure(number) for number in plt.get_fignums()]
    if shown:
        display(HTML(gallery(shown)))


def gallery(shown: list[Figure]) -> str:
    """Return figures as HTML, side by side, and close them."""
    parts = "".join(f'<div style="{BESIDE}">{_wide(figure)}</div>' for figure in shown)
    return f'<div class="figures" style="display: flex; flex-wrap: wrap; gap: 0.6rem 1rem;">{parts}</div>'


def _wide(figure: Figure) -> str:
    """Return a figure as SVG that is as wide as what holds it."""
    out = io.StringIO()
    figure.savefig(out, format="svg")
    plt.close(figure)
    return inline_svg(out.getvalue()).replace('style="', 'style="width: 100%; height: auto; ', 1)
