"""Scaling laws: fit, resample, forecast, audit, allocate. NumPy, SciPy and pandas only.

Throughout the room *values* are in the metric's own units, and *numbers*, residuals and standard deviations on a scale
(see `scales`): a fit's own, `fit.scale`, or a law's, `law.scale`, as each docstring says.
"""

from .allocation import INSIDE, WITH_OPTIMUM, Reach, exponents, least_cost, optimal, within_budget
from .averaging import Average, averages
from .baselines import p0_forecast, persistence
from .broken import BrokenLaw, broken_law
from .calibration import coverage
from .cost import Cost
from .depth import DepthLaw, depth_law
from .design import candidate_runs, plan_runs
from .equal_compute import Measured, equal_compute, isoflop, measured_at_equal_compute, parabola
from .fitting import Fit, fit
from .forecasting import KINDS, forecast, score_forecasts
from .forms import AdditiveLaw, KaplanLaw, SigmoidLaw, data_law, joint_law, kaplan_law, size_law
from .known import Belief, Known, held_elsewhere, known
from .law import Law
from .life import FORWARD, Life
from .lifetime import split_budget
from .local import Kaplan, LogPowers, Powers, Sigmoid
from .local_problem import LocalProblem, Noise
from .past import expanding, judged
from .posterior import Posterior
from .query_resampling import query_errors, query_shifts
from .refitting import refit
from .repeated import RepeatedFit, effective_exposure, fit_repeated
from .resampling import Draws, resample, spare_runs, t_quantile
from .rows import averaged, best_so_far
from .scales import SCALES, Scale
from .series import Series
from .sources import coefficients_by_source, compare_exponents, draws_by_source, worth_in_pairs
from .strange_runs import beliefs_by_others, far_runs, past_best, without_run
from .trend import CHANCE, Trend, trend

__all__ = [
    "CHANCE",
    "FORWARD",
    "INSIDE",
    "KINDS",
    "SCALES",
    "WITH_OPTIMUM",
    "AdditiveLaw",
    "Average",
    "Belief",
    "BrokenLaw",
    "Cost",
    "DepthLaw",
    "Draws",
    "Fit",
    "Kaplan",
    "KaplanLaw",
    "Known",
    "Law",
    "Life",
    "LocalProblem",
    "LogPowers",
    "Measured",
    "Noise",
    "Posterior",
    "Powers",
    "Reach",
    "RepeatedFit",
    "Scale",
    "Series",
    "Sigmoid",
    "SigmoidLaw",
    "Trend",
    "averaged",
    "averages",
    "beliefs_by_others",
    "best_so_far",
    "broken_law",
    "candidate_runs",
    "coefficients_by_source",
    "compare_exponents",
    "coverage",
    "data_law",
    "depth_law",
    "draws_by_source",
    "effective_exposure",
    "equal_compute",
    "expanding",
    "exponents",
    "far_runs",
    "fit",
    "fit_repeated",
    "forecast",
    "held_elsewhere",
    "isoflop",
    "joint_law",
    "judged",
    "kaplan_law",
    "known",
    "least_cost",
    "measured_at_equal_compute",
    "optimal",
    "p0_forecast",
    "parabola",
    "past_best",
    "persistence",
    "plan_runs",
    "query_errors",
    "query_shifts",
    "refit",
    "resample",
    "score_forecasts",
    "size_law",
    "spare_runs",
    "split_budget",
    "t_quantile",
    "trend",
    "within_budget",
    "without_run",
    "worth_in_pairs",
]
