"""P0's forecasts, made again from its measurements, are the ones that it published."""

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

import rankscale_utils
from rankscale_utils.laws import baselines, p0_forecast, persistence

p0_size, p0_joint = partial(p0_forecast, "size"), partial(p0_forecast, "joint")
HELD_OUT = ["400m", "1b"]
OBJECTIVES = {"listnet": "listwise", "bce": "pointwise"}
METRICS = {"ndcg@10": "nDCG@10", "recall@10": "R@10", "MAP": "AP@100", "MRR": "RR@100", "CE": "CE64",
           "precision@10": "P@10"}  # fmt: skip
RETRIEVAL = [metric for metric in METRICS if metric != "CE"]
SERIES = [(loss, metric) for loss in OBJECTIVES for metric in METRICS]


@pytest.fixture(scope="module")
def measured():
    table = pd.read_csv(Path(rankscale_utils.__file__).parent / "measurements" / "published" / "p0_measurements.csv")
    return table.assign(run=table["objective"] + "-" + table["rung"])


@pytest.fixture
def published(real_data):
    """Return what reads one of P0's published tables."""

    def read(name):
        path = real_data / "published" / name
        if not path.is_file():
            pytest.skip(f"{name} is not among the real data")
        return pd.read_csv(path)

    return read


def split(measured, loss, metric):
    """One series' fitted rungs, its held-out rungs, and the last row of each of these."""
    series = measured[(measured["objective"] == OBJECTIVES[loss]) & (measured["metric"] == METRICS[metric])]
    held_out = series[series["rung"].isin(HELD_OUT)].sort_values(["params", "step"])
    return series.drop(held_out.index), held_out, held_out.groupby("rung", sort=False).tail(1)


def ladder(value, sizes=(1e6, 4e6, 1.6e7, 6.4e7), checkpoints=12, noise=1e-3):
    """A run a size, whose values are known but for noise."""
    N, D = (grid.ravel() for grid in np.meshgrid(sizes, 100.0 * np.arange(1, checkpoints + 1), indexing="ij"))
    values = value(N, D) + np.random.default_rng(0).normal(0, noise, len(N))
    return pd.DataFrame({"run": N.astype(str), "params": N, "exposure": D, "value": values})


def bent(N, D):
    return 0.5 - 2.0 * N**-0.25 - D**-0.5


AT = pd.DataFrame({"rung": ["large", "larger"], "params": [4e8, 1e9], "exposure": [1200.0, 1200.0]})


@pytest.mark.parametrize(("loss", "metric"), SERIES)
def test_the_size_law_forecasts_as_published(measured, published, loss, metric):
    fitted, _, at = split(measured, loss, metric)
    table = published("p0_model_scaling.csv").query("loss == @loss and metric == @metric").set_index("size")
    made = p0_size(fitted, at, rising=metric != "CE").set_index("rung")
    assert (made["status"] == "converged").all()
    error = (made["forecast"] - table["forecast"]).abs().max()
    assert error < (3e-4 if metric == "CE" else 1.5e-4)  # what reading values from a figure costs
    ends = np.array([ast.literal_eval(interval) for interval in table.loc[made.index, "boot_ci95"]])
    assert np.abs(made[["lo", "hi"]] - ends).to_numpy().max() < (0.015 if metric == "CE" else 2e-3)


@pytest.mark.parametrize(("loss", "metric"), SERIES)
def test_the_joint_law_forecasts_as_published(measured, published, loss, metric):
    fitted, held_out, at = split(measured, loss, metric)
    row = published("p0_joint.csv").query("loss == @loss and metric == @metric").iloc[0]
    near = 4e-4 if metric == "CE" else 1.5e-4
    made = p0_joint(fitted, at, rising=metric != "CE", draws=20)
    centres = [(row[f"{rung}_delta_ci_lo"] + row[f"{rung}_delta_ci_hi"]) / 2 for rung in made["rung"]]
    np.testing.assert_allclose(made["forecast"], centres, rtol=0, atol=near)

    everywhere = p0_joint(fitted, held_out, rising=metric != "CE", draws=20)
    bias = (everywhere["value"] - everywhere["forecast"]).groupby(everywhere["rung"]).mean()
    np.testing.assert_allclose(bias[HELD_OUT], [row[f"{rung}_bias"] for rung in HELD_OUT], rtol=0, atol=near)


