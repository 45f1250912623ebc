"""Published measurements give back the laws that were published for them, and simulated ones the law behind them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from rankscale_utils.laws import Fit, broken_law, data_law, fit, joint_law, kaplan_law, refit, size_law

SQUARED = 1e3  # a turn of Huber's loss beyond every residual: least squares
NAMES = ("A", "B", "asymptote", "alpha", "beta")
OPEN_LM = {"7b_M20": (6889410560.0, 20), "1b_M640": (1439795200.0, 640)}  # held-out runs: size, tokens a parameter


@pytest.fixture
def scaling(real_data) -> Path:
    """Return the folder of published scaling measurements."""
    return real_data / "scaling"


def measured(N, D, values) -> pd.DataFrame:
    """Measurements of runs that have one row each."""
    run = np.arange(len(values))
    return pd.DataFrame({"run": run, "params_non_embedding": N, "exposure": D, "value": np.asarray(values)})


@pytest.fixture
def chinchilla(scaling) -> Fit:
    """Return Besiroglu et al.'s fit, arXiv 2404.10102: no five highest losses, Huber's turn at 1e-3 on logarithms."""
    points = pd.read_csv(scaling / "epoch-research_analyzing-chinchilla/svg_extracted_data.csv").nsmallest(240, "loss")
    N = points["Model Size"].to_numpy()
    table = measured(N, points["Training FLOP"] / (6 * N), points["loss"])
    return fit(joint_law(rising=False), table, scale="gap", noise=1e-3)


def test_chinchilla_is_refitted_as_published(chinchilla):
    assert chinchilla.status == "converged"
    assert chinchilla.objective <= 0.00101827403
    published = dict(zip(NAMES, (477.83, 2143.4, 1.81722, 0.34731, 0.36717), strict=True))
    assert chinchilla.coefficients == pytest.approx(published, rel=2e-5)


def test_chinchilla_has_the_published_standard_errors(chinchilla):
    """Theirs are the spread over points drawn with replacement; here every run is one point."""
    draws = 4000
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), size=draws)
    coefficients = refit(chinchilla, np.tile(chinchilla.data["value"], (draws, 1)), weights)
    drawn = pd.DataFrame(coefficients, columns=chinchilla.law.coefficient_names)
    np.testing.assert_allclose(drawn[list(NAMES)].std(), [124.5, 1293, 0.0257, 0.0154, 0.0206], rtol=0.1)
    share = drawn["beta"] / (drawn["alpha"] + drawn["beta"])
    assert share.std() == pytest.approx(0.020, abs=0.002)
    alpha, beta = chinchilla.coefficients["alpha"], chinchilla.coefficients["beta"]
    assert beta / (alpha + beta) == pytest.approx(0.513, abs=1e-3)


@pytest.fixture(params=["c4_original", "rpj", "rw_original"])
def over_training(request, scaling):
    """Return one training set's published fits, the points of its loss fit and its runs, from arXiv 2403.08540."""
    folder = scaling / "mlfoundations_scaling"
    published, points = (pd.read_csv(folder / name) for name in ("published_fits.csv", "fit_points.csv"))
    runs = pd.read_csv(folder / "runs_104.csv").astype({"N": float, "D": float})
    runs = runs[runs["dataset_name"] == request.param].set_index(["N", "tok_mult"])
    fits = published[published["train"] == request.param].set_index("downstream")
    return fits, points[points["train"] == request.param].astype({"N": float}), runs


def test_over_training_loss_is_fitted_and_forecast_as_published(over_training):
    """The published law has one exponent for both axes; ours has two, and finds them equal.

    A sum of two different powers is more convex than these points. The published b multiplies √(C·M) = √6·D in D's
    place. Five points cannot tell five coefficients apart, and the status says so.
    """
    fits, points, runs = over_training
    published = fits.iloc[0]
    table = measured(points["N"], points["N"] * points["M"], points["loss_c4_val"])
    made = fit(joint_law(rising=False), table, noise=SQUARED)
    found = made.coefficients
    assert made.status == "unidentified: the coefficients cannot be told apart"
    assert (found["alpha"], found["beta"]) == pytest.approx((-published["exponent"],) * 2, rel=1e-5)
    assert found["asymptote"] == pytest.approx(published["E"], rel=1e-5)
    assert found["A"] == pytest.approx(published["alpha_N"], rel=1e-4)
    assert found["B"] * 6 ** (found["beta"] / 2) == pytest.approx(published["beta_D"], rel=1e-4)
    for name, at in OPEN_LM.items():
        if pd.notna(published[f"open_lm_{name}_pred"]):
            actual, forecast = runs.loc[at, "loss_c4_val"], made.predict(at[0], runs.loc[at, "D"])[0]
            assert actual == pytest.approx(published[f"open_lm_{name}_actual"])
            assert forecast == pytest.approx(published[f"open_lm_{name}_pred"], rel=1e-6)
            error = 100 * abs(forecast / actual - 1)
            assert error == pytest.approx(published[f"open_lm_{name}_relerr_pct"], abs=2e-5)


@pytest.mark.parametrize(("run", "percent"), [("7b_M20", 0.7320), ("1b_M640", 0.7103)])
def test_over_training_errors_are_those_of_the_published_law(scaling, run, percent):
    """RedPajama's law forecasts some 300 times the compute of the points it was fitted to, and 32 times the tokens."""
    folder = scaling / "mlfoundations_scaling"
    law = pd.read_csv(folder / "published_fits.csv").query("train == 'rpj'").iloc[0]
    runs = pd.read_csv(folder / "runs_104.csv").query("dataset_name == 'rpj'").set_index(["N", "tok_mult"])
    (N, tokens), exponent = OPEN_LM[run], law["exponent"]
    forecast = law["E"] + law["alpha_N"] * N**exponent + law["beta_D"] * (np.sqrt(6) * tokens * N) ** exponent
    error = 100 * abs(forecast / runs.loc[(N, tokens), "loss_c4_val"] - 1)
    assert error == pytest.approx(percent, abs=5e-5)


