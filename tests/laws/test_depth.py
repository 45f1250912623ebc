"""The law of depth finds curves that saturate and curves that peak, and where they peak on a larger rung."""

import numpy as np
import pytest

from rankscale_utils.laws import DepthLaw, depth_law

SIZES, DEPTHS = np.array([1e6, 3e6, 9e6, 2.7e7]), np.array([1, 2, 3, 5, 10, 20, 50, 100])


def truth(grows, falls, power=0.6):
    """A law whose G and B are these at the last size, and their growth with log N."""
    return DepthLaw(np.array([[*grows, *falls]]), np.array([power]), SIZES[-1], np.zeros(1))


SATURATES, PEAKS = truth((0.25, 0.03), (0.0, 0.0)), truth((0.25, 0.03), (0.05, -0.008))


def drawn(law, noise, draws=50):
    exact = np.array([law.gain(size, DEPTHS)[0] for size in SIZES])
    return exact + noise * np.random.default_rng(0).normal(size=(draws, *exact.shape)) * (DEPTHS > 1)


def test_nothing_is_gained_at_depth_one_and_a_peak_is_where_the_formula_has_it():
    assert PEAKS.gain(1e7, [1])[0, 0] == 0
    deep = np.arange(1, 1001)
    peak = (0.6 * 0.25 / 0.05) ** (1 / 0.6)
    assert PEAKS.best_depth(SIZES[-1], deep)[0] == pytest.approx(peak, abs=1)
    assert SATURATES.best_depth(SIZES[-1], deep)[0] == 1000


@pytest.mark.parametrize(("law", "best"), [(SATURATES, 100), (PEAKS, 10)])
def test_gains_and_best_depth_of_a_rung_three_times_larger_are_forecast(law, best):
    larger = 3 * SIZES[-1]
    assert law.best_depth(larger, DEPTHS)[0] == best
    exact = depth_law(drawn(law, 0.0), SIZES, DEPTHS)
    assert exact.gain(larger, DEPTHS)[0] == pytest.approx(law.gain(larger, DEPTHS)[0], abs=0.004)  # γ is on a grid
    assert set(exact.best_depth(larger, DEPTHS)) == {best}
    noisy = depth_law(drawn(law, 0.002), SIZES, DEPTHS)
    assert noisy.misfit.mean() == pytest.approx(0.002, rel=0.3)
    lo, hi = np.quantile(noisy.gain(larger, DEPTHS), [0.025, 0.975], axis=0)
    found = noisy.gain(larger, DEPTHS).mean(0)
    assert found == pytest.approx(law.gain(larger, DEPTHS)[0], abs=0.004)
    assert (hi - lo)[-1] < 0.03


def test_too_few_sizes_or_depths_are_refused():
    with pytest.raises(ValueError, match="2 sizes at 7 depths beyond 1: the law of depth needs 3 of each"):
        depth_law(drawn(PEAKS, 0)[:, :2], SIZES[:2], DEPTHS)
    with pytest.raises(ValueError, match="4 sizes at 2 depths"):
        depth_law(drawn(PEAKS, 0)[:, :, :3], SIZES, DEPTHS[:3])
