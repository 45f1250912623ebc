"""The mean over tests: of models that have all of them, behind what was measured."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import forecast
from rankscale_utils.analysis.other_queries import _shifts
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.mean_of_tests import MEAN_OF_TESTS, with_mean
from rankscale_utils.measurements.reading import read_measurements
from rankscale_utils.study.forecasting import Forecasting

SIZES = {"17m": 17e6, "32m": 32e6, "68m": 68e6, "150m": 150e6, "400m": 400e6}
STEP = {"objective": "listwise", "exposure": 1000.0}


@pytest.fixture
def table():
    """Five rungs on three tests, one of which has another metric too."""
    rows = [
        STEP
        | {"rung": rung, "params": size, "collection": test, "metric": metric, "value": value - (size / 1e6) ** -0.5}
        for rung, size in SIZES.items()
        for test, metric, value in [
            ("a", "nDCG@10", 0.5),
            ("b", "nDCG@10", 0.7),
            ("c", "nDCG@10", 0.9),
            ("a", "RR@10", 0.6),
        ]
    ]
    return pd.DataFrame(rows)


def test_a_mean_stands_behind_what_was_measured(table):
    read = read_measurements(
        table.assign(
            ceiling=0.95, first_stage=table["collection"].map({"a": 0.2, "b": 0.3, "c": 0.7}), over_random_lo=0.1
        )
    )
    made = with_mean(read)
    pd.testing.assert_frame_equal(made[: len(read)], read)
    mean = made[len(read) :]
    assert mean["rung"].tolist() == list(SIZES)
    assert set(mean["metric"]) == {"nDCG@10"}  # the other is measured on one test
    assert set(mean["collection"]) == {MEAN_OF_TESTS}
    expected = 0.7 - (np.array(list(SIZES.values())) / 1e6) ** -0.5
    np.testing.assert_allclose(mean["value"], expected, rtol=1e-12)
    np.testing.assert_allclose(mean["first_stage"], 0.4, rtol=1e-12)
    assert mean["over_random_lo"].isna().all()


def test_a_model_that_lacks_a_test_has_no_mean(table):
    lacking = table.drop(table[(table["rung"] == "32m") & (table["collection"] == "b")].index)
    failed = lacking.assign(
        excluded=np.where((table["rung"] == "68m") & (table["collection"] == "c"), "diverged", "")[lacking.index]
    )
    made = with_mean(read_measurements(failed))
    assert made.loc[made["collection"] == MEAN_OF_TESTS, "rung"].tolist() == ["17m", "150m", "400m"]


def test_one_test_has_no_mean(table):
    read = read_measurements(table[table["collection"] == "a"])
    assert with_mean(read) is read


def test_a_test_of_that_name_is_refused(table):
    read = read_measurements(table.replace({"collection": {"b": MEAN_OF_TESTS}}))
    with pytest.raises(
        StudyError, match=r"^collection = 'mean of tests': forecasting\.mean_of_tests makes rows of that"
    ):
        with_mean(read)


def test_its_forecast_is_that_of_means_taken_by_hand(table):
    ours = forecast(table, ["400m"], mean_of_tests=True, draws=100, metrics="nDCG@10")
    assert ours["collection"].tolist() == ["a", "b", "c", MEAN_OF_TESTS]
    mean = ours.iloc[-1]
    assert mean["actual"] == pytest.approx(0.7 - 400**-0.5)
    by_hand = (
        table[table["metric"] == "nDCG@10"]
        .groupby("rung", sort=False)
        .agg({name: "first" for name in table} | {"value": "mean"})
    )
    theirs = forecast(by_hand.assign(collection="own"), ["400m"], draws=100).iloc[0]
    assert mean["no_change"] == pytest.approx(theirs["no_change"])
    assert mean["forecast"] == pytest.approx(theirs["forecast"], rel=0.02)  # a law by itself, or beside the tests' own


def test_the_queries_of_every_test_are_drawn_anew():
    rng, runs = np.random.default_rng(0), ["listwise-17m-s0", "listwise-32m-s0"]
    values = pd.concat(
        pd.DataFrame({"query_id": [f"{test}{number}" for number in range(count)], "value": rng.normal(0.5, sd, count)})
        .assign(run=run, exposure=1000, collection=test, task="rerank", metric="nDCG@10", score="own")
        for run in runs
        for test, count, sd in [("a", 50, 0.1), ("b", 200, 0.3)]
    )  # fmt: skip
    labels = {"metric": "nDCG@10", "task": "rerank", "score": "own", "collection": MEAN_OF_TESTS}
    series = SimpleNamespace(**labels, table=pd.DataFrame({"run": runs, "exposure": 1000.0}))
    moved = _shifts(series, values, SimpleNamespace(forecasting=Forecasting()))
    assert moved.shape == (300, 2)
    np.testing.assert_allclose(moved.std(0), np.hypot(0.1 / 50**0.5, 0.3 / 200**0.5) / 2, rtol=0.2)
