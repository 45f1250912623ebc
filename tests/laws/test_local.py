"""Laws in words of their own reference: the same curves, and slopes that are slopes."""

import numpy as np
import pytest

from rankscale_utils.laws.local import Kaplan, LogPowers, Powers, Sigmoid, forms
from rankscale_utils.laws.scales import gap

N0, D0 = 1e8, 3e5
LIMITS = {True: (0.0, 0.7), False: (0.0, np.inf)}
BOTH, SIZE = ("N", "D"), ("N",)
EVERY = [*forms(BOTH).items(), *forms(SIZE).items()]


def drawn(local, count=20, level=-1.5):
    """θ (count, k) all over what is likely."""
    theta = np.random.default_rng(0).normal(scale=0.3, size=(count, len(local.names))) - 0.5
    theta[:, 0] = level + 0.1 * theta[:, 0]
    if isinstance(local, LogPowers):
        theta[:, 1::2] -= 2.5
    return theta


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize(("name", "local"), EVERY)
def test_natural_coefficients_draw_the_same_curve(name, local, rising):
    theta, law = drawn(local), local.law(rising, LIMITS[rising])
    N, D = N0 * np.array([0.01, 0.2, 1, 8]), D0 * np.array([0.1, 1, 1, 2])
    values = law.predict(local.natural(theta, N0, D0, law), N, D)
    expected = np.exp(local.log_gap(theta, np.log(N / N0), np.log(D / D0)))
    np.testing.assert_allclose(gap(values, rising, LIMITS[rising]), expected, rtol=1e-8)


@pytest.mark.parametrize(("name", "local"), EVERY)
def test_slopes_are_how_fast_the_gap_closes_at_the_reference(name, local):
    theta, step = drawn(local), 1e-5
    for place in range(len(local.axes)):
        u, v = (np.array([-step, step]) * (axis == place) for axis in (0, 1))
        low, high = local.log_gap(theta, u, v).T
        np.testing.assert_allclose((low - high) / (2 * step), np.exp(local.slopes(theta)[:, place]), rtol=1e-5)


@pytest.mark.parametrize(("name", "local"), EVERY)
def test_at_the_reference_the_gap_is_the_level(name, local):
    theta = drawn(local)
    np.testing.assert_allclose(local.log_gap(theta, np.zeros(1), np.zeros(1))[:, 0], theta[:, 0], atol=1e-12)


@pytest.mark.parametrize(("local", "about"), [(Powers(BOTH), 4), (Powers(SIZE), 2), (LogPowers(BOTH), 4)])
def test_the_jacobian_is_that_of_slopes_and_exponents(local, about):
    """By numbers: how a small box of θ (without the level) is stretched in logarithms of slopes and exponents."""
    for theta in drawn(local, 5):
        columns = []
        for place in range(1, len(theta)):
            moved = np.array([theta, theta])
            moved[:, place] += [-1e-6, 1e-6]
            told = np.concatenate([local.slopes(moved), local.exponents(moved)], 1)
            columns.append((told[1] - told[0]) / 2e-6)
        _, logarithm = np.linalg.slogdet(np.array(columns))
        assert len(columns) == about
        assert local.log_jacobian(theta[None])[0] == pytest.approx(logarithm, abs=1e-5)


@pytest.mark.parametrize("local", [Powers(BOTH), Kaplan(BOTH), Sigmoid(BOTH), Sigmoid(SIZE)])
def test_a_gap_never_falls_below_the_asymptotes(local):
    theta, far = drawn(local), np.array([50.0])
    assert (np.exp(local.log_gap(theta, far, far)[:, 0]) > 0).all()
    law = local.law(True, LIMITS[True])
    natural = local.natural(theta, N0, D0, law)
    assert (natural[:, 0] <= 0.7).all()
    assert (law.predict(natural, N0 * np.exp(40), D0 * np.exp(40))[:, 0] <= 0.7).all()


@pytest.mark.parametrize(("name", "local"), EVERY)
def test_a_start_is_within_the_bounds(name, local):
    low, high = local.bounds
    start = local.start(-1.0, np.full(len(local.axes), -3.0), np.full(len(local.axes), -1.0))
    assert ((low < start) & (start < high)).all()
