"""How often a forecast's intervals hold the truth in simulated studies of the very design that it was made from."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .forecasting import KINDS, interval, standard_errors
from .refitting import DRAWN, refit
from .resampling import Draws, noise_sds, wild_targets

DRAWS_EACH = 60  # resamples of a simulated study


def coverage(
    draws: Draws,
    at: pd.DataFrame,
    *,
    level: float = 0.95,
    simulations: int = 200,
    seed: int = 0,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> dict[str, NDArray]:
    """Share of simulated studies whose intervals hold the truth, (n,) for each kind of `forecast`.

    A simulated study has the law that was fitted, its design, and noise as large as was found in every run; it is
    fitted, resampled and forecast as the study was. Every run has one row. at: columns `size` and `exposure`, as in
    `forecast`. The law's form is taken as known, so real intervals hold the truth at most as often.
    """
    fit, rng = draws.fit, np.random.default_rng(seed)
    rows, there = (fit.data["N"], fit.data["D"]), (at[size].to_numpy(float), at[exposure].to_numpy(float))
    sd = np.hypot(draws.between_sd, draws.within_sd)

    def noisy(values: NDArray) -> NDArray:
        numbers = fit.law.to_scale(values, fit.scale)
        return fit.law.from_scale(numbers + rng.normal(scale=sd, size=(simulations, len(values))), fit.scale)

    values = noisy(fit.predict(*rows))
    centres = refit(fit, values, patience=DRAWN)
    fitted = fit.law.predict(centres, *rows)
    residuals = fit.law.to_scale(values, fit.scale) - fit.law.to_scale(fitted, fit.scale)
    targets = wild_targets(fit, residuals, fitted, DRAWS_EACH, rng).reshape(-1, fit.rows)
    drawn = refit(fit, targets, start=np.repeat(centres, DRAWS_EACH, axis=0), patience=DRAWN)
    predictions = fit.law.predict(drawn, *there).reshape(simulations, DRAWS_EACH, -1)
    errors = standard_errors(fit, predictions, *(found[:, None] for found in noise_sds(fit, residuals)))
    forecast, truth, found = fit.law.predict(centres, *there), fit.predict(*there), {}
    for kind, error, true in zip(KINDS, errors, (truth, noisy(truth)), strict=True):
        lo, hi = interval(fit, forecast, error, level, draws.degrees)
        found[kind] = ((lo <= true) & (true <= hi)).mean(axis=0)
    return found
