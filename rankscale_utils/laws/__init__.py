"""Scaling laws: fit, resample, forecast, audit, allocate. NumPy, SciPy and pandas only.

Throughout the room *values* are in the metric's own units, and *numbers*, residuals and standard deviations on a scale
(see `scales`): a fit's own, `fit.scale`, or a law's, `law.scale`, as each docstring says.
"""

from .allocation import Measured, equal_compute, exponents, isoflop, measured_at_equal_compute, optimal, parabola
from .averaging import Average, kept_averages
from .baselines import p0_forecast, persistence
from .broken import BrokenLaw, broken_law
from .calibration import Calibration, calibrated, coverage, expanding_intervals
from .candidates import Candidate, candidates, choose, expanding, kept_of
from .cost import Cost
from .design import candidate_runs, plan_runs
from .fitting import Fit, fit
from .forecasting import KINDS, forecast, score_forecasts
from .forms import AdditiveLaw, KaplanLaw, data_law, joint_law, kaplan_law, size_law
from .law import Law
from .lifetime import FORWARD, Life, best_sizes, least_cost, search_window, within_budget
from .pooling import Prior, pool
from .query_resampling import query_errors, query_shifts
from .refitting import refit
from .resampling import Draws, resample, spare_runs, t_quantile
from .rows import averaged, unevenness
from .series import Series
from .sources import coefficients_by_source, compare_exponents, draws_by_source, worth_in_pairs
from .two_step import TwoStepLaw

__all__ = [
    "FORWARD",
    "KINDS",
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
    "Life",
    "Measured",
    "Prior",
    "Series",
    "TwoStepLaw",
    "averaged",
    "best_sizes",
    "broken_law",
    "calibrated",
    "candidate_runs",
    "candidates",
    "choose",
    "coefficients_by_source",
    "compare_exponents",
    "coverage",
    "data_law",
    "draws_by_source",
    "equal_compute",
    "expanding",
    "expanding_intervals",
    "exponents",
    "fit",
    "forecast",
    "isoflop",
    "joint_law",
    "kaplan_law",
    "kept_averages",
    "kept_of",
    "least_cost",
    "measured_at_equal_compute",
    "optimal",
    "p0_forecast",
    "parabola",
    "persistence",
    "plan_runs",
    "pool",
    "query_errors",
    "query_shifts",
    "refit",
    "resample",
    "score_forecasts",
    "search_window",
    "size_law",
    "spare_runs",
    "t_quantile",
    "unevenness",
    "within_budget",
    "worth_in_pairs",
]
