import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rankscale_utils.analysis.speedup import at_latencies, best_within_latency, latency_at, pareto_front
from rankscale_utils.measurements.per_query import mean_with_interval
from rankscale_utils.report import figures
from rankscale_utils.report import speedup as speedup_page

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


def test_the_front_holds_what_nothing_beats_or_equals():
    front = pareto_front(TIMED)
    assert front["value"].tolist() == [0.25, 0.35, 0.40]
    assert front["p50_ms"].tolist() == [1.0, 2.0, 9.0]
    twice = pd.concat([front, front])
    assert len(pareto_front(twice)) == 3


def test_the_best_within_a_budget_is_on_the_front():
    best = best_within_latency(TIMED, [0.5, 1.0, 5.0, 100.0])
    assert best["budget_ms"].tolist() == [1.0, 5.0, 100.0]  # nothing is as fast as half a millisecond
    assert best["name"].tolist() == ["BM25", "bi-encoder", "cross-encoder"]
    assert best_within_latency(TIMED, [0.1]).empty


def test_a_mean_stands_with_its_t_interval():
    values = np.random.default_rng(0).uniform(size=30)
    mean, lo, hi = mean_with_interval(values)
    assert mean == pytest.approx(values.mean())
    assert (lo, hi) == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95))
    assert np.isnan(mean_with_interval([0.5])[1:]).all()
    assert mean_with_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_latency_follows_power_laws_between_sizes_and_a_little_beyond():
    sizes = np.array([4e6, 1e6, 2e6])
    latency = 3e-6 * sizes**1.1
    at = np.array([2.5e5, 1e6, 1.5e6, 1.6e7])
    assert latency_at(sizes, latency, at) == pytest.approx(3e-6 * at**1.1)
    assert np.isnan(latency_at(sizes, latency, [2.4e5, 1.7e7])).all()
    bent = latency_at([1.0, 2.0, 4.0], [1.0, 1.0, 4.0], [0.5, 1.5, 3.0, 8.0])
    assert bent == pytest.approx([1.0, 1.0, 4 ** np.log2(1.5), 16.0])
    noisy = latency_at([8.0, 1.0, 4.0, 2.0], [4.5, 1.0, 8.0, 4.0], [1.0, 2.0, 4.0, 8.0, 31.0])
    assert noisy == pytest.approx(
        [1.0, 4.0, 6.0, 6.0, 6.0]
    )  # 4.5 and 8 ms in the wrong order: both their geometric mean


def test_the_best_forecast_within_a_budget():
    sizes = [1e6, 2e6, 4e6, 8e6, 64e6]
    forecasts = pd.concat(
        [
            pd.DataFrame({"family": family, "params_non_embedding": sizes, "forecast": np.add(values, 0.0)})
            for family, values in {
                "cross_encoder": [0.30, 0.34, 0.37, 0.39, 0.45],
                "ed2lm": [0.25, 0.30, 0.33, 0.35, 0.44],
            }.items()
        ]
    )
    forecasts = forecasts.assign(lo=forecasts["forecast"] - 0.01, hi=forecasts["forecast"] + 0.01)
    timed = TIMED.assign(params_non_embedding=TIMED["rung"].map({"s": 1e6, "l": 4e6}))
    options = at_latencies(forecasts, timed)
    assert set(options["name"]) == {"cross-encoder", "ED2LM, states"}  # the bi-encoder was timed at one size alone
    best = best_within_latency(options, [0.5, 1.5, 6.0, 1e9], "forecast")
    assert best["budget_ms"].tolist() == [1.5, 6.0, 1e9]
    assert best["name"].tolist() == ["ED2LM, states", "ED2LM, states", "cross-encoder"]
    assert best["params_non_embedding"].tolist() == [1e6, 8e6, 8e6]  # 64M is too far from what was timed
    assert best["forecast"].tolist() == [0.25, 0.35, 0.39]
    assert (best["hi"] - best["lo"]).to_numpy() == pytest.approx(0.02)
    assert (best["p50_ms"] <= best["budget_ms"]).all()
    alone = at_latencies(forecasts, timed[timed["rung"] == "s"])
    assert alone.empty
    assert {"name", "p50_ms", *forecasts} == set(alone)


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
    assert speedup_page.forecast_within_sentence(FORECASTS, "nDCG@10", [0.5, 2, 10]) == (
        "Best forecast of one new run at depth 20: within 2 ms a query ED2LM, states of 1,000,000 parameters (1 ms), "
        "nDCG@10 0.3000 [0.2000, 0.4000]; within 10 ms a query ED2LM, states of 2,300,000 parameters (4 ms), nDCG@10 "
        "0.3500 [0.3000, 0.4100]. Parameters are those outside the embeddings. Such 95% intervals of the held-out "
        "rungs held the truth in 94% of simulated studies."
    )
    assert speedup_page.forecast_within_sentence(FORECASTS, "nDCG@10", [2, 3]) == speedup_page.forecast_within_sentence(
        FORECASTS, "nDCG@10", [2]
    )
    assert "No system would be as fast" in speedup_page.forecast_within_sentence(FORECASTS, "nDCG@10", [0.5])
    assert "Nothing is forecast here" in speedup_page.forecast_within_sentence(FORECASTS.iloc[:0], "nDCG@10", [10])


def test_forecasts_are_drawn_with_their_bands_beside_what_was_measured():
    timed = TIMED[TIMED["family"] == "ed2lm"].assign(rung=["s", "l"])
    (axes,) = speedup_page.forecast_and_latency(FORECASTS, timed, held_out=["l"])
    line, fitted, held_out = axes.lines
    assert line.get_xydata().tolist() == FORECASTS[["p50_ms", "forecast"]].to_numpy().tolist()
    assert fitted.get_xydata().tolist() == [[1.0, 0.20]]
    assert held_out.get_xydata().tolist() == [[3.0, 0.30]]
    assert (fitted.get_marker(), held_out.get_marker()) == ("o", "D")
    assert held_out.get_color() == figures.HELD_OUT != fitted.get_color() == line.get_color()
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.20, 0.41))
    assert speedup_page.forecast_and_latency(FORECASTS.iloc[:0], timed, []) == []


def test_the_figure_shows_every_system_and_the_front_as_steps():
    table = TIMED.assign(lo=TIMED["value"] - 0.02, hi=TIMED["value"] + 0.01, metric="nDCG@10")
    table = table.assign(p50_low=TIMED["p50_ms"] * 0.9, p50_high=TIMED["p50_ms"] * 1.2)
    rate = np.array([200.0, 100.0, 200.0, 200.0, 300.0, 200.0])
    table = table.assign(pairs_per_second=rate, pairs_low=0.9 * rate, pairs_high=1.2 * rate)
    latency, rates = speedup_page.speed_and_quality(table)
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
    said = speedup_page.within_sentence(best_within_latency(table, [1, 20]))
    assert "within 1 ms a query BM25 at depth 10, nDCG@10 0.2500 [0.2300, 0.2700]" in said
    assert "within 20 ms a query cross-encoder l at depth 10, nDCG@10 0.4000" in said
    assert "No system" in speedup_page.within_sentence(best_within_latency(table, [0.1]))
