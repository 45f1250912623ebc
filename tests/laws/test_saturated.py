"""A law with as many coefficients as runs passes through all of them, and must not look certain."""

import numpy as np
import pandas as pd

from rankscale_utils import laws


def test_a_law_through_every_run_has_the_widest_interval():
    N = np.array([1e3, 1e4, 1e5])
    table = pd.DataFrame({"run": list("abc"), "params_non_embedding": N, "exposure": 1e6, "value": 0.5 - N**-0.2})
    draws = laws.resample(laws.fit(laws.size_law(rising=True, limits=(0, 0.9)), table), draws=100)
    at = pd.DataFrame({"params_non_embedding": [1e6], "exposure": [1e6]})
    made = laws.forecast(draws, at)
    assert (made["lo"] == 0).all()
    assert (made["hi"] == 0.9).all()
