import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rankscale_utils.analysis.speedup import at_latencies, best_within_latency, latency_at, pareto_front
from rankscale_utils.measurements.per_query import mean_with_interval

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
