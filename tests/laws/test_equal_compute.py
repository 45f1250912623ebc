import numpy as np
import pytest

from rankscale_utils.laws import Cost, equal_compute, isoflop, measured_at_equal_compute, optimal, parabola
from rankscale_utils.laws.equal_compute import _vertex

from .conftest import EXPOSURES, TRUTH
from .test_allocation import LAWS, average_of, reach_of, table_of

AXES = {"size": "N", "exposure": "D"}
EXACT = table_of(*LAWS["additive"], between=0.0, seeds=1)


def test_equal_compute_shows_the_regret_of_a_wrong_law():
    measured = measured_at_equal_compute(EXACT, Cost.six_n(), **AXES)
    compared = equal_compute(measured, average_of("additive"), Cost.six_n())
    assert (compared["rungs"] >= 2).all()
    assert compared["regret"].max() < 5e-3  # only interpolation between checkpoints is left
    LAWS["data hardly counts"] = (LAWS["additive"][0], TRUTH * [1, 1, 1, 1 / 60, 1])
    assert equal_compute(measured, average_of("data hardly counts"), Cost.six_n())["regret"].max() > 1e-2


def test_equal_compute_never_reads_beyond_a_rungs_checkpoints():
    measured = measured_at_equal_compute(EXACT, Cost.six_n(), **AXES)
    for row in equal_compute(measured, average_of("additive"), Cost.six_n()).itertuples():
        for size in (row.picked, row.best):
            assert 6 * size * EXPOSURES[0] <= row.flops <= 6 * size * EXPOSURES[-1]


def test_isoflop_curves_are_forecasts():
    average = average_of("falling")
    curve = isoflop(average, Cost.six_n(), [1e10, 1e11], [1e4, 3e4])
    assert curve["flops"].tolist() == [1e10, 1e10, 1e11, 1e11]
    said = average.forecast(curve[["size", "exposure"]].set_axis(["N", "D"], axis=1))["forecast"][:4]
    np.testing.assert_allclose(curve["value"], said)
    np.testing.assert_allclose(6 * curve["size"] * curve["exposure"], curve["flops"])


def test_the_parabola_agrees_with_laws_that_it_can_see():
    sizes = tuple(np.geomspace(2e3, 2e6, 12))
    average = average_of("additive", sizes=sizes)
    table = table_of(*LAWS["additive"], between=0.0, seeds=1, sizes=sizes)
    measured = measured_at_equal_compute(table, Cost.six_n(), levels=20, **AXES)
    checked = parabola(measured, average, Cost.six_n(), reach_of(average))
    inside = checked[checked["status"] == "inside"]
    assert len(inside) >= 4
    assert (checked["rungs"] >= 3).all()
    assert inside["ratio"].between(0.3, 3).all()
    assert checked.loc[checked["status"] != "inside", "vertex"].isna().all()
    best = optimal(average, Cost.six_n(), inside["flops"], reach_of(average))
    np.testing.assert_allclose(inside["law_size"], best["size"])


@pytest.mark.parametrize(
    ("falling", "status"),
    [((2, 1, 2.1), "inside"), ((1, 2, 1), "bends the wrong way"), ((1, 2, 4), "smallest"), ((4, 2, 1), "largest")],
)
def test_a_parabola_without_a_vertex_inside_says_so(falling, status):
    vertex, said = _vertex(np.log([1e3, 1e4, 1e5]), np.array(falling, float))
    assert status in said
    assert np.isfinite(vertex) == (status == "inside")
