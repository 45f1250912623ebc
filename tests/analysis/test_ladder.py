"""From a table in memory to forecasts: what is held out is not seen, and nothing is written."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import allocate, fit, forecast
from rankscale_utils.analysis.coefficients import COEFFICIENTS
from rankscale_utils.errors import StudyError

FEW = {"draws": 100}


@pytest.fixture(scope="module")
def table():
    """Five rungs at two exposures, which size laws alone can be fitted to, with noise between runs."""
    rng = np.random.default_rng(0)
    rows = [
        ("listwise", f"{size}m", size * 1.2e6, size * 1e6, seed, D, "dev", "nDCG@10", 0.5 - size**-0.5 / 2 + noise)
        for size in (17, 32, 68, 150, 400)
        for seed in (0, 1)
        for noise in rng.normal(0, 0.001, 1)
        for D in (2e3, 4e3)
    ]
    columns = ["objective", "rung", "params", "params_non_embedding", "seed", "exposure", "collection", "metric"]
    return pd.DataFrame(rows, columns=[*columns, "value"])


@pytest.fixture(scope="module")
def forecasts(table):
    return forecast(table, held_out=["150m", "400m"], **FEW)


def test_one_row_a_series_and_rung_with_all_that_a_forecast_needs(forecasts):
    assert forecasts["rung"].tolist() == ["150m", "400m"]
    assert forecasts["collection"].tolist() == ["dev"] * 2
    assert (forecasts["exposure"] == 4e3).all()
    assert (forecasts["lo"] < forecasts["forecast"]).all()
    assert (forecasts["forecast"] < forecasts["hi"]).all()
    assert (forecasts["level"] == 0.95).all()
    assert forecasts["coverage"].between(0, 1).all()
    assert forecasts["past_intervals"].tolist() == [0, 0]  # three fitted rungs have no past with intervals
    assert forecasts["no_change"].nunique() == 1
    assert forecasts[["p0_size", "p0_joint"]].notna().any(axis=None)


def test_the_truth_is_what_the_held_out_runs_measured(table, forecasts):
    ends = table[table["exposure"] == 4e3].groupby("rung")["value"].mean()
    assert forecasts["actual"].to_numpy() == pytest.approx(ends[forecasts["rung"]].to_numpy())
    assert forecasts["error"].to_numpy() == pytest.approx((forecasts["forecast"] - forecasts["actual"]).to_numpy())
    assert forecasts["error"].abs().max() < 0.03


def test_held_out_values_change_nothing_but_the_truth(table, forecasts):
    halved = table.assign(value=table["value"].where(~table["rung"].isin(["150m", "400m"]), table["value"] / 2))
    again = forecast(halved, held_out=["150m", "400m"], **FEW)
    known = ["forecast", "lo", "hi", "coverage", "no_change", "p0_size", "p0_joint"]
    pd.testing.assert_frame_equal(again[known], forecasts[known], check_exact=True)
    assert again["actual"].to_numpy() == pytest.approx(forecasts["actual"].to_numpy() / 2)


def test_runs_to_come_are_forecast_as_if_they_had_been_held_out(table, forecasts):
    seen = table[~table["rung"].isin(["150m", "400m"])]
    planned = pd.DataFrame({"rung": ["150m", "400m"], "params": [1.8e8, 4.8e8], "exposure": 4e3})
    made = forecast(seen, at=planned, **FEW)
    for name in ("forecast", "lo", "hi", "coverage", "no_change"):
        assert made[name].to_numpy() == pytest.approx(forecasts[name].to_numpy(), rel=1e-9), name
    assert made["actual"].isna().all()


def test_rungs_held_out_and_runs_to_come_stand_in_one_table(table):
    planned = pd.DataFrame({"rung": ["1b"], "params": [1.2e9], "exposure": [4e3]})
    made = forecast(table, held_out="400m", at=planned, level=0.8, every_law=True, **FEW)
    assert set(made["rung"]) == {"400m", "1b"}
    assert set(made["kind"]) == {"mean_law", "new_run"}
    assert {"average", "P0 size", "P0 joint", "no change"} < set(made["law"])
    assert (made["level"] == 0.8).all()
    assert made.groupby("rung")["actual"].count().to_dict() == {"1b": 0, "400m": (made["rung"] == "400m").sum()}


def test_fits_are_tables_of_laws_and_candidates(table):
    fits = fit(table, held_out=["400m"], draws=100)
    coefficients = fits.coefficients
    assert {"objective", "metric", "law", "status", "scale", *COEFFICIENTS} <= set(coefficients)
    assert coefficients["law"].tolist() == list(fits.series[0].laws)
    assert set(fits.judged["law"]) == {*coefficients["law"], "average", "no change"}
    assert "400m" not in set(fits.past["rung"])
    assert "400m" in set(fit(table, draws=100).past["rung"])


def test_a_script_of_three_lines_forecasts_the_same_on_any_threads_and_leaves_no_file(table, tmp_path):
    table.to_csv(tmp_path / "mine.csv", index=False)
    asked = 'forecast("mine.csv", ["400m"], draws=100)[["forecast", "lo", "hi"]]'
    script = f"import rankscale_utils as r\nprint(r.{asked}.to_json(double_precision=15))\n"
    (tmp_path / "mine.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=tmp_path,
        env=os.environ | {"RANKSCALE_ROOT": str(tmp_path), "OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    here = forecast(table, ["400m"], **FEW)[["forecast", "lo", "hi"]]
    assert done.stdout == here.to_json(double_precision=15) + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "mine.py"]


def planned(**columns):
    return pd.DataFrame([{"rung": "1b", "params": 1e9, "exposure": 4e3} | columns])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing is to be forecast: name rungs in held_out, or give runs to come as a table, at"),
        ({"held_out": ["1b"]}, r"\['1b'\] have no row in the measurements, whose rungs are"),
        ({"held_out": ["68m", "150m", "400m"]}, "2 rungs are left to fit: a size law needs three or more"),
        ({"held_out": ["400m"], "drws": 100}, "drws is not a field of a study, did you mean draws?"),
        ({"held_out": ["400m"], "level": 1.5}, "forecasting: level = 1.5: input should be less than 1"),
        (
            {"held_out": ["400m"], "metrics": ["AP"]},
            r"metrics \['AP'\] have no row in the measurements: name some of n",
        ),
        ({"held_out": ["400m"], "exposure": "tokens"}, "exposure = tokens: the measurements have no tokens"),
        ({"at": planned().drop(columns="params")}, "at lacks params: it has rung, exposure; add what is missing"),
        ({"at": planned(params=-1)}, "at, row 0: params = -1: must be a positive, finite number"),
    ],
)
def test_what_cannot_be_forecast_is_one_sentence(table, asked, said):
    with pytest.raises(StudyError, match=said) as caught:
        forecast(table, **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("budgets", [[], [0.0], [1e15, float("inf")]])
def test_budgets_that_are_none_are_refused(table, budgets):
    with pytest.raises(StudyError, match=r"budgets = \[.*\]: each must be a positive, finite number of training FLOPs"):
        allocate(table, budgets)


def test_two_exposures_divide_no_budget(table):
    with pytest.raises(StudyError, match="no metric has a law of size and exposure together"):
        allocate(table, [1e15], draws=100)


def odd(table, **values):
    """Return rows of a further objective, with other values."""
    return table.assign(objective="other", **values)


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        (lambda table: odd(table[table["rung"].isin(["17m", "32m"])]), "2 fitted rungs measured: a size law needs 3"),
        (lambda table: odd(table[~table["rung"].isin(["150m", "400m"])]), "no row of it on 150m or 400m"),
        (lambda table: odd(table, value=0.25), "nDCG@10 is 0.25 in every run"),
        (lambda table: odd(table, value=0.0), "nDCG@10 is 0 in every run"),
        (lambda table: odd(table, value=1.0), "nDCG@10 is its ceiling, 1, in every run"),
        (lambda table: odd(table, random_order=0.6), "better than that of a random order, 0.6000"),
    ],
)
def test_a_series_that_a_study_would_leave_out_is_left_out_with_its_reason(table, forecasts, further, reason):
    both = pd.concat([table, further(table)], ignore_index=True)
    with pytest.warns(UserWarning, match=f"left out: nDCG@10 of other on dev: .*{reason}") as warned:
        made = forecast(both, held_out=["150m", "400m"], **FEW)
    assert [warning.filename for warning in warned] == [__file__]
    pd.testing.assert_frame_equal(made, forecasts, check_exact=True)


def test_a_series_whose_sizes_show_no_order_is_forecast_with_a_warning(table):
    noise = 0.3 + 0.01 * np.random.default_rng(0).normal(size=len(table))
    said = "not predictable from these runs: nDCG@10 of other on dev: it rises with size by .* times the noise"
    with pytest.warns(UserWarning, match=said) as warned:
        made = forecast(pd.concat([table, odd(table, value=noise)]), held_out=["150m", "400m"], **FEW)
    assert [warning.filename for warning in warned] == [__file__]
    assert made.set_index("objective")["predictable"].groupby("objective").all().to_dict() == {
        "listwise": True,
        "other": False,
    }


def test_a_ladder_without_a_series_to_fit_is_refused_with_the_reasons(table):
    said = "no series can be fitted: nDCG@10 of listwise on dev: nDCG@10 is 0.25 in every run"
    for ask in (forecast, fit, allocate):
        with pytest.raises(StudyError, match=said):
            ask(table.assign(value=0.25), held_out=["400m"])


def test_a_series_without_held_out_rows_is_forecast_where_runs_to_come_are_asked_for(table):
    fitted = table[~table["rung"].isin(["150m", "400m"])]
    planned = pd.DataFrame({"rung": ["1b"], "params": [1e9], "exposure": 4e3})
    made = forecast(pd.concat([table, odd(fitted)]), held_out=["150m", "400m"], at=planned, **FEW)
    assert made.groupby("objective")["rung"].apply(list).to_dict() == {
        "listwise": ["150m", "400m", "1b"],
        "other": ["1b"],
    }


def test_runs_that_end_below_their_best_are_named(table):
    """Both runs of 150m lose a tenth while exposure grows from 8e3 to 16e3."""
    ends, rng = table[table["exposure"] == 4e3], np.random.default_rng(0)
    grown = pd.concat(ends.assign(exposure=D, value=ends["value"] - 5 / D) for D in (2e3, 4e3, 8e3, 16e3))
    grown["value"] += rng.normal(0, 2e-4, len(grown))
    grown.loc[(grown["rung"] == "150m") & (grown["exposure"] == 16e3), "value"] *= 0.9
    said = "past their best: nDCG@10 of listwise on dev: listwise-150m-s0, listwise-150m-s1 end below their best"
    with pytest.warns(UserWarning, match="not predictable"), pytest.warns(UserWarning, match=said):
        forecast(grown.reset_index(drop=True), held_out=["400m"], **FEW)
