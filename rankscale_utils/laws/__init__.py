"""Scaling laws: fit, resample, forecast, audit, allocate. NumPy, SciPy and pandas only."""

from .allocation import Cost, equal_compute, exponents, isoflop, optimal
from .audit import backtest, coverage, score
from .fitting import Fit, fit
from .forecasting import forecast
from .forms import AdditiveLaw, data_law, joint_law, size_law
from .refitting import refit
from .resampling import Draws, resample
from .sealing import SealBroken, open_sealed, seal, seal_forecasts

__all__ = [
    "AdditiveLaw",
    "Cost",
    "Draws",
    "Fit",
    "SealBroken",
    "backtest",
    "coverage",
    "data_law",
    "equal_compute",
    "exponents",
    "fit",
    "forecast",
    "isoflop",
    "joint_law",
    "open_sealed",
    "optimal",
    "refit",
    "resample",
    "score",
    "seal",
    "seal_forecasts",
    "size_law",
]
