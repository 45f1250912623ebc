"""Scaling laws: fit, resample, forecast, audit, allocate. NumPy, SciPy and pandas only."""

from .allocation import Cost, equal_compute, exponents, isoflop, optimal
from .audit import backtest, coverage, score
from .baselines import p0_joint, p0_size, persistence
from .fitting import Fit, fit
from .forecasting import forecast
from .forms import AdditiveLaw, BrokenLaw, KaplanLaw, Law, broken_law, data_law, joint_law, kaplan_law, size_law
from .refitting import refit
from .resampling import Draws, resample
from .sealing import SealBroken, open_sealed, seal, seal_forecasts

__all__ = [
    "AdditiveLaw",
    "BrokenLaw",
    "Cost",
    "Draws",
    "Fit",
    "KaplanLaw",
    "Law",
    "SealBroken",
    "backtest",
    "broken_law",
    "coverage",
    "data_law",
    "equal_compute",
    "exponents",
    "fit",
    "forecast",
    "isoflop",
    "joint_law",
    "kaplan_law",
    "open_sealed",
    "optimal",
    "p0_joint",
    "p0_size",
    "persistence",
    "refit",
    "resample",
    "score",
    "seal",
    "seal_forecasts",
    "size_law",
]