@pytest.mark.parametrize("metric", RETRIEVAL)
def test_listwise_joint_intervals_are_as_published(measured, published, metric):
    fitted, _, at = split(measured, "listnet", metric)
    row = published("p0_joint.csv").query("loss == 'listnet' and metric == @metric").iloc[0]
    made = p0_joint(fitted, at, rising=True)
    ends = [[row[f"{rung}_boot_ci_{end}"] for end in ("lo", "hi")] for rung in made["rung"]]
    np.testing.assert_allclose(made[["lo", "hi"]], ends, rtol=0, atol=4e-3)


def test_intervals_are_those_of_curve_fit_on_rows_drawn_with_replacement(measured):
    fitted, _, at = split(measured, "listnet", "ndcg@10")
    made = p0_size(fitted, at, rising=True, draws=60, seed=3)
    late = fitted.sort_values(["run", "step"]).groupby("run").tail(10)
    N, y = late["params_nominal"].to_numpy() / 1e8, late["value"].to_numpy()
    drawn = []
    for counts in np.random.default_rng(3).multinomial(len(y), np.full(len(y), 1 / len(y)), size=60):
        rows = np.repeat(np.arange(len(y)), counts)
        found, _ = curve_fit(lambda N, a, b, c: a + b * N**c, N[rows], y[rows], p0=[0.35, -0.1, -0.5])
        drawn.append(found[0] + found[1] * np.array([4.0, 10.0]) ** found[2])
    expected = np.quantile(drawn, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(made[["lo", "hi"]], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("forecast", [p0_size, p0_joint])
def test_a_known_curve_is_forecast(forecast):
    D = 650.0 if forecast is p0_joint else np.arange(300.0, 1201.0, 100.0)
    made = forecast(ladder(bent, noise=0), AT.assign(exposure=650.0), rising=True, draws=20)
    expected = [np.mean(bent(N, D)) for N in AT["params"]]
    np.testing.assert_allclose(made["forecast"], expected, rtol=0, atol=1e-5)
    assert list(made["rung"]) == ["large", "larger"]
    assert (made["level"] == 0.95).all()


@pytest.mark.parametrize("forecast", [p0_size, p0_joint])
def test_a_metric_that_falls_is_forecast(forecast):
    table = ladder(bent, noise=0)
    rising = forecast(table, AT, rising=True, draws=20)
    falling = forecast(table.assign(value=1 - table["value"]), AT, rising=False, draws=20)
    np.testing.assert_allclose(falling["forecast"], 1 - rising["forecast"], rtol=0, atol=1e-4)


def test_several_exposures_are_forecast_by_their_mean():
    table, exposures = ladder(bent), [1000.0, 1200.0]
    both = p0_joint(table, AT.assign(exposure=[exposures] * len(AT)), rising=True, draws=20)
    each = [p0_joint(table, AT.assign(exposure=D), rising=True, draws=20)["forecast"] for D in exposures]
    np.testing.assert_allclose(both["forecast"], np.mean(each, axis=0), rtol=1e-12)


def test_the_joint_law_uses_all_checkpoints_and_the_size_law_the_last():
    table = ladder(bent)
    early = table["exposure"] < 300
    changed = table.assign(value=table["value"] - 0.05 * early)
    assert p0_size(table, AT, rising=True).equals(p0_size(changed, AT, rising=True))
    joint = [p0_joint(t, AT, rising=True, draws=20)["forecast"] for t in (table, changed)]
    assert np.abs(joint[0] - joint[1]).max() > 1e-3


def test_steps_and_nominal_sizes_are_used_where_every_row_has_them():
    table = ladder(bent)
    other = table.assign(params_nominal=table["params"], step=table["exposure"], params=1.0, exposure=table["value"])
    at = AT.assign(params_nominal=AT["params"], step=AT["exposure"], params=1.0, exposure=1.0)
    partly = table.assign(params_nominal=np.nan, step=np.nan)
    expected = p0_joint(table, AT, rising=True, draws=20)
    for made in (
        p0_joint(other, at, rising=True, draws=20),
        p0_joint(partly, AT, rising=True, draws=20),
    ):
        np.testing.assert_array_equal(made[["forecast", "lo", "hi"]], expected[["forecast", "lo", "hi"]])


def test_more_checkpoints_of_the_same_runs_narrow_the_interval():
    table = ladder(bent, checkpoints=400, noise=5e-3)
    few, many = (p0_size(table, AT, rising=True, last=last) for last in (10, 200))
    assert ((many["hi"] - many["lo"]) < 0.5 * (few["hi"] - few["lo"])).all()


def test_intervals_follow_the_level_and_the_seed():
    wide, narrow, other = (
        p0_size(ladder(bent), AT, rising=True, level=level, seed=seed)
        for level, seed in ((0.95, 0), (0.5, 0), (0.95, 1))
    )
    assert ((wide["lo"] < narrow["lo"]) & (narrow["hi"] < wide["hi"])).all()
    assert (wide["forecast"] == other["forecast"]).all()
    assert (wide["lo"] != other["lo"]).all()


@pytest.mark.parametrize("forecast", [p0_size, p0_joint])
def test_two_rungs_cannot_be_fitted_and_the_status_says_so(forecast):
    made = forecast(ladder(bent, sizes=(1e6, 4e6)), AT, rising=True)
    assert (made["status"] == "did not converge: 2 distinct sizes, 3 needed").all()
    assert made[["forecast", "lo", "hi"]].isna().all(axis=None)


def test_one_exposure_or_too_few_checkpoints_cannot_show_a_joint_law():
    table = ladder(bent, sizes=(1e6, 4e6, 1.6e7), checkpoints=3)
    single = p0_joint(table[table["exposure"] == 100], AT, rising=True)
    assert (single["status"] == "did not converge: 1 distinct exposures, 3 needed").all()
    diagonal = p0_joint(table.iloc[[0, 4, 8]], AT, rising=True)
    assert (diagonal["status"] == "did not converge: 3 checkpoints, 5 needed").all()


def test_an_optimiser_that_gives_up_is_a_status(monkeypatch):
    monkeypatch.setattr(baselines, "EVALUATIONS", 1)
    made = p0_joint(ladder(bent), AT, rising=True)
    assert made["status"].str.startswith("did not converge: ").all()
    assert made["forecast"].isna().all()


def test_an_asymptote_beyond_one_is_at_its_bound():
    made = p0_size(ladder(lambda N, D: 1.1 - 3 * N**-0.2, noise=0), AT, rising=True, draws=20)
    assert (made["status"] == "at a bound: a").all()
    assert (made["forecast"] < 1).all()


@pytest.mark.parametrize("forecast", [p0_size, p0_joint])
@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize("noise", [0, 1e-3])
def test_measurements_that_do_not_change_are_forecast_not_to(forecast, rising, noise):
    made = forecast(ladder(lambda N, D: 0.3 + 0 * N, noise=noise), AT, rising=rising, draws=50)
    np.testing.assert_allclose(made[["forecast", "lo", "hi"]], 0.3, rtol=0, atol=0.01)
    assert made["status"].str.startswith("at a bound: ").all()


def test_no_change_is_the_largest_rungs_mean_without_an_interval(measured):
    fitted, _, at = split(measured, "bce", "ndcg@10")
    made = persistence(fitted, at)
    largest = fitted[fitted["rung"] == "150m"].nlargest(10, "step")
    np.testing.assert_allclose(made["forecast"], largest["value"].mean())
    assert made[["lo", "hi"]].isna().all(axis=None)
    assert set(made["law"]) == {"no change"}
    alone = persistence(fitted, at, last=1)
    np.testing.assert_allclose(alone["forecast"], largest["value"].iloc[0])


@pytest.mark.parametrize("forecast", [p0_size, p0_joint])
@pytest.mark.parametrize(
    ("at", "options", "words"),
    [
        (AT.drop(columns="params"), {}, "'params' is missing from the rows to forecast"),
        (AT.iloc[:0], {}, "no rows to forecast"),
        (AT, {"level": 95}, "level is 95"),
    ],
)
def test_what_cannot_be_used_is_named(forecast, at, options, words):
    with pytest.raises(ValueError, match=words):
        forecast(ladder(bent), at, rising=True, **options)


def test_a_count_of_checkpoints_below_one_is_refused():
    for forecast in (persistence, lambda *tables, last: p0_size(*tables, rising=True, last=last)):
        with pytest.raises(ValueError, match="last is 0"):
            forecast(ladder(bent), AT, last=0)
