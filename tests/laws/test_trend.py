"""Noise alone is seldom taken for a trend, a trend beyond noise nearly always is, and a turn is named."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import CHANCE, Series, known, trend
from rankscale_utils.laws.trend import between_neighbours, noise_along

SIZES = 4e6 * 3.0 ** np.arange(5)


def series(values, exposures=(1.0,), rising=True):
    """One series on the arcsine or the logarithm; values: (rungs, seeds, exposures)."""
    rows = [
        {"run": f"{rung}-{seed}", "N": SIZES[rung], "D": exposure, "value": value}
        for rung, of_rung in enumerate(np.asarray(values))
        for seed, of_run in enumerate(of_rung)
        for exposure, value in zip(exposures, of_run, strict=True)
    ]
    limits = (0.0, 1.0) if rising else (0.0, np.inf)
    return Series({}, pd.DataFrame(rows), rising, limits, "arcsine" if rising else "gap")


@pytest.mark.parametrize(("rungs", "seeds"), [(3, 1), (5, 1), (4, 3)])
def test_noise_that_is_known_looks_like_a_trend_in_one_ladder_of_twenty(rungs, seeds):
    rng, belief, found = np.random.default_rng(1), known().run_noise, []
    for _ in range(200):
        noise = belief.median * np.exp(belief.spread * rng.normal())
        values = np.sin(np.pi / 4 + noise * rng.normal(size=(rungs, seeds, 1)) / 2) ** 2
        found.append(trend(series(values), known()).chance <= CHANCE)
    assert np.mean(found) == pytest.approx(CHANCE, abs=0.04)  # within two and a half binomial errors


@pytest.mark.parametrize("rising", [True, False])
def test_an_order_of_sizes_beyond_noise_is_no_chance(rising):
    rng = np.random.default_rng(2)
    law = 0.45 - 0.25 * (SIZES / SIZES[0]) ** -0.35
    values = (law if rising else 1 - law) * (1 + 0.01 * rng.normal(size=5))
    found = trend(series(values[:, None, None], rising=rising), known())
    assert found.chance <= 0.005
    assert not found.turns


def test_a_rung_that_is_worse_than_a_smaller_one_beyond_the_noise_of_seeds_turns():
    rng = np.random.default_rng(3)
    means = np.array([0.30, 0.36, 0.40, 0.42, 0.37])
    found = trend(series(means[:, None, None] + 0.003 * rng.normal(size=(5, 3, 1))), known())
    assert found.turns
    assert found.reversal == pytest.approx(2 * (np.arcsin(0.42**0.5) - np.arcsin(0.37**0.5)), rel=0.15)
    alone = trend(series(means[:, None, None]), known())
    assert not alone.turns  # one run a rung does not tell noise from a turn


def test_the_noise_along_runs_is_that_of_their_checkpoints_whatever_their_curve():
    rng, exposures = np.random.default_rng(4), np.geomspace(1e4, 1e6, 30)
    curve = 0.2 + 0.1 * np.log(exposures / 1e4) - 0.01 * np.log(exposures / 1e4) ** 2
    numbers = np.broadcast_to(curve, (5, 2, 30)) + 0.004 * rng.normal(size=(5, 2, 30))
    along = noise_along(series(np.sin(numbers / 2) ** 2, exposures))
    assert len(along) == 5 * 2 * 28
    assert np.sqrt((along**2).mean()) == pytest.approx(0.004, rel=0.1)
    assert between_neighbours(np.array([0.0, 1.0, 4.0]), np.array([1.0, 3.0, 9.0])) == pytest.approx([0.0])
