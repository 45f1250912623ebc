import pandas as pd
import pytest

from rankscale_utils.analysis.curves import Curves
from rankscale_utils.report import curves as page
from rankscale_utils.report import figures

SERIES = {"objective": "listwise", "metric": "AP", "collection": "first", "task": "rerank", "score": "own"}
SIZES = {"w8": 1e3, "w16": 4e3, "w48": 3e4}
LAWS = ["average", *(f"{law}, {pooling}" for law in ("size", "joint", "Kaplan") for pooling in ("pooled", "alone"))]
LAWS += ["two-step"]


def rows(rungs, exposures=(480.0, 960.0), seeds=(0, 1)):
    table = pd.DataFrame(
        {"rung": rung, "exposure": at, "seed": seed} for rung in rungs for at in exposures for seed in seeds
    )
    return table.assign(**SERIES, params_non_embedding=table["rung"].map(SIZES), value=0.5 + 0.1 * table["seed"])


def drawn(opened):
    """Return the curves of one series that keeps seven laws, its largest rung held out."""
    along_size = [
        pd.DataFrame({"params_non_embedding": [1e3, 3e4], "forecast": 0.5 + 0.01 * place, "law": law, "along": "size"})
        for place, law in enumerate(LAWS)
    ]
    along_exposure = [
        pd.DataFrame({"exposure": [480.0, 960.0], "forecast": [0.4, 0.5], "law": "average", "along": "exposure"})
        .assign(rung=rung, params_non_embedding=size)
        for rung, size in SIZES.items()
    ]  # fmt: skip
    lines = pd.concat([*along_size, *along_exposure], ignore_index=True).assign(**SERIES)
    lines = lines.assign(lo=lines["forecast"] - 0.1, hi=lines["forecast"] + 0.1)
    seen = rows(["w8", "w16"])
    truth = rows(["w48"]).assign(run="listwise-w48-s0") if opened else seen.iloc[:0].assign(run="")
    return Curves(lines, seen[seen["exposure"] == 960], seen, truth, ["w48"])


def test_any_number_of_laws_is_drawn_each_with_a_line_of_its_own():
    [axes] = page.by_size(drawn(opened=False))
    shown = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert shown == [*LAWS, "fitted runs"]
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines[:-1]}
    assert len(looks) == len(LAWS)


@pytest.mark.parametrize("opened", [False, True])
def test_held_out_runs_are_drawn_once_they_are_opened(opened):
    [axes] = page.by_size(drawn(opened))
    diamonds = [line for line in axes.lines if line.get_color() == figures.HELD_OUT]
    assert len(diamonds) == opened
    assert all(set(line.get_xdata()) == {SIZES["w48"]} for line in diamonds)


def test_dots_along_exposure_are_means_over_seeds():
    [axes] = page.by_exposure(drawn(opened=False))
    line, dots, *_ = axes.lines
    assert line.get_ydata().tolist() == [0.4, 0.5]
    assert dots.get_xydata().tolist() == [[480.0, pytest.approx(0.55)], [960.0, pytest.approx(0.55)]]
    assert [text.get_text() for text in axes.texts] == list(SIZES)
    assert axes.lines[-2].get_color() == figures.HELD_OUT
