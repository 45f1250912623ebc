"""Ladders whose law is known."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import AdditiveLaw, joint_law

SIZES = (4e3, 1.2e4, 3.6e4, 1.1e5)
EXPOSURES = np.geomspace(5e3, 1.6e5, 6)
TRUTH = np.array([0.45, 1.5, 0.35, 3.0, 0.3])  # asymptote, A, alpha, B, beta


@pytest.fixture
def law() -> AdditiveLaw:
    return joint_law(rising=True, limits=(0.0, 0.8))


@pytest.fixture
def ladder(law) -> Callable[..., pd.DataFrame]:
    """Simulate measurements: `seeds` runs a size, each with its own level, and checkpoints around that."""

    def simulate(seed=0, seeds=3, between=0.004, within=0.002, truth=TRUTH, law=law, sizes=SIZES):
        rng, runs = np.random.default_rng(seed), []
        for N in sizes:
            for repeat in range(seeds):
                noise = rng.normal(0, between) + rng.normal(0, within, len(EXPOSURES))
                value = law.predict(truth, N, EXPOSURES) + noise
                run = {"run": f"{N:g}-{repeat}", "rung": f"{N:g}", "params_non_embedding": N}
                runs.append(pd.DataFrame({**run, "exposure": EXPOSURES, "value": value}))
        return pd.concat(runs, ignore_index=True)

    return simulate


@pytest.fixture
def held_out() -> pd.DataFrame:
    return pd.DataFrame({"rung": ["large"], "params_non_embedding": [4.4e5], "exposure": [1.6e5]})
