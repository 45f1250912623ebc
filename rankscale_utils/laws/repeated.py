"""A law for runs that see their data many times: repeated data count ever less (Muennighoff et al., arXiv 2305.16264).

Of D seen, U are distinct, each repeated R = D/U − 1 times. They are worth D' = U + U·R*·(1 − exp(−R/R*)) distinct ones
(eq. 5): repetitions are nearly as good as new data at first, and U·(1 + R*) is the most that they come to. A law of
size and exposure then holds with D' in place of D.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from .fitting import Fit, fit
from .law import Law
from .scales import Scale

PUBLISHED = 15.387756  # R* of language models on English web text, as arXiv 2305.16264 has it
DECAYS = (0.3, 1e4)  # lowest and highest R* that are tried: data as good as new count as the highest
TRIED = 16  # between them, before the best is refined


@dataclass(frozen=True)
class RepeatedFit:
    """A law of size and effective exposure, and its R*; `fit.data` has effective exposures as D."""

    fit: Fit
    decay: float

    def predict(self, N: ArrayLike, D: ArrayLike, unique: ArrayLike) -> NDArray:
        """Values (n,) at sizes N, exposures D and distinct data, each (n,) or one number."""
        return self.fit.predict(N, effective_exposure(D, unique, self.decay))


def effective_exposure(D: ArrayLike, unique: ArrayLike, decay: float = PUBLISHED) -> NDArray:
    """Exposure D' (n,) that D is worth when only `unique` of it is distinct; decay: R*."""
    if not decay > 0:
        raise ValueError(f"decay is {decay}; give a positive number of repetitions")
    D = np.asarray(D, float)
    distinct = np.minimum(D, np.asarray(unique, float))
    return distinct * (1 - decay * np.expm1(-(D / distinct - 1) / decay))


def fit_repeated(
    law: Law,
    table: pd.DataFrame,
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
    unique: str = "unique",
    scale: Scale = "value",
    noise: float | None = None,
) -> RepeatedFit:
    """Fit a law of size and exposure whose data are repeated, with the R* of the least sum of squared residuals.

    table: as `fit` has it, with the distinct data of each row as `unique`, in the unit of the exposure. Leave out rows
    past their run's best: no such law turns back. Raises ValueError where nothing is repeated, or `fit` would.
    """
    if not (table[exposure] > table[unique]).any():
        raise ValueError(f"no row has a larger {exposure} than {unique}, so nothing is repeated; use `fit` instead")

    def fitted(log_decay: float) -> Fit:
        worth = effective_exposure(table[exposure], table[unique], float(np.exp(log_decay)))
        return fit(law, table.assign(**{exposure: worth}), size=size, exposure=exposure, scale=scale, noise=noise)

    grid = np.linspace(*np.log(DECAYS), TRIED)
    best = int(np.argmin([fitted(log_decay).rmse for log_decay in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, TRIED - 1)]
    found = minimize_scalar(lambda log_decay: fitted(log_decay).rmse, bounds=around, method="bounded").x
    return RepeatedFit(fitted(found), float(np.exp(found)))
