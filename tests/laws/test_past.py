"""The ladder's own past: what is forecast of a rung rests on smaller ones alone."""

import pandas as pd
import pytest

from rankscale_utils.laws import expanding, judged, known

from .test_averaging import SIZES, ladder


@pytest.fixture(scope="module")
def past():
    return expanding([ladder("additive", 0)], known(), 0.95, 100)


def test_every_rung_after_two_is_forecast_by_the_average_and_each_law(past):
    new = past[past["kind"] == "new_run"]
    assert new.groupby("rungs_fitted")["law"].apply(sorted).to_dict() == {
        fitted: ["Kaplan", "additive", "average", "logarithm", "sigmoid"] for fitted in (2, 3)
    }
    assert new.loc[new["law"] == "average", ["lo", "hi"]].notna().all(axis=None)


def test_a_later_rung_changes_nothing_but_its_own_truth(past):
    series = ladder("additive", 0)
    table = series.table.assign(value=series.table["value"].where(series.table["N"] < SIZES[-1], 0.2))
    again = expanding([type(series)(series.labels, table, True, series.limits)], known(), 0.95, 100)
    kept = ["law", "kind", "rung", "forecast", "lo", "hi", "no_change"]
    pd.testing.assert_frame_equal(again[kept], past[kept])
    assert again.loc[again["rungs_fitted"] == 3, "actual"].unique().tolist() == [0.2]


def test_laws_are_judged_by_their_mean_error_beside_no_change(past):
    table = judged(past).set_index("law")
    assert set(table.index) == {"Kaplan", "additive", "average", "logarithm", "sigmoid", "no change"}
    last = past[(past["rungs_fitted"] == 3) & (past["kind"] == "new_run")].set_index("law")
    assert table.loc["average", "loss"] == pytest.approx(abs(last.loc["average", "relative_error"]))
    unchanged = last.loc["average", "no_change"] / last.loc["average", "actual"] - 1
    assert table.loc["no change", "loss"] == pytest.approx(abs(unchanged))
    assert table["loss"].is_monotonic_increasing
    assert table["weight"].sum() == pytest.approx(1)
