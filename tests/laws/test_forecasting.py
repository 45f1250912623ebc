import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import fit, forecast, joint_law, resample, score_forecasts

from .conftest import TRUTH


@pytest.fixture
def draws(law, ladder):
    return resample(fit(law, ladder()), draws=300)


def test_forecast_carries_its_row_and_keeps_kinds_apart(draws, held_out):
    table = forecast(draws, held_out.assign(objective="listwise"))
    assert table["kind"].tolist() == ["mean_law", "new_run"]
    assert set(table["objective"]) == {"listwise"}
    assert table["forecast"].to_numpy() == pytest.approx(draws.fit.predict(4.4e5, 1.6e5)[0])
    width = (table["hi"] - table["lo"]).to_numpy()
    assert 0 < width[0] < width[1]


def test_intervals_respect_the_ceiling(ladder, held_out):
    ceiling = joint_law(rising=True, limits=(0.0, 0.36))
    table = forecast(resample(fit(ceiling, ladder(seeds=1)), draws=200), held_out)
    assert (table["hi"] <= 0.36).all()
    assert table["status"].str.startswith("at a bound: asymptote").all()


def test_persistence_is_the_largest_fitted_rung_at_that_exposure(draws, held_out, ladder):
    measured = ladder().query("params_non_embedding == 110000").groupby("exposure")["value"].mean()
    assert forecast(draws, held_out)["persistence"].iloc[0] == pytest.approx(measured.iloc[-1])
    early = forecast(draws, held_out.assign(exposure=measured.index[2]))
    assert early["persistence"].iloc[0] == pytest.approx(measured.iloc[2])


def test_score_measures_error_coverage_and_skill(draws, held_out):
    made = forecast(draws, held_out).assign(forecast=0.35, lo=0.34, hi=0.36, persistence=0.33)
    truth = pd.concat([held_out.assign(run=run, value=value) for run, value in (("a", 0.345), ("b", 0.365))])
    scored = score_forecasts(made, truth)
    assert scored["actual"].to_numpy() == pytest.approx(0.355)
    assert scored["error"].to_numpy() == pytest.approx(-0.005)
    assert scored["relative_error"].to_numpy() == pytest.approx(-0.005 / 0.355)
    assert scored["covered"].tolist() == [1.0, 0.5]
    assert scored["skill"].to_numpy() == pytest.approx(1 - 0.005 / 0.025)


def test_score_keeps_objectives_apart_and_leaves_the_unmeasured_empty(draws, held_out):
    both = pd.concat([held_out.assign(objective=name) for name in ("listwise", "pointwise")])
    scored = score_forecasts(forecast(draws, both), held_out.assign(objective="listwise", run="a", value=0.35))
    assert scored.set_index("objective")["actual"].groupby(level=0).count().to_dict() == {"listwise": 2, "pointwise": 0}
    assert scored.query("objective == 'pointwise'")["covered"].isna().all()
    with pytest.raises(ValueError, match="no measured row shares"):
        score_forecasts(forecast(draws, held_out), held_out.assign(exposure=1.0, run="a", value=0.35))


def test_forecast_names_a_missing_column_and_a_wrong_level(draws, held_out):
    with pytest.raises(ValueError, match="column 'exposure' is missing"):
        forecast(draws, held_out.drop(columns="exposure"))
    with pytest.raises(ValueError, match="level is 95"):
        forecast(draws, held_out, level=95)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_the_truth_about_as_often_as_they_say(law, ladder, held_out, seeds):
    truth, rng, hits = law.predict(TRUTH, 4.4e5, 1.6e5)[0], np.random.default_rng(0), []
    for seed in range(60):
        table = forecast(resample(fit(law, ladder(seed, seeds=seeds)), draws=199, seed=seed), held_out)
        truths = np.array([truth, truth + rng.normal(0, np.hypot(0.004, 0.002))])
        hits.append((table["lo"] <= truths) & (truths <= table["hi"]))
    assert (np.mean(hits, axis=0) >= 0.83).all()
