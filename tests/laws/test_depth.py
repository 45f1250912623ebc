"""The law of depth finds curves that saturate, that peak, and that rise late, and where they peak on a larger rung."""

import numpy as np
import pytest

from rankscale_utils.laws import depth_law

SIZES, DEPTHS = np.array([1e6, 3e6, 9e6, 2.7e7]), np.array([1, 2, 3, 5, 10, 20, 50, 100])
LARGER = 3 * SIZES[-1]


def saturates(N):
    return (0.25 + 0.03 * np.log(N / SIZES[-1])) * (1 - DEPTHS**-0.6)


def peaks(N):
    return saturates(N) - (0.05 - 0.008 * np.log(N / SIZES[-1])) * np.log(DEPTHS)


def rises_late(N):
    """As nDCG@10 does where the first ten hold little: steeply from 10 to 20; larger models peak deeper."""
    return np.array([0, 0.01, 0.02, 0.05, 0.09, 0.21, 0.22, 0.16]) + 0.02 * np.log(N / SIZES[-1]) * np.log10(DEPTHS)


def drawn(truth, noise, draws=50):
    """Gains (draws, sizes, depths): the truth, what each size lies off it, and the draws around that."""
    exact, rng = np.array([truth(size) for size in SIZES]), np.random.default_rng(0)
    own = noise * rng.normal(size=exact.shape) * (DEPTHS > 1)
    return exact + own + noise / 10 * rng.normal(size=(draws, *exact.shape)) * (DEPTHS > 1)


@pytest.mark.parametrize(("truth", "best"), [(saturates, 100), (peaks, 10), (rises_late, 50)])
def test_gains_and_best_depth_of_a_rung_three_times_larger_are_forecast(truth, best):
    assert DEPTHS[truth(LARGER).argmax()] == best
    found = depth_law(drawn(truth, 0.0), SIZES, DEPTHS).gain(LARGER)
    assert found[0] == pytest.approx(truth(LARGER))
    assert found[0, 0] == pytest.approx(0, abs=1e-12)
    assert set(DEPTHS[found.argmax(1)]) == {best}
    noisy = depth_law(drawn(truth, 0.002), SIZES, DEPTHS).gain(LARGER)
    assert noisy.mean(0) == pytest.approx(truth(LARGER), abs=0.006)


def test_a_model_may_lie_as_far_off_as_a_regression_says():
    errors = []
    for seed in range(200):
        own = 0.01 * np.random.default_rng(seed).normal(size=(1, len(SIZES) + 1, len(DEPTHS))) * (DEPTHS > 1)
        law = depth_law(own[:, :-1], SIZES, DEPTHS)
        spread = law.errors(LARGER, 2000, np.random.default_rng(1)).std(0)
        assert spread[0] == pytest.approx(0, abs=1e-9)
        errors.append([(own[0, -1] - law.gain(LARGER)[0])[1:] ** 2, spread[1:] ** 2])
    really, told = np.mean(errors, (0, 2))
    assert told == pytest.approx(really, rel=0.15)


def test_too_few_sizes_or_depths_are_refused():
    with pytest.raises(ValueError, match="2 sizes at 7 depths beyond 1: the law of depth needs 3 of each"):
        depth_law(drawn(peaks, 0)[:, :2], SIZES[:2], DEPTHS)
    with pytest.raises(ValueError, match="4 sizes at 2 depths"):
        depth_law(drawn(peaks, 0)[:, :, :3], SIZES, DEPTHS[:3])
