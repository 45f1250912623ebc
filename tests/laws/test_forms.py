import numpy as np
import pytest

from rankscale_utils.laws import AdditiveLaw, BrokenLaw, KaplanLaw, Law, broken_law, data_law, joint_law, size_law
from rankscale_utils.laws.scales import SCALES

COEFFICIENTS = np.array([0.4, 2.0, 0.3, 5.0, 0.5])
N, D = np.array([1e4, 1e5, 1e6]), np.array([3e4, 2e5, 1e6])
UNITS = {"N": 1e5, "D": 2e5}
LIMITS = (0.0, 3.0)
FORMS = {  # coefficients whose predictions stay within the limits, whether the metric rises or falls
    "size": (AdditiveLaw, ("N",), [1.4, 2.0, 0.3]),
    "data": (AdditiveLaw, ("D",), [1.4, 5.0, 0.5]),
    "joint": (AdditiveLaw, ("N", "D"), [1.4, 2.0, 0.3, 5.0, 0.5]),
    "Kaplan": (KaplanLaw, ("N", "D"), [1.4, 2e3, 0.3, 4e2, 0.5]),
    "broken in size": (BrokenLaw, ("N",), [1.4, 2.0, 0.2, 0.4, 2e5, 0.3]),
    "broken in data": (BrokenLaw, ("D",), [1.4, 2.0, 0.3, -0.2, 1e5, 1.5]),
}


@pytest.fixture(params=FORMS)
def form(request) -> tuple[type[Law], tuple[str, ...], np.ndarray]:
    """Return a form, its axes and its coefficients."""
    made, axes, coefficients = FORMS[request.param]
    return made, axes, np.array(coefficients)


@pytest.fixture(params=[(rising, scale) for rising in (True, False) for scale in SCALES[:2]],
                ids=lambda p: f"{'rising' if p[0] else 'falling'} {p[1]}")  # fmt: skip
def law(request, form) -> Law:
    """Return the form as a law of a rising or a falling metric, its terms added on either scale."""
    rising, scale = request.param
    return form[0](form[1], rising, LIMITS, scale)


@pytest.fixture
def coefficients(form) -> np.ndarray:
    """Return the form's coefficients."""
    return form[2]


@pytest.mark.parametrize("scale", SCALES[:2])
def test_jacobian_is_the_slope_of_the_prediction(law, coefficients, scale):
    working, step = law.to_working(coefficients), 1e-6
    for i in range(len(working)):
        moved = np.eye(len(working))[i] * step
        ahead, behind = (law.predict(law.from_working(working + side * moved), N, D, scale) for side in (1, -1))
        slope = law.jacobian(coefficients, N, D, scale)[:, i]
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", SCALES[:2])
def test_units_change_the_coefficients_and_not_the_law(law, coefficients, scale):
    units = [UNITS[axis] for axis in law.axes]
    in_units = law.in_units(coefficients, units)
    predicted = law.predict(in_units, N / UNITS["N"], D / UNITS["D"], scale)
    np.testing.assert_allclose(predicted, law.predict(coefficients, N, D, scale))
    np.testing.assert_allclose(law.in_units(in_units, 1 / np.array(units)), coefficients)


def test_working_coefficients_can_be_undone(law, coefficients):
    many = coefficients * np.linspace(0.9, 1.1, 7)[:, None]
    working = law.to_working(many)
    np.testing.assert_allclose(law.from_working(working), many)
    moved = [i for i, name in enumerate(law.coefficient_names) if name in ("A", "B", "breakpoint", "smoothness")]
    assert list(law.logarithmic) == moved
    np.testing.assert_allclose(working[:, moved], np.log(many[:, moved]))


def test_prediction_is_linear_in_what_the_shapes_leave(law):
    """What the variable projection builds on."""
    sizes, exposures = N / UNITS["N"], D / UNITS["D"]
    shapes = law.shapes()[:: max(1, len(law.shapes()) // 50)]
    terms = law.terms(shapes, sizes, exposures)
    linear = np.random.default_rng(0).uniform(0.1, 2, size=(len(shapes), 1 + terms.shape[1]))
    expected = linear[:, :1] + law.sign * np.einsum("ct,ctn->cn", linear[:, 1:], terms)
    predicted = law.predict(law.assemble(shapes, linear), sizes, exposures, law.scale)
    np.testing.assert_allclose(predicted, expected, rtol=1e-9)


def test_many_coefficients_are_predicted_at_once(law, coefficients):
    many = coefficients * np.linspace(0.9, 1.1, 7)[:, None]
    np.testing.assert_allclose(law.predict(many, N, D), [law.predict(one, N, D) for one in many])
    np.testing.assert_allclose(law.jacobian(many, N, D), [law.jacobian(one, N, D) for one in many])


def test_a_law_on_the_gap_never_passes_the_limit(form):
    made, axes, coefficients = form
    rng, far = np.random.default_rng(0), np.geomspace(1, 1e30, 31)
    working = made(axes, True, LIMITS, "gap").to_working(coefficients)
    many = working + rng.normal(scale=3, size=(500, len(working)))
    for rising in (True, False):
        law = made(axes, rising, LIMITS, "gap")
        with np.errstate(over="ignore"):
            predicted = law.predict(law.from_working(many), far, far)
        assert (predicted <= LIMITS[1] if rising else predicted >= LIMITS[0]).all()


def test_metric_rises_to_its_asymptote_and_entropy_falls_to_it():
    rising, falling = (make(COEFFICIENTS[:3]) for make in (size_law(True).predict, size_law(False).predict))
    assert rising[0] == pytest.approx(0.4 - 2.0)
    assert falling[0] == pytest.approx(0.4 + 2.0)
    np.testing.assert_allclose(joint_law(False).predict(COEFFICIENTS, N, D), 0.4 + 2 * N**-0.3 + 5 * D**-0.5)


def test_kaplan_law_is_bounded_by_the_scarcer_axis():
    law, coefficients = KaplanLaw(("N", "D"), False, LIMITS), np.array(FORMS["Kaplan"][2])
    np.testing.assert_allclose(law.predict(coefficients, N, 1e30), 1.4 + (2e3 / N) ** 0.3, rtol=1e-6)
    np.testing.assert_allclose(law.predict(coefficients, 1e30, D), 1.4 + (4e2 / D) ** 0.5, rtol=1e-6)


def test_broken_law_changes_its_exponent_at_the_breakpoint():
    law, x = broken_law("D", rising=False), np.array([1e2, 1e3, 1e7, 1e8])
    term = law.predict(np.array([0.0, 2.0, 0.2, 0.4, 1e5, 0.1]), 1.0, x)
    exponents = -np.diff(np.log(term)) / np.diff(np.log(x))
    np.testing.assert_allclose(exponents[[0, 2]], [0.2, 0.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdditiveLaw(("D", "N"), True, (0, 1)), "axes is"),
        (lambda: KaplanLaw(("N",), True, (0, 1)), "axes is"),
        (lambda: BrokenLaw(("N", "D"), True, (0, 1)), "axes is"),
        (lambda: size_law(True, limits=(1.0, 0.0)), "limits is"),
        (lambda: data_law(False, limits=(0.0, np.nan)), "limits is"),
        (lambda: joint_law(True, scale="raw"), "scale is 'raw'"),
        (lambda: broken_law("tokens", True), "axes is"),
        (lambda: size_law(True, limits=(0.0, np.inf), scale="gap"), "finite limit on the better side"),
        (lambda: size_law(False, limits=(-np.inf, 1.0), scale="gap"), "finite limit on the better side"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
