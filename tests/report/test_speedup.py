import numpy as np
import pandas as pd
import pytest

from rankscale_utils.report import figures
from rankscale_utils.report import speedup as page
from tests.report.html import cells

TIMED = pd.DataFrame(
    [
        ("cross-encoder", "cross_encoder", "s", 10, 2.0, 0.30),
        ("cross-encoder", "cross_encoder", "l", 10, 9.0, 0.40),
        ("ED2LM, states", "ed2lm", "s", 10, 1.0, 0.20),
        ("ED2LM, states", "ed2lm", "l", 10, 3.0, 0.30),
        ("BM25", "bm25", "", 10, 1.0, 0.25),
        ("bi-encoder", "bi_encoder", "s", 10, 2.0, 0.35),
    ],
    columns=["name", "family", "rung", "depth", "p50_ms", "value"],
)


FORECASTS = pd.DataFrame(
    {
        "family": "ed2lm",
        "name": "ED2LM, states",
        "params_non_embedding": [1e6, 2.34e6],
        "p50_ms": [1.0, 4.0],
        "forecast": [0.30, 0.35],
        "lo": [0.20, 0.30],
        "hi": [0.40, 0.41],
        "level": 0.95,
        "coverage": [0.9, 0.98],
        "metric": "nDCG@10",
        "depth": 20,
    }
)


def test_the_sentence_says_what_the_laws_forecast_within_each_budget():
    assert page.forecast_within_sentence(FORECASTS, "nDCG@10", [0.5, 2, 10]) == (
        "Best forecast of one new run at depth 20: within 2 ms a query ED2LM, states of 1,000,000 parameters (1 ms), "
        "nDCG@10 0.3000 [0.2000, 0.4000]; within 10 ms a query ED2LM, states of 2,300,000 parameters (4 ms), nDCG@10 "
        "0.3500 [0.3000, 0.4100]. Parameters are those outside the embeddings. Such 95% intervals "
        "held the truth in 94% of forecasts on public ladders of others."
    )
    assert page.forecast_within_sentence(FORECASTS, "nDCG@10", [2, 3]) == page.forecast_within_sentence(
        FORECASTS, "nDCG@10", [2]
    )
    assert "No system would be as fast" in page.forecast_within_sentence(FORECASTS, "nDCG@10", [0.5])
    assert "Nothing is forecast here" in page.forecast_within_sentence(FORECASTS.iloc[:0], "nDCG@10", [10])


def test_forecasts_are_drawn_with_their_bands_beside_what_was_measured():
    timed = TIMED[TIMED["family"] == "ed2lm"].assign(rung=["s", "l"])
    (axes,) = page.forecast_and_latency(FORECASTS, timed, held_out=["l"])
    line, fitted, held_out = axes.lines
    assert line.get_xydata().tolist() == FORECASTS[["p50_ms", "forecast"]].to_numpy().tolist()
    assert fitted.get_xydata().tolist() == [[1.0, 0.20]]
    assert held_out.get_xydata().tolist() == [[3.0, 0.30]]
    assert (fitted.get_marker(), held_out.get_marker()) == ("o", "D")
    assert held_out.get_color() == figures.HELD_OUT != fitted.get_color() == line.get_color()
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.20, 0.41))
    assert page.forecast_and_latency(FORECASTS.iloc[:0], timed, []) == []


