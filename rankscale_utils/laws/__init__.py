"""Scaling laws: fit, resample, forecast, audit, allocate. NumPy, SciPy and pandas only."""

from .allocation import Cost, equal_compute, exponents, isoflop, optimal, parabola
from .audit import score
from .averaging import (
    Average,
    Calibration,
    Candidate,
    Series,
    averages,
    calibrated,
    candidates,
    choose,
    expanding,
    expanding_intervals,
)
from .baselines import p0_joint, p0_size, persistence
from .fitting import Fit, fit
from .forecasting import forecast
from .forms import AdditiveLaw, BrokenLaw, KaplanLaw, Law, broken_law, data_law, joint_law, kaplan_law, size_law
from .planning import candidate_runs, next_runs, plan
from .pooling import Prior, pool
from .queries import query_errors, query_shifts
from .refitting import refit
from .resampling import Draws, resample, spare_runs
from .sealing import SealBroken, open_sealed, seal, seal_forecasts
from .serving import FORWARD, Service, best_sizes, least_cost, search_window, within_budget
from .windows import averaged, unevenness

__all__ = [
    "FORWARD",
    "AdditiveLaw",
    "Average",
    "BrokenLaw",
    "Calibration",
    "Candidate",
    "Cost",
    "Draws",
    "Fit",
    "KaplanLaw",
    "Law",
    "Prior",
    "SealBroken",
    "Series",
    "Service",
    "averaged",
    "averages",
    "best_sizes",
    "broken_law",
    "calibrated",
    "candidate_runs",
    "candidates",
    "choose",
    "data_law",
    "equal_compute",
    "expanding",
    "expanding_intervals",
    "exponents",
    "fit",
    "forecast",
    "isoflop",
    "joint_law",
    "kaplan_law",
    "least_cost",
    "next_runs",
    "open_sealed",
    "optimal",
    "p0_joint",
    "p0_size",
    "parabola",
    "persistence",
    "plan",
    "pool",
    "query_errors",
    "query_shifts",
    "refit",
    "resample",
    "score",
    "seal",
    "seal_forecasts",
    "search_window",
    "size_law",
    "spare_runs",
    "unevenness",
    "within_budget",
]
