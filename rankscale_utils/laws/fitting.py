"""Fit a law to measurements: robust least squares, from where variable projection starts it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, least_squares

from .law import Curve, Law
from .problem import Problem
from .rows import hash_of_data, measurements
from .scales import SCALES, Scale, gap

LARGEST_CONDITION = 1e6  # of the Jacobian with columns of length one; beyond it coefficients trade off freely
DISTINCT_NEEDED = 3  # sizes, and exposures: fewer cannot show how a curve bends


@dataclass(frozen=True)
class Fit:
    """A fitted law and what it was fitted to.

    coefficients: by natural name, N and D in the table's own units. status: "converged", "at a bound: <coefficients>",
    "unidentified: <why>" or, where pooled, "led by the prior". objective: half the sum of Huber's loss. residuals:
    (rows,) measured − fitted, on `scale`, in the order of `data`; r2 and rmse are on that scale too. noise: where
    Huber's loss turns from squared to absolute. data: the columns run, N, D, value that were used; data_sha256 is their
    hash. pooled: whether the size exponent was pooled over series (see `pooling`).
    """

    law: Curve
    coefficients: dict[str, float]
    status: str
    scale: Scale
    noise: float
    objective: float
    r2: float
    rmse: float
    residuals: NDArray
    data: pd.DataFrame
    data_sha256: str
    pooled: bool = False

    @classmethod
    def of(
        cls,
        law: Curve,
        data: pd.DataFrame,
        coefficients: NDArray,
        status: str,
        *,
        residuals: NDArray,
        scale: Scale,
        noise: float,
        objective: float | None = None,
        pooled: bool = False,
        data_sha256: str | None = None,
    ) -> "Fit":
        """The fit of natural coefficients (k,) to the columns run, N, D and value of `data`.

        residuals: (rows,) on `scale`, as the fit saw them. objective: None for half the sum of their squares.
        data_sha256: None where it is not known yet.
        """
        numbers, squares = law.to_scale(data["value"].to_numpy(float), scale), (residuals**2).sum()
        return cls(
            law=law,
            coefficients=dict(zip(law.coefficient_names, coefficients.tolist(), strict=True)),
            status=status,
            scale=scale,
            noise=float(noise),
            objective=float(0.5 * squares if objective is None else objective),
            r2=_share_explained(squares, numbers),
            rmse=float(np.sqrt((residuals**2).mean())),
            residuals=residuals,
            data=data,
            data_sha256=data_sha256 or hash_of_data(data),
            pooled=pooled,
        )

    @property
    def vector(self) -> NDArray:
        """Coefficients (k,) in the law's order."""
        return np.array([self.coefficients[name] for name in self.law.coefficient_names])

    @property
    def rows(self) -> int:
        """Number of measurements."""
        return len(self.data)

    @property
    def runs(self) -> int:
        """Number of independent runs."""
        return self.data["run"].nunique()

    def predict(self, N: ArrayLike = 1.0, D: ArrayLike = 1.0) -> NDArray:
        """Fitted values at sizes N and exposures D, each (n,) or one number; returns (n,)."""
        return self.law.predict(self.vector, N, D)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, at full precision, ready for JSON (an infinite limit becomes null)."""
        return {
            "law": self.law.name,
            "law_scale": self.law.scale,
            "rising": self.law.rising,
            "limits": [limit if np.isfinite(limit) else None for limit in self.law.limits],
            "coefficients": self.coefficients,
            "status": self.status,
            "scale": self.scale,
            "pooled": self.pooled,
            "noise": self.noise if np.isfinite(self.noise) else None,
            "objective": self.objective,
            "r2": self.r2,
            "rmse": self.rmse,
            "runs": self.runs,
            "rows": self.rows,
            "data_sha256": self.data_sha256,
        }


def _share_explained(squares: float, numbers: NDArray) -> float:
    """Return R² from the residuals' sum of squares; no number where a curve is constant but for rounding."""
    spread = float(((numbers - numbers.mean()) ** 2).sum())
    constant = np.ptp(numbers) <= 1e-12 * max(1.0, np.abs(numbers).max())
    return float("nan") if constant else float(1 - squares / spread)


