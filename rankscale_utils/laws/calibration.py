"""How often intervals of a resampled law hold the truth: simulated studies of the same design."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .forecasting import KINDS, interval, standard_errors
from .refitting import DRAWN, refit
from .resampling import Draws, noise_sds, wild_targets

RESAMPLES = 60  # of a simulated study


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
    N, D = at[size].to_numpy(float), at[exposure].to_numpy(float)
    sd = np.hypot(draws.between_sd, draws.within_sd)

    def noisy(values: NDArray) -> NDArray:
        numbers = fit.law.to_scale(values, fit.scale)
        return fit.law.from_scale(numbers + rng.normal(scale=sd, size=(simulations, len(values))), fit.scale)

    measured = noisy(fit.predict(fit.data["N"], fit.data["D"]))
    centres = refit(fit, measured, patience=DRAWN)
    fitted = fit.law.predict(centres, fit.data["N"], fit.data["D"])
    residuals = fit.law.to_scale(measured, fit.scale) - fit.law.to_scale(fitted, fit.scale)
    wild = wild_targets(fit, residuals, fitted, RESAMPLES, rng).reshape(-1, fit.rows)
    drawn = refit(fit, wild, start=np.repeat(centres, RESAMPLES, axis=0), patience=DRAWN)
    predictions = fit.law.predict(drawn, N, D).reshape(simulations, RESAMPLES, len(N))
    noise = (part[:, None] for part in noise_sds(fit, residuals))
    errors = standard_errors(fit, predictions, *noise)
    forecasts, truth, held = fit.law.predict(centres, N, D), fit.predict(N, D), {}
    for kind, error, true in zip(KINDS, errors, (truth, noisy(truth)), strict=True):
        lo, hi = interval(fit, forecasts, error, level, draws.degrees)
        held[kind] = ((lo <= true) & (true <= hi)).mean(axis=0)
    return held
