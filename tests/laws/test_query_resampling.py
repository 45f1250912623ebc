"""Resampling test queries: shared by all models, as wide as theory says, and no part of what tells models apart."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import Series, averages, known, query_errors, query_shifts

QUERIES = 400


@pytest.fixture
def values():
    """Six models (rows): a difficulty of every query that all share, a model's own level, little noise."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(size=QUERIES) + np.arange(6)[:, None] + 0.01 * rng.normal(size=(6, QUERIES)))


def test_a_mean_moves_by_its_standard_error(values):
    shifts = query_shifts(values, draws=2000)
    expected = values.std(axis=1).to_numpy() / np.sqrt(QUERIES)
    assert shifts.std(0) == pytest.approx(expected, rel=0.06)
    assert np.abs(shifts.mean(0)).max() < 4 * expected.max() / np.sqrt(2000)


def test_all_models_meet_the_same_drawn_queries(values):
    shifts = query_shifts(values, draws=500)
    apart = (shifts - shifts.mean(1, keepdims=True)).std()
    assert apart < 0.03 * shifts.std()
    assert query_shifts(values.iloc[:2], draws=500) == pytest.approx(shifts[:, :2])


def test_a_query_that_a_metric_leaves_out_does_not_count(values):
    holes = values.copy()
    holes[holes.columns[::2]] = np.nan
    expected = holes.std(axis=1).to_numpy() / np.sqrt(QUERIES / 2)
    assert query_shifts(holes, draws=2000).std(0) == pytest.approx(expected, rel=0.06)


def test_what_moves_every_model_alike_moves_the_forecast_as_much():
    sizes = np.repeat([1e4, 3e4, 1e5, 3e5], 3)
    table = pd.DataFrame({"run": [f"r{i}" for i in range(12)], "rung": sizes.astype(str), "N": sizes, "D": 1e5})
    gap = 0.2 + 3 * sizes**-0.4 + np.random.default_rng(0).normal(scale=1e-3, size=12)
    series = Series(
        {"objective": "listwise", "metric": "nDCG@10"}, table.assign(value=1 - gap), True, (0.0, 1.0), "value"
    )
    found = averages([series], known(), draws=100)
    alike = np.random.default_rng(1).normal(scale=0.01, size=(300, 1)) * np.ones(12)
    at = pd.DataFrame({"N": [1e6], "D": [1e5]})
    (error,) = query_errors(found, [alike], [at])
    assert error == pytest.approx(alike[:, 0].std(), rel=0.15)
    (nothing,) = query_errors(found, [0 * alike], [at])
    assert nothing == pytest.approx(0, abs=1e-6)


def test_forecasts_follow_changed_rows_as_a_new_fit_does():
    """To first order, for a change that tells rungs apart."""
    sizes = np.repeat([1e4, 3e4, 1e5, 3e5], 3)
    table = pd.DataFrame({"run": [f"r{i}" for i in range(12)], "rung": sizes.astype(str), "N": sizes, "D": 1e5})
    noise = np.random.default_rng(0).normal(scale=2e-3, size=12)
    series = Series({}, table.assign(value=0.8 - 3 * sizes**-0.4 + noise), True, (0.0, 1.0))
    changed = Series({}, series.table.assign(value=series.table["value"] + 0.004 * (sizes > 1e5)), True, (0.0, 1.0))
    at = pd.DataFrame({"N": [1e6], "D": [1e5]})
    (before,), (after,) = (averages([one], known(), draws=2000) for one in (series, changed))
    for name, made in before.posteriors.items():
        change = changed.on_scale(changed.table["value"]) - series.on_scale(series.table["value"])
        still, moved = made.moved(np.stack([0 * change, change]), at["N"], at["D"])[:, 0]
        refitted = after.posteriors[name].problem
        again = refitted.numbers(after.posteriors[name].centre, *refitted.series.away(at["N"], at["D"]))[0]
        assert moved - still == pytest.approx(again - still, rel=0.35), name