def fit(
    law: Law,
    table: pd.DataFrame,
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
    scale: Scale = "value",
    noise: float | None = None,
) -> Fit:
    """Fit a law to one objective's, metric's and collection's measurements.

    table: columns run (id of an independent run), `size`, `exposure` and value. scale: of the residuals (see `scales`).
    noise: where Huber's loss turns from squared to absolute, on that scale (None: 1.345 robust standard
    deviations of the start's residuals; 1e-3 on logarithms is the objective of arXiv 2203.15556 eq. 3).
    Raises ValueError where the table cannot be fitted at all; a law that the table cannot identify is a status.
    """
    if noise is not None and not noise > 0:
        raise ValueError(f"noise is {noise}; give a positive number on the residuals' scale, or None to estimate it")
    data = measurements(table, size, exposure)
    check_limits(law, data, scale)
    problem = Problem.of(law, data, scale)
    y, starts = problem.on_scale(problem.value), problem.starts()
    if noise is None:
        noise = _noise(y - problem.predict(starts[0]), y, starts.shape[1])
    best = min((_descend(problem, y, start, noise) for start in starts), key=lambda descent: descent.cost)
    return Fit.of(
        law,
        data,
        problem.from_working(best.x),
        _status(problem, best.x, best.success),
        residuals=-best.fun,
        scale=scale,
        noise=noise,
        objective=best.cost,
    )


def _descend(problem: Problem, y: NDArray, start: NDArray, noise: float) -> OptimizeResult:
    """Minimise Huber's loss from a start (k,)."""
    return least_squares(
        lambda working: problem.predict(working) - y,
        start,
        problem.jacobian,
        bounds=problem.bounds,
        loss="huber",
        f_scale=noise,
        x_scale="jac",
        xtol=1e-12,
        ftol=1e-14,
        gtol=1e-14,
        max_nfev=500,
    )


def check_limits(law: Law, data: pd.DataFrame, scale: Scale) -> None:
    """On the scale of the gap a value at the limit or beyond has no logarithm."""
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; use one of {', '.join(SCALES)}")
    beyond = gap(data["value"], law.rising, law.limits) <= 0
    if "gap" in (scale, law.scale) and beyond.any():
        value, run = data.loc[beyond, ["value", "run"]].iloc[0]
        limit = law.limits[1] if law.rising else law.limits[0]
        raise ValueError(f"value is {value} in run {run!r}, not short of the limit {limit}; correct one of them")


def _noise(residuals: NDArray, y: NDArray, coefficients: int) -> float:
    """1.345 robust standard deviations (95% efficient where noise is Gaussian), and not below a trace of the spread."""
    freedom = len(y) / max(len(y) - coefficients, 1)
    return 1.345 * max(1.4826 * np.median(np.abs(residuals)) * np.sqrt(freedom), 1e-4 * y.std(), 1e-12)


def _status(problem: Problem, working: NDArray, settled: bool) -> str:
    """Say whether the coefficients can be believed."""
    for axis, word in (("N", "sizes"), ("D", "exposures")):
        distinct = len(np.unique(getattr(problem, axis)))
        if axis in problem.law.axes and distinct < DISTINCT_NEEDED:
            return f"unidentified: {distinct} distinct {word}, {DISTINCT_NEEDED} needed"
    if not settled:
        return "unidentified: the optimiser did not settle"
    low, high = problem.bounds
    near = 1e-3 * np.r_[problem.spread, np.ones(len(low) - 1)]
    bound = (working - low < near) | (high - working < near)
    if bound.any():
        return "at a bound: " + ", ".join(np.array(problem.law.coefficient_names)[bound])
    jacobian = problem.jacobian(working)
    if np.linalg.cond(jacobian / np.linalg.norm(jacobian, axis=0)) > LARGEST_CONDITION:
        return "unidentified: the coefficients cannot be told apart"
    return "converged"
