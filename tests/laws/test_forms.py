import numpy as np
import pytest

from rankscale_utils.laws import AdditiveLaw, data_law, joint_law, size_law

COEFFICIENTS = np.array([0.4, 2.0, 0.3, 5.0, 0.5])
N, D = np.array([1e4, 1e5, 1e6]), np.array([3e4, 2e5, 1e6])


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize(("make", "used"), [(size_law, [0, 1, 2]), (data_law, [0, 3, 4]), (joint_law, [0, 1, 2, 3, 4])])
def test_jacobian_is_the_slope_of_the_prediction(make, used, rising):
    law, coefficients, step = make(rising), COEFFICIENTS[used], 1e-6
    working = law.to_working(coefficients)
    for i in range(len(working)):
        moved = np.eye(len(working))[i] * step
        ahead, behind = (law.predict(law.from_working(working + side * moved), N, D) for side in (1, -1))
        slope = law.jacobian(coefficients, N, D)[:, i]
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9)


def test_metric_rises_to_its_asymptote_and_entropy_falls_to_it():
    rising, falling = (make(COEFFICIENTS[:3]) for make in (size_law(True).predict, size_law(False).predict))
    assert rising[0] == pytest.approx(0.4 - 2.0)
    assert falling[0] == pytest.approx(0.4 + 2.0)
    np.testing.assert_allclose(joint_law(False).predict(COEFFICIENTS, N, D), 0.4 + 2 * N**-0.3 + 5 * D**-0.5)


def test_many_coefficients_are_predicted_at_once():
    law, many = joint_law(True), COEFFICIENTS * np.linspace(0.9, 1.1, 7)[:, None]
    np.testing.assert_allclose(law.predict(many, N, D), [law.predict(one, N, D) for one in many])
    assert law.jacobian(many, N, D).shape == (7, 3, 5)


def test_units_change_the_amplitudes_and_not_the_law():
    law = joint_law(True)
    in_units = law.in_units(COEFFICIENTS, [1e5, 1e4])
    np.testing.assert_allclose(law.predict(in_units, N / 1e5, D / 1e4), law.predict(COEFFICIENTS, N, D))


def test_unknown_axes_and_reversed_limits_are_refused():
    with pytest.raises(ValueError, match="axes is"):
        AdditiveLaw(("D", "N"), True, (0, 1))
    with pytest.raises(ValueError, match="limits is"):
        size_law(True, limits=(1.0, 0.0))