def test_the_figure_shows_every_system_and_the_front_as_steps():
    table = TIMED.assign(lo=TIMED["value"] - 0.02, hi=TIMED["value"] + 0.01, metric="nDCG@10")
    table = table.assign(p50_low=TIMED["p50_ms"] * 0.9, p50_high=TIMED["p50_ms"] * 1.2)
    rate = np.array([200.0, 100.0, 200.0, 200.0, 300.0, 200.0])
    table = table.assign(pairs_per_second=rate, pairs_low=0.9 * rate, pairs_high=1.2 * rate)
    latency, rates = page.speed_and_quality(table)
    assert latency.get_xscale() == "log"
    for axes, xs in ((latency, [1.0, 2.0, 9.0, 9.0]), (rates, [300.0, 200.0, 100.0, 100.0])):
        front = axes.lines[0]
        assert front.get_xdata().tolist() == xs
        assert front.get_ydata().tolist() == [0.25, 0.35, 0.40, 0.40]
        assert front.get_drawstyle() == "steps-post"
        assert [text.get_text() for text in axes.texts] == ["BM25 at 10", "s at 10", "l at 10"]
    for axes in (latency, rates):
        assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == table["name"].unique().tolist()
    colours = {box.get_label(): box.lines[0].get_color() for box in latency.containers}
    assert len(set(colours.values())) == 4
    bars = latency.containers[0].lines[2]  # of latency, then of quality
    assert bars[0].get_segments()[0][:, 0].tolist() == pytest.approx([1.8, 2.4])
    assert bars[1].get_segments()[0][:, 1].tolist() == pytest.approx([0.28, 0.31])


def test_the_sentence_names_what_is_best_within_each_budget():
    table = TIMED.assign(lo=TIMED["value"] - 0.02, hi=TIMED["value"] + 0.02, metric="nDCG@10")
    table = table.assign(first_stage=0.24, collection="a/test")
    said = page.within_sentence(table, 6.64, [2, 20])
    assert "within 2 ms a query bi-encoder s at depth 10, nDCG@10 0.3500 [0.3300, 0.3700]" in said
    assert "within 20 ms a query cross-encoder l at depth 10, nDCG@10 0.4000" in said
    assert said.endswith(
        "needs no reranking, scores nDCG@10 0.2400 on a/test. Tokenisation comes on top: 6.6 ms a query."
    )
    assert "No system" in page.within_sentence(table[table["name"] == "BM25"], budgets_ms=[1])


def test_nothing_is_recommended_that_ranks_below_the_first_stage():
    table = TIMED.assign(lo=TIMED["value"] - 0.02, hi=TIMED["value"] + 0.02, metric="nDCG@10", first_stage=0.358)
    table = table.assign(collection="a/test")
    said = page.within_sentence(table, budgets_ms=[1, 2])
    assert said == (
        "Rerank with none of these: the first stage's own order, which needs no reranking, scores nDCG@10 0.3580 on "
        "a/test, the best within 2 ms, bi-encoder s at depth 10, 0.3500."
    )
    assert "within 20 ms a query cross-encoder l" in page.within_sentence(table, budgets_ms=[1, 20])
    assert "within 1 ms" not in page.within_sentence(table, budgets_ms=[1, 20])


def test_the_first_stage_is_a_line_and_what_ranks_below_it_on_no_front():
    table = TIMED.assign(lo=TIMED["value"], hi=TIMED["value"], metric="nDCG@10", first_stage=0.32)
    table = table.assign(p50_low=TIMED["p50_ms"], p50_high=TIMED["p50_ms"])
    axes = figures.quality_and_latency(table)
    assert axes.lines[0].get_ydata().tolist() == [0.35, 0.40, 0.40]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.32]
    assert [text.get_text() for text in axes.texts] == ["s at 10", "l at 10", "first stage"]


def test_lengths_are_compared_with_the_slowest_system_where_there_are_several():
    both = pd.DataFrame({"name": ["cross-encoder", "ED2LM, states"], "document_tokens": 64, "p50_ms": [2.0, 1.0],
        "faster": [1.0, 2.0], "faster_counted": [1.0, 2.5], "grown": 1.0, "grown_counted": 1.0, "p50_low": 0.5,
        "p50_high": 3.0, "flops_per_pair": [1e4, 4e3], "bytes_per_document": np.nan, "repeats": 3})  # fmt: skip
    head, _, row = cells(page.lengths_table(both))
    assert row[:5] == ["ED2LM, states", "64", "1.00", "2.0", "2.5"]
    assert row[head.index("bytes stored a document")] == "–"
    assert "× as fast as the slowest" in head
    assert "× as fast as the slowest" not in cells(page.lengths_table(both.head(1)))[0]
