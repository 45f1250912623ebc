"""What is known before: a few numbers, for what N counts, and as wide as one wants."""

import math

import pytest

from rankscale_utils.laws import Belief, held_elsewhere, known


def test_what_is_known_is_read_and_makes_sense():
    found = known()
    assert 0.1 < found.size_exponent.median < 1
    assert 0.001 < found.run_noise.median < 0.1
    assert 0 < found.discrepancy < 1


def test_sizes_that_grow_faster_have_smaller_exponents():
    halved = known().on_another_size(0.5)
    assert halved.size_exponent.median == pytest.approx(known().size_exponent.median / 2)
    assert halved.size_slope.median == pytest.approx(known().size_slope.median / 2)
    assert halved.run_noise == known().run_noise


def test_wide_beliefs_keep_their_medians():
    wide = known().wide()
    assert wide.run_noise.median == known().run_noise.median
    assert wide.run_noise.spread == pytest.approx(3 * known().run_noise.spread)


def test_what_held_elsewhere_is_told_for_levels_that_were_tried():
    assert 0.85 < held_elsewhere(0.95) <= 1
    assert math.isnan(held_elsewhere(0.5123))


@pytest.mark.parametrize(
    ("numbers", "message"), [((0, 1, 1), "median is 0"), ((1, -1, 1), "spread is -1"), ((1, 1, 2), "within is 2")]
)
def test_impossible_beliefs_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        Belief(*numbers)
