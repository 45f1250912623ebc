"""Posteriors: right where brute force is, near the truth where it is known, and as wide as the runs leave them."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import Series, known
from rankscale_utils.laws.local import LogPowers, forms
from rankscale_utils.laws.local_problem import LocalProblem, Noise
from rankscale_utils.laws.posterior import NOISES, posterior

SIZES = 4e6 * 2.5 ** np.arange(4)


def entropies(law, seeds=1, noise=0.01, exposures=(3e5,), seed=0, sizes=SIZES):
    """A ladder of entropies around law(N, D)."""
    rng, rows = np.random.default_rng(seed), []
    for size in sizes:
        for repeat in range(seeds):
            shift = np.exp(noise * rng.normal())
            for exposure in exposures:
                value = law(size, exposure) * shift * np.exp(0.3 * noise * rng.normal() * (len(exposures) > 1))
                rows.append(
                    {"run": f"{size:g}-{repeat}", "rung": f"{size:g}", "N": size, "D": exposure, "value": value}
                )
    table = pd.DataFrame(rows)
    return Series({"metric": "CE64"}, table, False, (0.0, np.inf), "gap")


def test_draws_are_those_of_brute_force():
    """Over a grid of level, slope, exponent and noise, for a law of size alone."""
    series, local = entropies(lambda N, D: 2 * (N / 4e6) ** -0.15), LogPowers(("N",))
    problem = LocalProblem(local, series, known())
    axes = [np.linspace(problem.start()[0] - 0.25, problem.start()[0] + 0.25, 61), np.linspace(-6, -0.5, 61)]
    axes += [np.linspace(local.bounds[0][2], local.bounds[1][2], 41)]
    theta = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    density, between = [], np.exp(known().run_noise.centre + known().run_noise.spread * NOISES)
    for sd, place in zip(between, NOISES, strict=True):
        noise = Noise(*(np.full(len(theta), number) for number in (sd, 0.0, 0.0)))
        squares = (problem.misfit(theta, noise) ** 2).sum(1)
        density.append(-0.5 * squares - problem.log_scale(noise) - 0.5 * place**2)
    shares = np.exp(np.array(density) - np.max(density))
    shares /= shares.sum()
    made = posterior(local, series, known(), draws=4000)
    for column, tolerance in ((1, 0.05), (2, 0.08)):
        mean = (shares * theta[:, column]).sum()
        sd = np.sqrt((shares * (theta[:, column] - mean) ** 2).sum())
        assert made.theta[:, column].mean() == pytest.approx(mean, abs=tolerance)
        assert made.theta[:, column].std() == pytest.approx(sd, rel=0.1)
    noise = (shares.sum(1) * np.log(between)).sum()
    assert np.log(made.noise.between).mean() == pytest.approx(noise, abs=0.12)


TRUTHS = {
    "additive": lambda N, D: 1.4 + 1.5 * (N / 4e6) ** -0.45 + 0.4 * (D / 3.2e5) ** -0.5,
    "Kaplan": lambda N, D: 1.4 + 1.6 * ((N / 4e6) ** (-0.45 / 0.6) + 0.1 * (3.2e5 / D)) ** 0.6,
    "sigmoid": lambda N, D: 1.4 + 2 / (1 + 0.3 * (N / 4e6) ** 0.8 * (D / 3.2e5) ** 0.45),
    "logarithm": lambda N, D: 2 * np.exp(0.4 * ((N / 4e6) ** -0.3 - 1) + 0.3 * ((D / 3.2e5) ** -0.4 - 1)),
}


@pytest.mark.parametrize("truth", TRUTHS)
def test_evidence_knows_the_law_that_made_the_runs(truth):
    exposures = 3.2e5 / 2.0 ** np.arange(4)
    series = entropies(TRUTHS[truth], seeds=3, noise=0.004, exposures=exposures, sizes=4e6 * 2.5 ** np.arange(6))
    made = {name: posterior(local, series, known(), 200) for name, local in forms(("N", "D")).items()}
    best = max(made, key=lambda name: made[name].log_evidence)
    assert made[truth].log_evidence > made[best].log_evidence - 2
    at = made[truth].problem.series.away(np.array([4e6 * 2.5**7]), np.array([3.2e5]))
    forecast = np.exp(np.median(made[truth].problem.numbers(made[truth].theta, *at)))
    assert forecast == pytest.approx(TRUTHS[truth](4e6 * 2.5**7, 3.2e5), rel=0.02)


def test_noise_is_split_between_runs_and_their_checkpoints():
    exposures = 3.2e5 / 1.3 ** np.arange(6)
    series = entropies(TRUTHS["additive"], seeds=6, noise=0.02, exposures=exposures)
    made = posterior(forms(("N", "D"))["additive"], series, known(), 300)
    assert np.median(made.noise.between) == pytest.approx(0.02, rel=0.4)
    assert np.median(made.noise.within) == pytest.approx(0.006, rel=0.4)


def test_a_series_is_drawn_alike_whatever_the_order_of_its_rows():
    series = entropies(TRUTHS["additive"], seeds=2)
    shuffled = Series(series.labels, series.table.sample(frac=1, random_state=1), False, series.limits, "gap")
    one, other = (posterior(LogPowers(("N",)), each, known(), 300) for each in (series, shuffled))
    np.testing.assert_allclose(one.theta.mean(0), other.theta.mean(0), atol=1e-6)


def test_more_seeds_narrow_what_a_law_may_be():
    spreads = [
        posterior(LogPowers(("N",)), entropies(TRUTHS["additive"], seeds=seeds, noise=0.03), known(), 500)
        .theta[:, 1]
        .std()
        for seeds in (1, 8)
    ]
    assert spreads[1] < 0.7 * spreads[0]


def test_an_exponent_that_the_runs_hardly_move_is_led_by_the_prior():
    noisy = posterior(LogPowers(("N",)), entropies(TRUTHS["additive"], noise=0.3, sizes=SIZES[:3]), known(), 300)
    told = posterior(forms(("N",))["size"], entropies(lambda N, D: 1 + 2 * (N / 4e6) ** -0.9, 8, 2e-3), known(), 300)
    assert noisy.draws.fit.status == "led by the prior"
    assert told.draws.fit.status == "converged"


def test_checkpoints_far_from_the_end_bend_a_law_less():
    """Early checkpoints that no law explains move the forecast at the end by little."""
    exposures = 3.2e5 / 2.0 ** np.arange(4)
    plain = entropies(TRUTHS["additive"], seeds=2, exposures=exposures)
    early = plain.table["D"] < 5e4
    bent = Series(
        {}, plain.table.assign(value=plain.table["value"] * np.where(early, 1.15, 1)), False, plain.limits, "gap"
    )
    at = np.array([4e6 * 2.5**5]), np.array([3.2e5])
    ends = []
    for series in (plain, bent):
        made = posterior(forms(("N", "D"))["additive"], series, known(), 300)
        ends.append(np.median(made.problem.numbers(made.theta, *made.problem.series.away(*at))))
    assert ends[1] == pytest.approx(ends[0], abs=0.03)


@pytest.mark.parametrize("name", ["additive", "logarithm", "Kaplan", "sigmoid"])
def test_a_saturated_metric_that_no_exposure_moves_is_forecast_near_its_end(name):
    """Flat runs must not be explained by a law that lies at the metric's limit, far from every value."""
    value = {size: 0.92 - 0.1 * (size / SIZES[0]) ** -1.5 for size in SIZES}
    rows = [
        {"run": f"{size:g}", "rung": f"{size:g}", "N": size, "D": exposure, "value": number + 1e-4 * (-1) ** step}
        for size, number in value.items()
        for step, exposure in enumerate((1e4, 2e4, 4e4))
    ]
    series = Series({"metric": "nDCG@10"}, pd.DataFrame(rows), True, (0.0, 1.0))
    made = posterior(forms(("N", "D"))[name], series, known(), draws=200)
    end = np.median(series.off_scale(made.said(SIZES[-1:], np.array([4e4]))))
    assert end == pytest.approx(value[SIZES[-1]], abs=0.02)
