"""The average: a mixture whose quantiles are exact, whose intervals hold the truth, and which no other series moves."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from rankscale_utils.laws import Series, averages, known
from rankscale_utils.laws.averaging import mixture_quantile
from rankscale_utils.laws.local import Kaplan, Powers

SIZES, EXPOSURES = 4e6 * 2.5 ** np.arange(4), 3.2e5 / 2.0 ** np.arange(4)
TRUTHS = {
    "additive": lambda N, D: 0.47 - 0.2 * (N / 4e6) ** -0.45 - 0.05 * (D / 3.2e5) ** -0.5,
    "Kaplan": lambda N, D: 0.47 - 0.22 * ((N / 4e6) ** -0.75 + 0.1 * (3.2e5 / D)) ** 0.6,
    "sigmoid": lambda N, D: 0.18 + 0.3 / (1 + 3 * (N / 4e6) ** -0.8 * (D / 3.2e5) ** -0.45),
}


def ladder(truth, seed, seeds=1, noise=0.006, sizes=SIZES):
    rng, rows = np.random.default_rng(seed), []
    for size in sizes:
        for repeat in range(seeds):
            run = noise * rng.normal()
            for exposure in EXPOSURES:
                value = TRUTHS[truth](size, exposure) * (1 + run + 0.4 * noise * rng.normal())
                rows.append(
                    {"run": f"{size:g}-{repeat}", "rung": f"{size:g}", "N": size, "D": exposure, "value": value}
                )
    return Series(
        {"objective": "o", "metric": "nDCG@10"},
        pd.DataFrame(rows),
        True,
        (0.0, 0.67),
    )


def test_a_quantile_of_a_mixture_of_one_is_a_normal_distributions():
    found = mixture_quantile(np.array([[2.0]]), np.array([[3.0]]), np.ones(1), 0.9)
    assert found[0] == pytest.approx(2 + 3 * norm.ppf(0.9), abs=1e-9)


def test_a_quantile_leaves_its_share_below():
    rng = np.random.default_rng(0)
    centres, sds, shares = rng.normal(size=(50, 3)), rng.uniform(0.1, 2, (50, 3)), rng.dirichlet(np.ones(50))
    for share in (0.025, 0.5, 0.8):
        found = mixture_quantile(centres, sds, shares, share)
        assert shares @ norm.cdf((found - centres) / sds) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("truth", TRUTHS)
def test_forecasts_are_near_and_intervals_hold_three_nine_and_thirty_times_further(truth):
    """Twelve ladders of one seed a rung; the benchmark of all ladders is `benchmarks/bank.py`."""
    at = pd.DataFrame({"N": SIZES[-1] * np.array([3.0, 9.0, 30.0]), "D": EXPOSURES[0]})
    actual, held, errors = TRUTHS[truth](at["N"], at["D"]).to_numpy(), [], []
    for seed in range(12):
        (average,) = averages([ladder(truth, seed)], known(), draws=200)
        made = average.forecast(at)
        mean = made[made["kind"] == "mean_law"]
        held.append((mean["lo"] <= actual) & (actual <= mean["hi"]))
        errors.append(mean["forecast"] / actual - 1)
    assert np.mean(held) >= 0.85
    assert np.abs(errors).mean() < 0.05
    assert abs(np.mean(errors)) < 0.03


def test_a_new_run_is_less_sure_than_the_laws_mean_and_a_far_one_than_a_near_one():
    (average,) = averages([ladder("additive", 0)], known(), draws=200)
    made = average.forecast(pd.DataFrame({"N": SIZES[-1] * np.array([2.0, 20.0]), "D": EXPOSURES[0]}))
    width = (made["hi"] - made["lo"]).to_numpy()
    assert made["kind"].tolist() == ["mean_law"] * 2 + ["new_run"] * 2
    assert (width[2:] > width[:2]).all()
    assert width[1] > width[0]
    assert ((made["lo"] < made["forecast"]) & (made["forecast"] < made["hi"])).all()
    assert made["hi"].max() <= 0.67


def test_weights_are_shares_and_follow_the_evidence():
    sizes = 4e6 * 2.5 ** np.arange(6)
    (average,) = averages([ladder("Kaplan", 0, seeds=3, noise=0.003, sizes=sizes)], known(), draws=200)
    assert sum(average.weights.values()) == pytest.approx(1)
    assert max(average.weights, key=average.weights.get) == "Kaplan"


def test_one_exposure_is_fitted_by_laws_of_size_and_another_exposure_widens_the_interval():
    series = ladder("additive", 0)
    ends = Series(series.labels, series.last, True, series.limits)
    (average,) = averages([ends], known(), draws=200)
    assert set(average.posteriors) == {"size", "size, logarithm", "size, sigmoid"}
    made = average.forecast(pd.DataFrame({"N": SIZES[-1] * 3, "D": EXPOSURES[0] * np.array([1.0, 4.0])}))
    width = (made["hi"] - made["lo"]).to_numpy()
    assert width[1] > 1.5 * width[0]


def test_less_known_before_leaves_more_open():
    at = pd.DataFrame({"N": [SIZES[-1] * 9], "D": EXPOSURES[0]})
    widths = []
    for before in (known(), known().wide()):
        (average,) = averages([ladder("additive", 1, noise=0.02, sizes=SIZES[:3])], before, draws=300)
        made = average.forecast(at)
        widths.append((made["hi"] - made["lo"]).iloc[1])
    assert widths[1] > 1.1 * widths[0]


def test_a_law_that_comes_nowhere_near_is_left_out_of_the_average(monkeypatch):
    class Nowhere(Powers):
        def log_gap(self, theta, u, v):
            return np.full((len(theta), len(u)), np.nan)

    broken = {"nowhere": Nowhere(("N", "D")), "Kaplan": Kaplan(("N", "D"))}
    monkeypatch.setattr("rankscale_utils.laws.averaging.forms", lambda axes: broken)
    (average,) = averages([ladder("Kaplan", 0)], known(), draws=100)
    assert average.weights == {"Kaplan": 1.0}
    with pytest.raises(ValueError, match=r"comes near|linear|converge|infs or NaNs"):
        averages([ladder("Kaplan", 0)], known(), 100, ("nowhere",))


@pytest.mark.parametrize("places", [0, 1, 16, 40])
def test_quantiles_at_many_places_are_those_of_each_alone(places):
    rng = np.random.default_rng(0)
    centres, sds, shares = rng.normal(size=(9, places)), rng.uniform(0.1, 1, size=(9, places)), np.full(9, 1 / 9)
    each = [mixture_quantile(centres[:, [place]], sds[:, [place]], shares, 0.9)[0] for place in range(places)]
    assert mixture_quantile(centres, sds, shares, 0.9) == pytest.approx(np.array(each), abs=1e-12)


def test_quantiles_of_far_apart_parts_are_found():
    centres, sds = np.array([[0.0], [100.0], [101.0]]), np.array([[1e-6], [0.1], [5.0]])
    for share in (0.01, 0.32, 0.34, 0.5, 0.9999):
        found = mixture_quantile(centres, sds, np.array([0.33, 0.33, 0.34]), share)
        below = np.array([0.33, 0.33, 0.34]) @ norm.cdf((found - centres) / sds)
        assert below == pytest.approx(share, abs=1e-9)


def test_a_form_may_be_named():
    (average,) = averages([ladder("additive", 0)], known(), 100, ("Kaplan",))
    assert average.weights == {"Kaplan": 1.0}
    with pytest.raises(ValueError, match="no form of quadratic is a law of N and D"):
        averages([ladder("additive", 0)], known(), 100, ("quadratic",))
