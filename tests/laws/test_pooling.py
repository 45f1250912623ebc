"""Partial pooling: agreement sharpens, disagreement is left alone, copies count once."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import Series, known
from rankscale_utils.laws.known import Belief
from rankscale_utils.laws.local import LogPowers
from rankscale_utils.laws.pooling import Likelihood, pooled
from rankscale_utils.laws.posterior import posterior

SIZES = np.repeat(4e6 * 3.0 ** np.arange(5), 3)


def series_of(alpha, name, noise=0.004, seed=0, runs=None):
    values = 2 * np.exp(0.5 * ((SIZES / SIZES.max()) ** -alpha - 1))
    values = values * np.exp(noise * np.random.default_rng(seed).normal(size=len(SIZES)))
    runs = [f"{runs or name}-{place}" for place in range(len(SIZES))]
    table = pd.DataFrame({"run": runs, "rung": SIZES.astype(str), "N": SIZES, "D": 1e5, "value": values})
    return Series({"objective": name}, table, False, (0.0, np.inf), "gap")


def believed(all_series):
    fits = [[(posterior(LogPowers(("N",)), series, known(), 300), 1.0)] for series in all_series]
    return pooled(all_series, fits, known())


def test_series_that_agree_draw_a_noisy_one_to_them():
    agreeing = [series_of(0.6, f"o{seed}", seed=seed) for seed in range(4)]
    seen = believed([*agreeing, series_of(0.6, "noisy", noise=0.08)])[-1].size_exponent
    assert abs(np.log(seen.median / 0.6)) < abs(np.log(known().size_exponent.median / 0.6))
    assert seen.spread < 0.8 * known().size_exponent.spread


def test_a_series_that_disagrees_pulls_itself_alone():
    agreeing = [series_of(0.2, f"o{seed}", noise=0.002, seed=seed) for seed in range(4)]
    without, with_it = believed(agreeing)[0], believed([*agreeing, series_of(1.6, "other", noise=0.002)])
    moved = np.log(with_it[0].size_exponent.median / without.size_exponent.median)
    assert abs(moved) < 0.25  # of the 2.1 that parts them in logarithms
    assert with_it[-1].size_exponent.spread > with_it[0].size_exponent.spread


def test_metrics_of_the_same_runs_count_as_one():
    own, other = series_of(0.3, "a", noise=0.05), series_of(0.7, "b")
    once = believed([own, other])[0].size_exponent
    thrice = believed([own, other, other, other])[0].size_exponent
    assert thrice.median == pytest.approx(once.median, rel=0.02)
    assert thrice.spread == pytest.approx(once.spread, rel=0.02)


def test_other_tests_of_the_same_runs_count_for_themselves():
    own, other = series_of(0.3, "a", noise=0.05), series_of(0.7, "b")
    tests = [replace(other, labels=other.labels | {"collection": name}) for name in ("first", "second", "third")]
    once, thrice = (believed([own, *others])[0].size_exponent for others in ([tests[0]], tests))
    assert thrice.median > 1.02 * once.median


def test_the_belief_is_taken_out_of_what_a_series_says():
    belief = Belief(1.0, 1.0, 0.5)
    assert Likelihood.of((0.5, 0.5), belief) == Likelihood(pytest.approx(1.0), pytest.approx(1.0))
    assert Likelihood.of((0.1, 1.0), belief).variance == np.inf
    assert Likelihood.of(None, belief).variance == np.inf
