"""How often intervals hold the truth in simulated studies."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import data_law, fit, resample
from rankscale_utils.laws.calibration import coverage

LAW = data_law(False)
AT = pd.DataFrame({"N": [1e6], "D": [64000.0]})
AXES = {"size": "N", "exposure": "D"}


def drawn(counts, seeds):
    rng = np.random.default_rng(0)
    rows = [(f"{D}-{seed}", 1e6, D, LAW.predict([2.5, 40.0, 0.5], D=D)[0] + rng.normal(0, 0.01))
            for D in counts for seed in range(seeds)]  # fmt: skip
    return resample(fit(LAW, pd.DataFrame(rows, columns=["run", "N", "D", "value"]), **AXES), draws=50)


def test_intervals_of_many_runs_hold_the_truth_about_as_often_as_they_claim():
    draws = drawn(np.geomspace(1000, 32000, 6), 3)
    found = coverage(draws, AT, simulations=200, **AXES)
    assert set(found) == {"mean_law", "new_run"}
    assert found["new_run"] == pytest.approx(0.95, abs=0.07)
    assert found["mean_law"] == pytest.approx(0.95, abs=0.12)
    narrow = coverage(draws, AT, level=0.5, simulations=200, **AXES)
    assert narrow["new_run"] == pytest.approx(0.5, abs=0.15)


def test_the_same_seed_simulates_the_same_studies():
    draws = drawn(np.geomspace(1000, 32000, 5), 1)
    first, again, other = (coverage(draws, AT, simulations=100, seed=seed, **AXES)["new_run"] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_law_through_every_run_claims_nothing():
    found = coverage(drawn([1000, 4000, 16000], 1), AT, simulations=20, **AXES)
    assert found["mean_law"] == found["new_run"] == 1
