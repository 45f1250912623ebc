"""Scales: what a number on one means, and the way back."""

import numpy as np
import pytest

from rankscale_utils.laws.scales import SCALES, SMALLEST_GAP, from_scale, gap, slope, to_scale

VALUES = np.linspace(0.15, 0.65, 11)
WAYS = [pytest.param(True, (0.0, 0.7), id="rises"), pytest.param(False, (0.1, np.inf), id="falls")]


BETWEEN = pytest.param(False, (0.1, 0.9), id="falls between limits")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("rising", "limits"), [WAYS[0], BETWEEN])
class TestEveryScale:
    def test_from_scale_undoes_to_scale(self, scale, rising, limits):
        numbers = to_scale(scale, VALUES, rising, limits)
        assert from_scale(scale, numbers, rising, limits) == pytest.approx(VALUES, rel=1e-12)
        assert to_scale(scale, from_scale(scale, numbers, rising, limits), rising, limits) == pytest.approx(numbers)

    def test_slope_is_the_derivative(self, scale, rising, limits):
        step = 1e-6
        ahead, behind = (to_scale(scale, VALUES + side * step, rising, limits) for side in (1, -1))
        assert slope(scale, VALUES, rising, limits) == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)

    def test_better_is_up_where_the_metric_rises_and_down_where_it_falls(self, scale, rising, limits):
        better = VALUES + 0.01 if rising else VALUES - 0.01
        change = to_scale(scale, better, rising, limits) - to_scale(scale, VALUES, rising, limits)
        assert (change > 0 if rising else change < 0).all()


def test_a_mean_of_many_scatters_alike_wherever_it_lies_on_the_arcsine():
    rng = np.random.default_rng(0)
    spreads = [to_scale("arcsine", rng.binomial(200, p, 4000) / 200, True, (0.0, 1.0)).std() for p in (0.1, 0.5, 0.9)]
    assert spreads == pytest.approx([1 / np.sqrt(200)] * 3, rel=0.05)


def test_the_gap_is_the_distance_to_the_best_value():
    assert gap([0.2, 0.9], True, (0.0, 0.8)) == pytest.approx([0.6, -0.1])
    assert gap([0.2, 0.05], False, (0.1, np.inf)) == pytest.approx([0.1, -0.05])


def test_an_entropy_with_floor_zero_is_its_own_logarithm():
    assert to_scale("gap", [0.5, 2.0], False, (0.0, np.inf)) == pytest.approx(np.log([0.5, 2.0]))


@pytest.mark.parametrize(("rising", "limits"), WAYS)
def test_values_at_and_beyond_the_limit_stay_finite(rising, limits):
    best = limits[1] if rising else limits[0]
    beyond = best + (0.1 if rising else -0.1)
    numbers = to_scale("gap", [best, beyond], rising, limits)
    assert numbers == pytest.approx(np.log(SMALLEST_GAP) * (-1 if rising else 1))
    assert slope("gap", [best, beyond], rising, limits) == pytest.approx(1 / SMALLEST_GAP)


def test_a_number_far_from_the_best_is_a_finite_value():
    assert np.isfinite(from_scale("gap", 1e6, False, (0.0, np.inf)))
    assert from_scale("gap", 1e6, True, (0.0, 0.7)) == pytest.approx(0.7)