@pytest.mark.parametrize("downstream", ["avg", "avg_subset"])
def test_downstream_errors_are_fitted_as_published(over_training, downstream):
    """ε − k·exp(−γL) is a data law in exp(L); fitted on the points of the loss fit and on the 1b run at 20 tokens."""
    fits, points, runs = over_training
    published = fits.loc[downstream]
    used = runs.loc[[*zip(points["N"], points["M"], strict=True), (OPEN_LM["1b_M640"][0], 20)]]
    table = measured(1.0, np.exp(used["loss_c4_val"]), used[f"err_{downstream}"])
    made = fit(data_law(rising=True), table, noise=SQUARED)
    assert made.status == "converged"
    assert list(made.coefficients.values()) == pytest.approx(list(published[["eps", "k", "gamma"]]), rel=1e-5)


def test_a_break_in_addition_is_forecast(scaling):
    """arXiv 2210.14891's four-digit addition: the loss drops beyond the points that are fitted."""
    table = pd.read_csv(scaling / "ethancaballero_bnsl/addition_4digit.csv")
    points = measured(1.0, table["dataset_size"], table["loss"])
    train, test = (points[table["split"] == split] for split in ("train", "test"))
    made = fit(broken_law("D", rising=False), train, scale="gap")
    error = np.log(made.predict(1.0, test["exposure"]) / test["value"])
    assert made.status == "converged"
    assert np.sqrt((error**2).mean()) == pytest.approx(0.011, abs=5e-4)


@pytest.mark.parametrize("axis", ["n", "t"])
def test_compute_optimal_exponents_are_the_published_fifteen(scaling, axis):
    """arXiv 2406.19146: "basic" lines are unweighted, "bsmw" lines weigh by the inverse variance of an optimum."""
    pairs = pd.read_csv(scaling / "formll_resolving/optimal_pairs.csv")
    published = pd.read_csv(scaling / "formll_resolving/published_fits.csv")
    keys = list(published.columns[:7])
    for row in published.itertuples():
        at = (pairs[keys] == [getattr(row, key) for key in keys]).all(axis=1)
        optimal = pairs[at].dropna()
        line = np.log(optimal[axis]), sm.add_constant(np.log(optimal["flops"]))
        weighted = sm.WLS(*line, weights=optimal[f"{axis}_star_std"] ** -2).fit()
        assert sm.OLS(*line).fit().params["flops"] == pytest.approx(getattr(row, f"basic_{axis}_exponent"), rel=1e-6)
        assert weighted.params["flops"] == pytest.approx(getattr(row, f"bsmw_{axis}_exponent"), rel=1e-6)
    assert len(published) == 15


def test_dense_retrieval_has_the_published_size_law():
    """arXiv 2403.18684 reports 0.53 and 0.04; the points are read from its plot."""
    sizes, entropies = [0.4884e6, 3.2637e6, 12.65e6, 24.677e6, 82.24e6], [0.3148, 0.1443, 0.0891, 0.0732, 0.0586]
    made = fit(size_law(rising=False), measured(sizes, 1e4, entropies), scale="gap")
    assert made.status == "converged"
    assert made.coefficients["alpha"] == pytest.approx(0.53, abs=0.01)
    assert made.coefficients["asymptote"] == pytest.approx(0.04, abs=0.002)


@pytest.mark.parametrize(("noise", "near"), [(0, 1e-6), (1e-3, 0.01), (1e-2, 0.05)])
def test_kaplan_law_recovers_the_dense_retrieval_coefficients(noise, near):
    law, truth = kaplan_law(rising=False), np.array([0.03, 3.6e4, 0.56, 7.1e3, 1.31])
    N, D = (axis.ravel() for axis in np.meshgrid([5e5, 3.3e6, 1.3e7, 2.5e7, 8.2e7], np.geomspace(1e3, 5e5, 12)))
    blur = np.exp(noise * np.random.default_rng(0).normal(size=len(N)))
    made = fit(law, measured(N, D, law.predict(truth, N, D) * blur), scale="gap")
    assert made.status == "converged"
    np.testing.assert_allclose(made.vector, truth, rtol=near)


@pytest.mark.parametrize(("noise", "near"), [(0, 1e-6), (1e-3, 0.02), (1e-2, 0.2)])
def test_broken_law_recovers_its_break(noise, near):
    law, truth = broken_law("D", rising=False), np.array([0.2, 30.0, 0.1, 0.6, 1e4, 0.3])
    D = np.geomspace(1e2, 1e6, 40)
    blur = np.exp(noise * np.random.default_rng(0).normal(size=len(D)))
    made = fit(law, measured(1.0, D, law.predict(truth, 1.0, D) * blur), scale="gap")
    assert made.status == "converged"
    np.testing.assert_allclose(made.vector, truth, rtol=near)


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize("truth", [(0.85, 14.9, 0.39, 1.36, 1.1e6, 0.15), (0.76, 18.6, 0.37, 0.48, 5.5e5, 0.41)])
def test_broken_law_is_found_across_the_valleys_of_its_loss(truth, rising):
    """From the best start alone each of these ends as a curve that bends the other way, and says that it converged."""
    law, D = broken_law("D", rising), np.geomspace(1e4, 1e7, 40)
    made = fit(law, measured(1.0, D, law.predict(np.array(truth), 1.0, D)))
    np.testing.assert_allclose(made.vector, truth, rtol=1e-6)
